"""Precision and recall of detections that have scores, all classes together, at an IoU of .5."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

POINTS = 100
FEWEST = 3  # different scores: the order of equal ones would be a curve of nothing


@dataclass
class Ranked:
    """The detections of a run, as the rows of coco_ap have them."""

    scores: array[float] = field(default_factory=lambda: array("d"))
    right: array[int] = field(default_factory=lambda: array("B"))
    wanted: int = 0

    def add(self, row: Any) -> bool:
        """Adds an image's row; False for a row of another metric, which says nothing here."""
        if not isinstance(row, Mapping) or not isinstance(row.get("objects"), Mapping):
            return False
        boxes = row.get("boxes", ())
        if not all(isinstance(box, list) and len(box) == 4 and type(box[2]) is int for box in boxes):
            return False
        if not all(isinstance(each, list) for each in row["objects"].values()):  # tide's, without a box
            return False
        self.wanted += sum(int(each[0]) for each in row["objects"].values())
        for _, score, matched, ignored in boxes:
            if not ignored & 1:  # the lowest bit: objects of all sizes, at .5
                self.scores.append(float(score))
                self.right.append(matched & 1)
        return True

    def points(self) -> list[list[float]]:
        """(recall, precision), the surest detections first; none where scores do not tell them apart."""
        scores = np.asarray(self.scores)
        if not self.wanted or len(np.unique(scores)) < FEWEST:
            return []
        right = np.cumsum(np.asarray(self.right)[np.argsort(-scores, kind="stable")])
        at = np.unique(np.linspace(0, len(right) - 1, POINTS).astype(int))
        return [[right[i] / self.wanted, right[i] / (i + 1)] for i in at]
