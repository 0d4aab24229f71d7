"""How sure a score is: 95 % intervals that respect clusters (questions about one image).

Knows rows, clusters and reductions; not tasks, models or files.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.types import Metric, Rows

LEVEL = 0.95
RESAMPLES = 2000
RESAMPLES_SLOW = 300  # for metrics that no sums describe (AP): each resample is a whole reduction
Floats = npt.NDArray[np.float64]


def interval(
    metric: Metric, rows: Rows, clusters: Sequence[Hashable]
) -> tuple[float | None, float | None, str]:
    """(low, high, method) of `metric.reduce(rows)` at 95 %, resampling whole clusters.

    Means of 0/1 rows take Wilson's interval at the effective sample size, other means Student's t
    with cluster-robust errors, other sums the percentile bootstrap over clusters. With fewer than
    two clusters nothing can be said: (None, None, "none").
    """
    index = cluster_index(clusters)
    groups = int(index.max()) + 1 if len(index) else 0
    if groups < 2:
        return None, None, "none"
    if isinstance(rows, list):
        low, high = _bootstrap_objects(metric, rows, index, groups)
        return low, high, f"bootstrap({RESAMPLES_SLOW})"
    array = np.asarray(rows, dtype=np.float64)
    if _is_mean(metric, array):
        values = array[:, 0]
        if np.isin(values, (0.0, 1.0)).all():
            low, high = wilson_clustered(values, index)
            method = "wilson"
        else:
            low, high = mean_interval(values, index)
            method = "t"
    else:
        low, high = _bootstrap_sums(metric, array, index, groups)
        method = f"bootstrap({RESAMPLES})"
    if math.isnan(low) or math.isnan(high):
        return None, None, "none"
    top = math.inf if metric.maximum is None else metric.maximum
    return max(low, metric.minimum), min(high, top), method


def cluster_index(clusters: Sequence[Hashable]) -> npt.NDArray[np.intp]:
    """Cluster labels (n,) as numbers 0.. in order of first appearance."""
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(c, len(seen)) for c in clusters], dtype=np.intp)


def cluster_error(values: Floats, index: npt.NDArray[np.intp], corrected: bool = True) -> float:
    """Cluster-robust standard error of a mean: sqrt(sum over clusters of summed residuals squared)/n.

    `corrected` multiplies the variance by G/(G-1) · (n-1)/(n-1), which for a constant model is
    G/(G-1), as statsmodels does for `cov_type="cluster"`. NaN with fewer than two clusters.
    """
    n, groups = len(values), int(index.max()) + 1
    if groups < 2:
        return math.nan
    sums = np.bincount(index, weights=values - values.mean(), minlength=groups)
    variance = float(sums @ sums) / n**2
    return math.sqrt(variance * (groups / (groups - 1) if corrected else 1.0))


def mean_interval(values: Floats, index: npt.NDArray[np.intp]) -> tuple[float, float]:
    """Student's t interval of a mean with G-1 degrees of freedom and cluster-robust error."""
    groups = int(index.max()) + 1
    half = student(groups - 1) * cluster_error(values, index)
    mean = float(values.mean())
    return mean - half, mean + half


def wilson(successes: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927); `n` may be an effective size."""
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return centre - half, centre + half


def clopper_pearson(successes: int, n: int) -> tuple[float, float]:
    """The exact interval for a proportion (Clopper & Pearson 1934): never too short, often too long."""
    from scipy.stats import beta

    tail = (1 - LEVEL) / 2
    low = float(beta.ppf(tail, successes, n - successes + 1)) if successes else 0.0
    high = float(beta.ppf(1 - tail, successes + 1, n - successes)) if successes < n else 1.0
    return low, high


def wilson_clustered(values: Floats, index: npt.NDArray[np.intp]) -> tuple[float, float]:
    """Wilson's interval at the effective size p(1-p)/SE², never above n (Korn & Graubard 1998).

    Without clusters this is the plain interval. All rows equal: the number of clusters is the size.
    """
    n, groups = len(values), int(index.max()) + 1
    p = float(values.mean())
    if groups == n:
        return wilson(p * n, n, student(math.inf))
    error = cluster_error(values, index)
    effective = min(float(n), p * (1 - p) / error**2) if error > 0 else float(groups)
    return wilson(p * effective, effective, student(groups - 1))


def student(freedom: float) -> float:
    """The two-sided 95 % quantile of Student's t (of the normal for infinite freedom)."""
    from scipy.special import ndtri, stdtrit

    level = 0.5 + LEVEL / 2
    return float(ndtri(level) if math.isinf(freedom) else stdtrit(freedom, level))


def _is_mean(metric: Metric, rows: Floats) -> bool:
    """Whether the score is the plain mean of the first column."""
    return type(metric).value is Metric.value and bool((rows[:, 1] == 1).all())


def _bootstrap_sums(
    metric: Metric, rows: Floats, index: npt.NDArray[np.intp], groups: int
) -> tuple[float, float]:
    sums = np.zeros((groups, rows.shape[1]))
    np.add.at(sums, index, rows)
    rng = np.random.default_rng(0)
    scores: list[Floats] = []
    step = max(1, 4_000_000 // groups)
    for start in range(0, RESAMPLES, step):
        drawn = rng.multinomial(groups, [1 / groups] * groups, size=min(step, RESAMPLES - start))
        scores.append(metric.value(drawn @ sums))
    return _percentiles(np.concatenate(scores))


def _bootstrap_objects(
    metric: Metric, rows: list[Any], index: npt.NDArray[np.intp], groups: int
) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    weights = np.full(groups, 1 / groups)
    drawn = (rng.multinomial(groups, weights)[index] for _ in range(RESAMPLES_SLOW))
    return _percentiles(np.array([metric.reduce(rows, counts) for counts in drawn]))


def _percentiles(scores: Floats) -> tuple[float, float]:
    finite = scores[np.isfinite(scores)]
    if not len(finite):
        return math.nan, math.nan
    low, high = np.quantile(finite, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return float(low), float(high)
