"""F1 of boxes or masks at the confidence that suits best: chosen on one half of the images, stated on the
other."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from evalkit.geometry import oddities, overlaps
from evalkit.provenance import version
from evalkit.stats import f1
from evalkit.text import labels
from evalkit.types import Box, Breakdowns, Mask, Metric, Rows

Floats = npt.NDArray[np.float64]
STEPS = 11  # thresholds that `breakdowns` shows
DRAWS = 200  # of the images that choose, for the threshold's interval


@dataclass(frozen=True)
class SweepF1(Metric):
    """F1 of the detections whose confidence is at the threshold or above, targets and answers as of coco_ap.

    Within a category the most confident detection is matched first, with the object left that it overlaps
    most, by `iou` or more; one in a crowd is not counted, a label that is no category is wrong. `rank`: the
    mean probability of the label's tokens (class), or the mean log-probability of the box's (logprob); both
    need decode.logprobs. The threshold is the one with the best F1 on half of the images (by a digest of
    their ids), and the score is that of the other half; where a half has no object, all images choose and are
    scored.
    """

    rank: Literal["class", "logprob"] = "class"
    iou: float = 0.5
    region: Literal["boxes", "masks"] = "boxes"
    lowercase: bool = False

    wants: ClassVar[tuple[str, ...]] = ("boxes", "masks")
    takes: ClassVar[tuple[str, ...]] = ("objects",)
    columns: ClassVar[tuple[str, ...]] = ()
    undefined: ClassVar[str] = "no image has an object"

    def __post_init__(self) -> None:
        if not 0 < self.iou <= 1:
            raise ValueError(f"iou={self.iou}: must be above 0 and at most 1")
        overlaps.declare(self, self.region)

    def rows(self, answers: Sequence[Sequence[Box | Mask] | None], targets: Sequence[dict[str, Any]]) -> Rows:
        """One dict an image: `half` (0 chooses, 1 is scored), `wanted` objects, `boxes`: [confidence,
        right]."""
        return [self._image(a or (), t) for a, t in zip(answers, targets, strict=True)]

    def reduce(self, rows: Rows, counts: npt.NDArray[Any] | None = None) -> float:
        """F1 at the threshold; `counts` (n,) says how often each image is drawn."""
        times = np.ones(len(rows)) if counts is None else np.asarray(counts, dtype=np.float64)
        points = _prepare(rows)
        choose, score = points.halves(times)
        return points.f1(points.best(choose), score)

    def details(self, rows: Rows) -> dict[str, float]:
        """F1 of the scored half with all detections."""
        points = _prepare(rows)
        value = points.f1(-np.inf, points.halves(np.ones(len(rows)))[1])
        return {} if np.isnan(value) else {"F1 of all": value}

    def breakdowns(self, rows: Rows) -> Breakdowns:
        """Thresholds with precision, recall and F1 of all images; `chosen` has the threshold and its 95 %
        interval."""
        points = _prepare(rows)
        if not len(points.confidence) or not points.wanted.any():
            return {}
        every = np.ones(len(rows))
        choose, _ = points.halves(every)
        drawn = [points.best(choose * times) for times in _draws(len(rows))]
        low, high = np.quantile(drawn, [0.025, 0.975])
        chosen = {"threshold": points.best(choose), "low": float(low), "high": float(high)}
        found = {"chosen": chosen | f1.figures(points.counts(chosen["threshold"], every))}
        for limit in np.quantile(points.confidence, np.linspace(0, 1, STEPS)).tolist():
            found[f"{limit:.3f}"] = {"threshold": limit} | f1.figures(points.counts(limit, every))
        return {"threshold": found}

    def judged(self, rows: Rows) -> list[list[tuple[float, float]]]:
        """Every box that is counted, its mean log-probability as a probability."""
        certain = math.exp if self.rank == "logprob" else float
        return [[(certain(min(c, 0.0 if self.rank == "logprob" else 1.0)), float(v)) for c, v in row["boxes"]]
                for row in rows]  # fmt: skip

    def silent(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Images without an object or a detection, and those that choose the threshold alone."""
        _, scored = _prepare(rows).halves(np.ones(len(rows)))
        every = zip(rows, scored.tolist(), strict=True)
        found = [not times or (not row["boxes"] and not row["wanted"]) for row, times in every]
        return np.array(found, dtype=bool)

    def remarks(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Mapping[str, int]:
        return oddities.of_objects(answers, targets, self.lowercase)

    def tools(self) -> str:
        return version("pycocotools")

    def _image(self, answer: Sequence[Box | Mask], target: Mapping[str, Any]) -> dict[str, Any]:
        best = sorted(answer, key=lambda thing: -self._confidence(thing))
        names = [labels.meant(thing.label, target["categories"], self.lowercase) for thing in best]
        crowd = [bool(o.get("iscrowd", 0)) for o in target["objects"]]
        near, _ = overlaps.of(best, target["objects"], target["size"], self.region)
        taken, boxes = set[int](), []
        for thing, name, row in zip(best, names, near.tolist(), strict=True):
            own = [
                (v, -j)
                for j, v in enumerate(row)
                if v >= self.iou and target["objects"][j]["category"] == name
            ]
            free = [(v, j) for v, j in own if not crowd[-j] and -j not in taken]
            if free:
                taken.add(-max(free)[1])
            if free or not any(crowd[-j] for _, j in own):
                boxes.append([self._confidence(thing), int(bool(free))])
        digest = hashlib.sha256(str(target["image_id"]).encode()).digest()
        return {"half": digest[0] & 1, "wanted": crowd.count(False), "boxes": boxes}

    def _confidence(self, thing: Box | Mask) -> float:
        box = thing.box if isinstance(thing, Mask) else thing
        if self.rank == "logprob":
            return box.score
        return 1.0 if box.class_score is None else box.class_score


@dataclass(frozen=True)
class _Points:
    """The detections of all images, the most confident first."""

    confidence: Floats
    right: Floats
    image: npt.NDArray[np.intp]
    half: npt.NDArray[np.intp]  # (images,)
    wanted: Floats  # (images,)

    def halves(self, times: Floats) -> tuple[Floats, Floats]:
        """How often each image chooses the threshold, and how often it is scored."""
        choose, score = times * (self.half == 0), times * (self.half == 1)
        return (choose, score) if choose @ self.wanted and score @ self.wanted else (times, times)

    def best(self, times: Floats) -> float:
        """The threshold of the best F1; of equal ones the highest."""
        if not len(self.confidence):
            return np.inf
        drawn = times[self.image]
        found = 2 * np.cumsum(drawn * self.right) / np.maximum(np.cumsum(drawn) + times @ self.wanted, 1e-9)
        last = np.append(np.diff(self.confidence) != 0, True)  # detections alike are taken together
        return float(self.confidence[int(np.argmax(np.where(last, found, -1.0)))])

    def counts(self, threshold: float, times: Floats) -> Floats:
        """Right, given and wanted at a threshold."""
        drawn = times[self.image] * (self.confidence >= threshold)
        return np.array([drawn @ self.right, drawn.sum(), times @ self.wanted])

    def f1(self, threshold: float, times: Floats) -> float:
        counts = self.counts(threshold, times)
        return float(f1.f1(counts)) if counts[2] else float("nan")


_last: list[tuple[Any, _Points]] = []  # a bootstrap reduces the same rows hundreds of times


def _prepare(rows: Any) -> _Points:
    if not _last or _last[0][0] is not rows:
        lines = [(score, right, i) for i, row in enumerate(rows) for score, right in row["boxes"]]
        array = np.array(lines, dtype=np.float64).reshape(-1, 3)
        array = array[np.argsort(-array[:, 0], kind="stable")]
        half = np.array([row["half"] for row in rows], dtype=np.intp)
        wanted = np.array([row["wanted"] for row in rows], dtype=np.float64)
        _last[:] = [(rows, _Points(array[:, 0], array[:, 1], array[:, 2].astype(np.intp), half, wanted))]
    return _last[0][1]


def _draws(images: int) -> list[Floats]:
    rng = np.random.default_rng(0)
    return [
        np.bincount(rng.integers(0, images, images), minlength=images).astype(float) for _ in range(DRAWS)
    ]
