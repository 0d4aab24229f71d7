"""Words found and read, by HierText's protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from evalkit.polygons import Point, Polygon, Word, cleaned, shared_area, signed_area
from evalkit.types import Box, Metric, Rows

Floats = npt.NDArray[np.float64]
_EPSILON = 1e-5  # square pixels, in the reference's fractions


@dataclass(frozen=True)
class HiertextF1(Metric):
    """F1 of words: an answer's and a target's word match when each is the other's best overlap of at
    least `iou` and, with `text`, they read the same (case and all).

    Targets are `{"size": (h, w), "words": [{"vertices": [(x, y), ...] pixels, "text", "legible"}]}`;
    answers are tuples of boxes whose labels are the text, or of `evalkit.polygons.Word`. Answers that lie
    to at least one half in an illegible word are passed over. Counts are summed over images.

    google-research-datasets/hiertext evaluator/ @ 70b6620b (polygons, word level). `details` has precision,
    recall, tightness (mean overlap of matches) and PQ, for detection alone and end to end. A polygon
    that crosses itself, where the reference raises, is taken as its convex hull.
    """

    text: bool = True
    iou: float = 0.5

    wants: ClassVar[tuple[str, ...]] = ("boxes",)
    columns: ClassVar[tuple[str, ...]] = (
        "found",
        "overlap of found",
        "read",
        "overlap of read",
        "answers",
        "targets",
    )

    def rows(self, answers: Sequence[Sequence[Box | Word] | None], targets: Sequence[dict[str, Any]]) -> Rows:
        """One row of counts an image."""
        result = np.zeros((len(targets), 6))
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            result[i] = self._image([_word(each, target["size"]) for each in answer or ()], target["words"])
        return result

    def value(self, sums: Floats) -> Floats:
        return self._figures(sums, read=self.text)["F1"]

    def details(self, rows: Rows) -> dict[str, float]:
        sums = np.asarray(rows, dtype=np.float64).sum(axis=0)
        return {
            f"{kind} {name}": float(value)
            for kind, read in (("detection", False), ("end to end", True))
            for name, value in self._figures(sums, read=read).items()
        }

    def _image(self, given: list[Word], wanted: Sequence[dict[str, Any]]) -> list[float]:
        legible = [word for word in wanted if word.get("legible", True)]
        blurred = [cleaned(word["vertices"]) for word in wanted if not word.get("legible", True)]
        outlines = [(cleaned(word.vertices), word.text) for word in given]
        outlines = [(outline, text) for outline, text in outlines if not _hidden(outline, blurred)]
        row = [0.0, 0.0, 0.0, 0.0, float(len(outlines)), float(len(legible))]
        if not outlines or not legible:
            return row
        targets = [cleaned(word["vertices"]) for word in legible]
        overlaps = np.array([[_iou(target, outline) for outline, _ in outlines] for target in targets])
        best_answer, best_target = overlaps.argmax(axis=1), overlaps.argmax(axis=0)
        for i, word in enumerate(legible):
            j = int(best_answer[i])
            if overlaps[i, j] >= self.iou and best_target[j] == i:
                read = outlines[j][1] == word["text"]
                for place, count in ((0, True), (2, read)):
                    row[place] += count
                    row[place + 1] += overlaps[i, j] * count
        return row

    @staticmethod
    def _figures(sums: Floats, read: bool) -> dict[str, Floats]:
        hits, overlap = sums[..., 2 if read else 0], sums[..., 3 if read else 1]
        precision = _share(hits, sums[..., 4])
        recall = _share(hits, sums[..., 5])
        both = precision + recall
        f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
        tightness = _share(overlap, hits)
        return {
            "F1": f1,
            "precision": precision,
            "recall": recall,
            "tightness": tightness,
            "PQ": tightness * f1,
        }


def _share(above: Floats, below: Floats) -> Floats:
    """A fraction that is 1 where there is nothing, as in the reference."""
    result: Floats = np.divide(above, below, out=np.ones_like(above), where=below > 0)
    return result


def _word(each: Box | Word, size: tuple[int, int]) -> Word:
    if isinstance(each, Word):
        return each
    height, width = size
    y0, x0, y1, x1 = each.y0 * height, each.x0 * width, each.y1 * height, each.x1 * width
    corners: tuple[Point, ...] = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    return Word(corners, each.label)


def _shared(first: Polygon, second: Polygon) -> tuple[float, float, float]:
    """(shared area, area of the first, of the second); nothing is shared with an empty one."""
    one, other = abs(signed_area(first)), abs(signed_area(second))
    empty = one < _EPSILON or other < _EPSILON
    return 0.0 if empty else shared_area(first, second), one, other


def _iou(first: Polygon, second: Polygon) -> float:
    shared, one, other = _shared(first, second)
    return shared / (one + other - shared + _EPSILON)


def _hidden(outline: Polygon, blurred: list[Polygon]) -> bool:
    """Whether half of it lies in one illegible word."""
    for other in blurred:
        shared, own, _ = _shared(outline, other)
        if shared / (own + _EPSILON) >= 0.5:
            return True
    return False
