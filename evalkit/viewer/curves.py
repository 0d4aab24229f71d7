"""The curves of a task's page: precision over recall, right over confidence, score over margin and over
resolution; each point names the filter that shows the samples that it stands for, and how many they are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalkit.viewer import marks
from evalkit.viewer.assembled import Assembled
from evalkit.viewer.collect import OfRun
from evalkit.viewer.ranked import last_of_equals

Section = dict[str, Any]
FEWEST = 20  # samples of a curve
POINTS = 40  # of a curve over margins
BINS = np.linspace(0, 1, 11, dtype=np.float32)  # of confidence


@dataclass(frozen=True)
class Point:
    """`filter` opens the `n` samples that the point stands for."""

    x: float
    y: float
    filter: str
    n: int
    low: float | None = None
    high: float | None = None

    def numbers(self) -> list[float | None]:
        each = (self.x, self.y, self.low, self.high)
        return [None if v is None else round(float(v), 5) for v in each]


@dataclass(frozen=True)
class Curve:
    """A graphic of lines: of each checkpoint (its number in the report) a name, '' where its own will do, and
    its points."""

    title: str
    about: str
    x: str
    y: str
    lines: Mapping[int, tuple[str, Sequence[Point]]]
    diagonal: bool = False
    scale: int = 1  # of y

    def sections(self) -> Iterator[Section]:
        """The section as the page reads it; none without a point."""
        series = [
            {
                "name": name,
                "run": side,
                "points": [point.numbers() for point in points],
                "filters": [point.filter for point in points],
                "n": [point.n for point in points],
            }
            for side, (name, points) in self.lines.items()
            if points
        ]
        if series:
            yield {
                "kind": "curve",
                "title": self.title,
                "about": self.about,
                "x": {"label": self.x},
                "y": {"label": self.y, **({"scale": self.scale, "digits": 1} if self.scale != 1 else {})},
                "diagonal": self.diagonal,
                "series": series,
            }


def exact(value: np.float32) -> str:
    """A number of a column as an address has it: read again it is the same 32 bits."""
    return np.format_float_positional(value, unique=True, trim="-")


def precision(found: Assembled, runs: Sequence[OfRun]) -> Iterator[Section]:
    lines = {}
    for run in runs:
        points = []
        for recall, share, least in run.ranked.points():
            n = int((run.surest >= least).sum())
            side = run.side
            points.append(Point(recall, share, f"surest:{side}={exact(least)}..&sort=surest:{side}:asc", n))
        lines[run.side] = "", points
    yield from Curve(
        "Precision and recall",
        "Of all classes together at an IoU of .5, the surest detections first. A point opens the images that "
        "have a detection at least as sure, the least sure of them first.",
        "recall", "precision", lines,
    ).sections()  # fmt: skip


def calibration(found: Assembled, runs: Sequence[OfRun]) -> Iterator[Section]:
    lines = {run.side: ("", _calibrated(run)) for run in runs}
    yield from Curve(
        "Calibration",
        "How often answers of a confidence are right; below the line the model is too sure.",
        "mean probability of the answer's tokens", "share right", lines, diagonal=True,
    ).sections()  # fmt: skip


def _calibrated(run: OfRun) -> list[Point]:
    sure, right, points = run.journal.confidence, run.right, []
    for low, high in itertools.pairwise(BINS):
        last = high == BINS[-1]
        inside = (sure >= low) & ((sure <= high) if last else (sure < high)) & ~np.isnan(right)
        if n := int(inside.sum()):
            share = float(right[inside].mean())
            half = 1.96 * math.sqrt(max(share * (1 - share), 1e-9) / n)
            to = f"..{'=' if last else ''}{exact(high)}"
            known = "" if not np.isnan(right[run.has]).any() else f"&right:{run.side}=any"
            points.append(
                Point(
                    float(sure[inside].mean()), share, f"confidence:{run.side}={exact(low)}{to}{known}", n,
                    max(0.0, share - half), min(1.0, share + half),
                )
            )  # fmt: skip
    return points


def margins(found: Assembled, runs: Sequence[OfRun]) -> Iterator[Section]:
    lines = {run.side: ("", _surest_first(run)) for run in runs}
    yield from Curve(
        "Score of the surest answers",
        "By the margin of the closest choice of a token; where the curve falls, doubtful answers could be "
        "left to a person. A point opens the samples up to it, the least sure of them first.",
        "share of the samples, the surest first", "mean score, 0 to 1", lines,
    ).sections()  # fmt: skip


def _surest_first(run: OfRun) -> list[Point]:
    known = ~np.isnan(run.journal.margin) & ~np.isnan(run.share)
    if known.sum() < FEWEST:
        return []
    order = np.argsort(-run.journal.margin[known], kind="stable")
    margin, share = run.journal.margin[known][order], run.share[known].astype(np.float64)[order]
    mean = np.cumsum(share) / np.arange(1, len(share) + 1)
    side, points = run.side, []
    scored = "" if not np.isnan(run.share[run.has]).any() else f"&score:{side}=any"
    for i in last_of_equals(margin, POINTS).tolist():
        spelled = f"margin:{side}={exact(margin[i])}..{scored}&sort=margin:{side}:asc"
        points.append(Point((i + 1) / len(share), float(mean[i]), spelled, i + 1))
    return points


def resolutions(found: Assembled, runs: Sequence[OfRun]) -> Iterator[Section]:
    """Of checkpoints that were run at several resolutions."""
    by_model: dict[str, list[tuple[int, OfRun]]] = {}
    for run in runs:
        pixels = run.part.run["identity"].get("preparation", {}).get("resolution")
        if run.part.main is not None and isinstance(pixels, int):
            by_model.setdefault(run.part.main.model, []).append((pixels, run))
    lines = {
        some[0][1].side: (model, [_at(px, run) for px, run in sorted(some, key=lambda each: each[0])])
        for model, some in by_model.items()
        if len({pixels for pixels, _ in some}) > 1
    }
    yield from Curve(
        "Score against resolution",
        "The same checkpoint's score by the side of the image that it was given, in pixels. A point opens "
        "all samples as they were answered at that resolution, the worst first.",
        "pixels", "score", lines, scale=100,
    ).sections()  # fmt: skip


def _at(pixels: int, run: OfRun) -> Point:
    assert run.part.main is not None
    score, n = run.part.main.score, int(run.has.sum())
    return Point(pixels, score.value, answered(run), n, score.low, score.high)


def answered(run: OfRun) -> str:
    """The filter of all samples that a run has, the worst first, shown as that run's."""
    parts = [] if run.has.all() else [f"length:{run.side}=any"]
    if run.part.main is not None and not np.isnan(run.score).all():
        judge = marks.inner(run.part.judges[run.part.main.score.metric])
        parts.append(f"sort=score:{run.side}:{'desc' if judge.lower_is_better else 'asc'}")
    return "&".join([*parts, f"run={run.side}"])
