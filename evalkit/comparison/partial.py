"""What a run that was stopped early would score on all samples, by its difference from one that has them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evalkit.runs.scored_run import ScoredRun, metric
from evalkit.stats import intervals
from evalkit.types import Score


def completed(part: ScoredRun, whole: ScoredRun) -> list[Score]:
    """The scores of `part` as if it had the samples of `whole`: the score of `whole` plus the mean paired
    difference on the samples that `part` has; `n` stays the number of these.

    The mean of a part alone moves with how hard its samples are; this one does not (a difference estimator:
    Cochran 1977, section 7.3, with a slope of 1). The interval is Student's t with cluster-robust errors of
    both terms. Neither leaves the bounds of the metric. Scores that are no mean over samples are left out.
    """
    at = {name: i for i, name in enumerate(whole.ids)}
    if not part.ids or not at.keys() >= set(part.ids):
        return []
    seen = np.array([at[name] for name in part.ids])
    found = []
    for spelled, score in part.scores.items():
        rows, before = part.rows[spelled], whole.rows.get(spelled)
        if before is None or isinstance(rows, list) or isinstance(before, list) or len(whole.ids) < 2:
            continue
        judge = metric(spelled)
        if not (intervals.is_mean(judge, rows) and intervals.is_mean(judge, before)):
            continue
        moved = rows[:, 0] - before[seen, 0]
        values = before[:, 0] + moved.mean()
        values[seen] += (moved - moved.mean()) * (len(values) / len(seen))
        groups = len(set(whole.index[seen].tolist()))
        if groups < 2:
            continue
        half = intervals.student(groups - 1) * intervals.cluster_error(values, whole.index)
        ends = np.array([0.0, -half, half]) + values.mean()
        value, low, high = np.clip(ends, judge.minimum, judge.maximum).tolist()
        found.append(replace(score, value=value, low=low, high=high))
    return found
