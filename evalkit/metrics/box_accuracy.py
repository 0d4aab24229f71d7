"""Box accuracy: the share of samples whose first box overlaps the target's enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.geometry import boxes, oddities
from evalkit.types import Box, Mask, Metric, Rows


@dataclass(frozen=True)
class BoxAccuracy(Metric):
    """Share of first boxes with IoU >= `iou`: Acc@0.5 of referring expressions, big_vision's boxacc.

    Answers and targets as in `box_iou`; google-research/big_vision transfers/segmentation.py @ 0127fb6b.
    """

    iou: float = 0.5

    wants = ("boxes", "masks")
    takes = ("box",)
    columns = ("correct", "n", "down", "right", "found")

    def rows(self, answers: Sequence[Sequence[Box | Mask] | None], targets: Sequence[dict[str, Any]]) -> Rows:
        """One (correct, 1, down, right, found) per sample; the last three as in `boxes.first_boxes`."""
        rows = boxes.first_boxes(answers, targets)
        rows[:, 0] = (rows[:, 0] >= self.iou) & (rows[:, 0] > 0)
        return rows

    def remarks(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Mapping[str, int]:
        return oddities.of_first(answers, targets)

    def offsets(self, rows: Rows) -> boxes.Floats | None:
        return boxes.offsets(rows)
