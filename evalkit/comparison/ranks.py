"""Mean ranks of several models over their common tasks, images resampled in all tasks at once.

Prints nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from evalkit.comparison.alike import aligned
from evalkit.comparison.compare import ModelRuns
from evalkit.runs.scored_run import ScoredRun, metric
from evalkit.stats import intervals
from evalkit.stats.intervals import Floats
from evalkit.types import Metric

_STEP = 50  # resamples whose counts are floats in memory at the same time


@dataclass(frozen=True)
class Rank:
    """A model's mean rank over the common tasks (1 is best), with its 95 % interval over resamples."""

    name: str
    mean: float
    low: float
    high: float


def ranks(models: Sequence[ModelRuns], allow: Collection[str] = ()) -> list[Rank]:
    """Mean ranks over the tasks that all models have (ties share a rank); [] when there is none.

    An image is drawn once for all tasks that use it, since its effects on several tasks do not average
    out. Images of all tasks are drawn from one pool, 500 times; a task without a drawn image is left out
    of that resample. Raises UserError for runs that can't be compared.
    """
    names = [t for t in models[0].runs if all(t in m.runs for m in models)]
    common = [found for t in names if (found := _common([m.runs[t] for m in models], allow))]
    if not common:
        return []
    pool = sorted({c for _, runs in common for c in runs[0].clusters})
    place = {name: i for i, name in enumerate(pool)}
    rng = np.random.default_rng(0)
    size = len(pool)
    drawn = np.empty((intervals.RESAMPLES_SLOW, size), dtype=np.uint8)
    for row in drawn:
        row[:] = np.bincount(rng.integers(0, size, size=size), minlength=size)
    observed, resampled = [], []
    for spelling, runs in common:
        judge = metric(spelling)
        sign = 1 if judge.lower_is_better else -1
        observed.append(_ranked(sign * np.array([[judge.reduce(r.rows[spelling])] for r in runs]))[:, 0])
        index = np.array([place[c] for c in runs[0].clusters], dtype=np.intp)
        scores = np.stack([_scores(judge, r, spelling, index, drawn) for r in runs])
        resampled.append(_ranked(sign * scores))
    means = np.mean(observed, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a resample without one task
        spread = np.nanmean(resampled, axis=0)
    low, high = np.nanquantile(spread, [0.025, 0.975], axis=1)
    return [
        Rank(m.name, float(means[i]), float(min(low[i], means[i])), float(max(high[i], means[i])))
        for i, m in enumerate(models)
    ]


def _common(runs: Sequence[ScoredRun], allow: Collection[str]) -> tuple[str, list[ScoredRun]] | None:
    """The runs of a task on the samples that all share, and the first metric that all have."""
    for other in runs[1:]:
        aligned(runs[0], other, allow)
    shared = set.intersection(*(set(r.ids) for r in runs))
    name = next((m for m in runs[0].scores if all(m in r.scores for r in runs)), None)
    return None if name is None else (name, [r.only(shared) for r in runs])


def _scores(judge: Metric, run: ScoredRun, spelling: str, index: intervals.Ints, drawn: np.ndarray) -> Floats:
    """The run's score in every resample; `index` (n,) is the place of each sample's image in the pool."""
    rows = run.rows[spelling]
    if isinstance(rows, list):
        return np.array([judge.reduce(rows, counts[index].astype(np.int64)) for counts in drawn])
    here, part = np.unique(index, return_inverse=True)
    sums = intervals.cluster_sums(np.asarray(rows, dtype=np.float64), part)
    totals = [
        drawn[start : start + _STEP, here].astype(np.float64) @ sums for start in range(0, len(drawn), _STEP)
    ]
    return judge.value(np.concatenate(totals))


def _ranked(scores: Floats) -> Floats:
    """Ranks (models, resamples) of scores, the lowest first; equal ones share the mean rank; NaN has none."""
    below = (scores[None, :, :] < scores[:, None, :]).sum(axis=1)
    equal = (scores[None, :, :] == scores[:, None, :]).sum(axis=1)
    return np.where(np.isnan(scores).any(axis=0), np.nan, 1 + below + (equal - 1) / 2)
