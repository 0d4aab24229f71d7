"""Box accuracy: the share of samples whose first box overlaps the target's far enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalkit import geometry
from evalkit.types import Box, Mask, Metric, Rows


@dataclass(frozen=True)
class BoxAccuracy(Metric):
    """Share of first boxes with IoU >= `iou`: Acc@0.5 of referring expressions, big_vision's boxacc.

    Answers and targets as in `box_iou`; google-research/big_vision transfers/segmentation.py @ 0127fb6b.
    """

    iou: float = 0.5

    wants = ("boxes", "masks")

    def rows(self, answers: Sequence[Sequence[Box | Mask] | None], targets: Sequence[dict[str, Any]]) -> Rows:
        """One (correct, 1) a sample."""
        result = np.zeros((len(targets), 2))
        result[:, 1] = 1.0
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            found = geometry.first_iou(answer, target)
            result[i, 0] = found is not None and found >= self.iou
        return result
