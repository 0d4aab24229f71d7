"""What each sample's own row says: its score by every metric, whether it is right, how good its answer is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.metrics.group_mean import GroupMean
from evalkit.types import Metric

Floats = npt.NDArray[np.float64]
HALF = 0.5  # of the way from the worst to the best score: from here on an answer counts as right


def inner(judge: Metric) -> Metric:
    """The metric that a sample's row is of: of a mean over groups the one within the groups."""
    return judge.metric if isinstance(judge, GroupMean) else judge


def values(judge: Metric, rows: Sequence[Any]) -> Floats:
    """Each sample's own score; NaN where a single sample has none."""
    judge = inner(judge)
    if rows and isinstance(rows[0], list) and not any(isinstance(cell, str) for row in rows for cell in row):
        return np.asarray(judge.value(np.asarray(rows, dtype=np.float64)), dtype=np.float64)
    return np.array([_alone(judge, row) for row in rows], dtype=np.float64)


def _alone(judge: Metric, row: Any) -> float:
    try:
        return float(judge.reduce([row]))
    except (ValueError, KeyError, TypeError, IndexError, ZeroDivisionError):  # a score of many samples only
        return float("nan")


def right(judge: Metric, scores: Floats) -> Floats:
    """1 where an answer is right, 0 where it is wrong, NaN where that cannot be said.

    Of bounded scores those from half way on are right; of error rates only those without an error."""
    judge = inner(judge)
    if judge.lower_is_better:
        found = scores <= judge.minimum
    elif judge.maximum is None or judge.maximum > 1:  # of a CIDEr of 10 half is much
        return np.full(len(scores), np.nan)
    else:
        found = scores >= judge.minimum + HALF * (judge.maximum - judge.minimum)
    return np.where(np.isnan(scores), np.nan, found.astype(np.float64))


def shares(judge: Metric, scores: Floats) -> Floats:
    """How good each answer is from 0 to 1; NaN where a single sample has no score."""
    judge = inner(judge)
    top = judge.maximum if judge.maximum is not None else max(float(np.nanmax(scores, initial=0.0)), 1e-9)
    share = np.clip((scores - judge.minimum) / (top - judge.minimum), 0.0, 1.0)
    return np.asarray(1 - share if judge.lower_is_better else share)
