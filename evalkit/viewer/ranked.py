"""Precision and recall of detections that have scores, all classes together, at an IoU of .5."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

POINTS = 50  # of a curve
FEWEST = 3  # different scores: the order of equal ones would be a curve of nothing


@dataclass
class Ranked:
    """The detections of a run, as the rows of coco_ap have them."""

    scores: array[float] = field(default_factory=lambda: array("d"))
    right: array[int] = field(default_factory=lambda: array("B"))
    wanted: int = 0

    def add(self, row: Any) -> float | None:
        """Adds an image's row. Gives the score of its surest detection, NaN without any; None for a row of
        another metric, which says nothing here."""
        if not isinstance(row, Mapping) or not isinstance(row.get("objects"), Mapping):
            return None
        boxes = row.get("boxes", ())
        if not all(isinstance(box, list) and len(box) == 4 and type(box[2]) is int for box in boxes):
            return None
        if not all(isinstance(each, list) for each in row["objects"].values()):  # tide's, without a box
            return None
        self.wanted += sum(int(each[0]) for each in row["objects"].values())
        surest = math.nan
        for _, score, matched, ignored in boxes:
            if not ignored & 1:  # the lowest bit: objects of all sizes, at .5
                self.scores.append(float(score))
                self.right.append(matched & 1)
                surest = float(score) if math.isnan(surest) else max(surest, float(score))
        return surest

    def points(self) -> list[tuple[float, float, np.float32]]:
        """(recall, precision, least score) of the surest detections, more and more of them; none where scores
        do not tell them apart."""
        scores = np.asarray(self.scores, dtype=np.float32)
        if not self.wanted or len(np.unique(scores)) < FEWEST:
            return []
        order = np.argsort(-scores, kind="stable")
        right, scores = np.cumsum(np.asarray(self.right)[order]), scores[order]
        return [
            (float(right[i] / self.wanted), float(right[i] / (i + 1)), scores[i])
            for i in last_of_equals(scores, POINTS).tolist()
        ]


def last_of_equals(values: npt.NDArray[Any], most: int) -> npt.NDArray[np.intp]:
    """At most `most` places in sorted values, the last among them: each the last of those that equal it, so
    that what stands up to it is exactly what has this value or a better one."""
    ends = np.flatnonzero(np.append(values[1:] != values[:-1], True))
    chosen = np.unique(np.linspace(0, len(ends) - 1, min(most, len(ends))).astype(np.intp))
    return np.asarray(ends[chosen])
