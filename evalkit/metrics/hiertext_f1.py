"""Words in photos, found and read: F1, precision and recall in HierText's protocol."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evalkit.geometry import polygons
from evalkit.types import Box, Metric, Rows

EPSILON = 1e-5  # square pixels; as in the reference, in every division and as the smallest area
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HiertextF1(Metric):
    """F1 over all words of all images (answers: boxes labelled with the text that is written there).

    Target: {"size": (h, w), "words": [{"text", "vertices": ((x, y), ...) in pixels, "legible"}]}.
    google-research-datasets/hiertext evaluator/evaluator.py and polygon_ops.py @ 70b6620b, words as
    polygons. A predicted word is dropped when a share of `ignored` or more of its area is on one illegible
    word. Then a word is found when it and a prediction overlap most with each other (the first of
    equals) at an IoU of `iou` or more, and read when the texts are also equal, character by character.
    1e-5 square pixels are added to each divisor, so that exactly `iou` is just missed: kept.

    `count`: "read" is the reference's E2E, "found" its Det. Precision is 1 when no word is predicted,
    recall is 1 when no word is legible, as there; an unreadable text (None) is an empty answer.
    A quadrilateral answer may be a dict {"vertices", "text"} in pixels instead of a Box.
    Areas are shapely's, also of polygons that cross themselves (`evalkit.geometry.polygons`).
    """

    count: Literal["read", "found"] = "read"
    iou: float = 0.5
    ignored: float = 0.5

    wants = ("boxes",)
    takes = ("words",)
    columns = ("right", "predicted", "words", "overlap", "n")

    def rows(
        self, answers: Sequence[Sequence[Box | dict[str, Any]] | None], targets: Sequence[dict[str, Any]]
    ) -> Rows:
        """One (words right, words predicted, words there, sum of the right ones' IoU, 1) an image."""
        result = np.ones((len(targets), 5))
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            result[i, :4] = self._image(
                [_word(each, target["size"]) for each in answer or ()], target["words"]
            )
        return result

    def value(self, sums: Floats) -> Floats:
        """F1 of column sums; NaN without images."""
        precision, recall = _shares(sums)
        with np.errstate(invalid="ignore"):
            f1 = np.where(precision + recall > 0, 2 * precision * recall / (precision + recall), 0.0)
        result: Floats = np.where(sums[..., 4] > 0, f1, np.nan)
        return result

    def details(self, rows: Rows) -> dict[str, float]:
        """Precision, recall, mean IoU of the right words (tightness, 1 without any) and PQ = F1 x that."""
        sums = np.asarray(rows, dtype=np.float64).sum(axis=0)
        precision, recall = _shares(sums)
        tightness = float(sums[3] / sums[0]) if sums[0] else 1.0
        panoptic = tightness * float(self.value(sums))
        return {
            "precision": float(precision),
            "recall": float(recall),
            "tightness": tightness,
            "pq": panoptic,
        }

    def _image(
        self, answer: Sequence[tuple[polygons.Points, str]], words: Sequence[dict[str, Any]]
    ) -> tuple[float, int, int, float]:
        found, written = polygons.shapes([points for points, _ in answer]), [text for _, text in answer]
        there = polygons.shapes([word["vertices"] for word in words])
        legible = np.array([word["legible"] for word in words], dtype=bool)
        wanted, unread = there[legible], there[~legible]
        if len(unread) and len(found):
            common, areas, _ = _overlaps(found, unread)
            kept = (common / (areas[:, None] + EPSILON)).max(axis=1) < self.ignored
            found, written = found[kept], list(itertools.compress(written, kept))
        texts = [word["text"] for word in words if word["legible"]]
        right, overlap = 0, 0.0
        if len(found) and len(wanted):
            common, areas, others = _overlaps(wanted, found)
            ious = common / (areas[:, None] + others[None, :] - common + EPSILON)
            best, back = ious.argmax(axis=1), ious.argmax(axis=0)
            for i, j in enumerate(best.tolist()):
                if ious[i, j] >= self.iou and back[j] == i and self._counts(written[j], texts[i]):
                    right += 1
                    overlap += float(ious[i, j])
        return right, len(found), len(wanted), overlap

    def _counts(self, found: str, wanted: str) -> bool:
        return self.count == "found" or found == wanted


def _word(answer: Box | dict[str, Any], size: tuple[int, int]) -> tuple[polygons.Points, str]:
    """Corners in pixels and text of one predicted word."""
    if isinstance(answer, dict):
        return answer["vertices"], answer["text"]
    height, width = size
    y0, x0, y1, x1 = answer.y0 * height, answer.x0 * width, answer.y1 * height, answer.x1 * width
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1)), answer.label


def _overlaps(first: polygons.Shapes, second: polygons.Shapes) -> tuple[Floats, Floats, Floats]:
    """Shared areas (n, m), areas (n,) and areas (m,); words with almost no area share nothing."""
    areas, others = polygons.areas(first), polygons.areas(second)
    ours, theirs = polygons.bounds(first), polygons.bounds(second)
    near = np.minimum(ours[:, None, 2:], theirs[None, :, 2:]) > np.maximum(
        ours[:, None, :2], theirs[None, :, :2]
    )
    near = near.all(axis=2) & (areas[:, None] >= EPSILON) & (others[None, :] >= EPSILON)
    result = np.zeros((len(first), len(second)))
    i, j = np.nonzero(near)
    result[i, j] = polygons.shared(first[i], second[j])
    return result, areas, others


def _shares(sums: Floats) -> tuple[Floats, Floats]:
    """(precision, recall) of column sums; 1 where there is nothing to divide by."""
    right, predicted, words = sums[..., 0], sums[..., 1], sums[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(predicted > 0, right / predicted, 1.0), np.where(words > 0, right / words, 1.0)
