"""The curves of a task's page: precision over recall, right over confidence, score over margin."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from evalkit.viewer.assembled import Assembled
from evalkit.viewer.collect import OfRun

Section = dict[str, Any]
FEWEST = 20  # samples of a curve


def precision(found: Assembled, runs: Sequence[OfRun]) -> Iterator[Section]:
    series = [
        {"name": "", "run": run.side, "points": _plain([[*p, None, None] for p in points]), "filters": None}
        for run in runs
        if (points := run.ranked.points())
    ]
    if series:
        yield {
            "kind": "curve",
            "title": "Precision and recall",
            "about": "Of all classes together at an IoU of .5, the surest detections first.",
            "x": {"label": "recall"},
            "y": {"label": "precision"},
            "diagonal": False,
            "series": series,
        }


def _plain(points: Sequence[Sequence[Any]]) -> list[list[float | None]]:
    return [[None if v is None else round(float(v), 5) for v in point] for point in points]


def calibration(found: Assembled, runs: Sequence[OfRun]) -> Iterator[Section]:
    series = []
    for run in runs:
        sure, right = run.journal.confidence, run.right
        points, filters = [], []
        for low, high in zip(np.linspace(0, 0.9, 10), np.linspace(0.1, 1.0, 10), strict=True):
            inside = (sure >= low) & ((sure < high) | (high > 0.99)) & ~np.isnan(right)
            if n := int(inside.sum()):
                share = float(right[inside].mean())
                half = 1.96 * math.sqrt(max(share * (1 - share), 1e-9) / n)
                points.append(
                    [float(sure[inside].mean()), share, max(0.0, share - half), min(1.0, share + half)]
                )
                filters.append(f"confidence:{run.side}={low:.1f}..{high:.1f}")
        if points:
            series.append({"name": "", "run": run.side, "points": _plain(points), "filters": filters})
    if series:
        yield {
            "kind": "curve",
            "title": "Calibration",
            "about": "How often answers of a confidence are right; below the line the model is too sure.",
            "x": {"label": "mean probability of the answer's tokens"},
            "y": {"label": "share right"},
            "diagonal": True,
            "series": series,
        }


def margins(found: Assembled, runs: Sequence[OfRun]) -> Iterator[Section]:
    series = []
    for run in runs:
        known = ~np.isnan(run.journal.margin) & ~np.isnan(run.share)
        if known.sum() < FEWEST:
            continue
        margin, share = run.journal.margin[known], run.share[known].astype(np.float64)
        order = np.argsort(-margin, kind="stable")
        mean = np.cumsum(share[order]) / np.arange(1, len(order) + 1)
        at = np.unique(np.linspace(0, len(order) - 1, 40).astype(int)[1:])
        points = [[(i + 1) / len(order), mean[i], None, None] for i in at]
        filters = [f"margin:{run.side}={margin[order[i]]:.6g}.." for i in at]
        series.append({"name": "", "run": run.side, "points": _plain(points), "filters": filters})
    if series:
        yield {
            "kind": "curve",
            "title": "Score of the surest answers",
            "about": "By the margin of the closest choice of a token; where the curve falls, doubtful "
            "answers could be left to a person.",
            "x": {"label": "share of the samples, the surest first"},
            "y": {"label": "mean score, 0 to 1"},
            "diagonal": False,
            "series": series,
        }
