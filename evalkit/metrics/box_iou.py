"""Box IoU: how well the first box overlaps the target's, averaged over samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.geometry import boxes, oddities
from evalkit.types import Box, Mask, Metric, Rows


@dataclass(frozen=True)
class BoxIou(Metric):
    """Mean intersection over union of the answer's first box and the target's box.

    Targets are `{"size": (h, w), "box": (y0, x0, y1, x1) in pixels}`; an answer is a tuple of boxes
    (fractions of the image) or of masks, whose boxes are used. Both are compared as fractions, as in
    google-research/big_vision transfers/segmentation.py @ 0127fb6b. Two boxes without area, 0/0
    there, give 0.
    """

    wants = ("boxes", "masks")
    takes = ("box",)
    columns = ("iou", "n", "down", "right", "found")

    def rows(self, answers: Sequence[Sequence[Box | Mask] | None], targets: Sequence[dict[str, Any]]) -> Rows:
        """One (iou, 1, down, right, found) per sample; the last three as in `boxes.first_boxes`."""
        return boxes.first_boxes(answers, targets)

    def remarks(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Mapping[str, int]:
        return oddities.of_first(answers, targets)

    def offsets(self, rows: Rows) -> boxes.Floats | None:
        return boxes.offsets(rows)
