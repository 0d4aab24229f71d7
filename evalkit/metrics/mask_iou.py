"""Mask IoU: overlap of the first mask with the target's region, averaged over samples (mIoU)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalkit.geometry import oddities, rle
from evalkit.provenance import version
from evalkit.types import Mask, Metric, Rows


@dataclass(frozen=True)
class MaskIou(Metric):
    """Mean over samples of intersection over union in pixels of the original image.

    Targets are `{"size": (h, w), "segmentation": polygons or run lengths}`; an answer is a tuple of
    masks at that size, of which the first counts. google-research/big_vision transfers/segmentation.py
    @ 0127fb6b; its 0/0 (two masks without a pixel) is 0 here, as in yz93/LAVT-RIS test.py.
    """

    wants = ("masks",)
    takes = ("mask",)
    columns = ("iou", "n")

    def rows(self, answers: Sequence[Sequence[Mask] | None], targets: Sequence[dict[str, Any]]) -> Rows:
        """One (iou, 1) per sample. Raises DataError for a segmentation that cannot be read."""
        result = np.zeros((len(targets), 2))
        result[:, 1] = 1.0
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            if answer:
                wanted = rle.rle(target["segmentation"], target["size"])
                shared, union = rle.overlap(rle.mask_rle(answer[0]), wanted)
                result[i, 0] = shared / union if union else 0.0
        return result

    def remarks(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Mapping[str, int]:
        return oddities.of_first(answers, targets)

    def tools(self) -> str:
        return version("pycocotools")
