"""Cumulative IoU: the sum of intersections over the sum of unions (cIoU, also called overall IoU)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalkit.geometry import oddities, rle
from evalkit.provenance import version
from evalkit.types import Mask, Metric, Rows


@dataclass(frozen=True)
class CumulativeIou(Metric):
    """Sum of intersections over sum of unions, in pixels; large objects weigh more than in mask_iou.

    Answers and targets as in `mask_iou`; yz93/LAVT-RIS test.py @ 1da0af9f ("overall IoU"). An unreadable
    answer adds the target's area to the unions.
    """

    wants = ("masks",)
    takes = ("mask",)
    columns = ("intersection", "union")

    def rows(self, answers: Sequence[Sequence[Mask] | None], targets: Sequence[dict[str, Any]]) -> Rows:
        """One (intersection, union) per sample. Raises DataError for an unreadable segmentation."""
        result = np.zeros((len(targets), 2))
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            size = target["size"]
            got = rle.mask_rle(answer[0]) if answer else rle.empty(size)
            result[i] = rle.overlap(got, rle.rle(target["segmentation"], size))
        return result

    def remarks(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Mapping[str, int]:
        return oddities.of_first(answers, targets)

    def tools(self) -> str:
        return version("pycocotools")
