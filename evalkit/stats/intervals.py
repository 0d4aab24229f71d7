"""95 % intervals of scores that respect clusters (questions about one image).

Knows rows, clusters and reductions; not tasks, models or files.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from evalkit.types import Metric, Rows

LEVEL = 0.95
FEW = 100  # with fewer clusters an interval is rough; the tables say so
RESAMPLES = 2000
RESAMPLES_SLOW = 500  # for metrics that are no function of sums (AP): each resample is a full reduction
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

# How often a cluster is drawn in one resample of very many: Poisson(1) in 65,536ths, for 0 to 8 times.
_POISSON = np.repeat(np.arange(9.0), [24109, 24109, 12055, 4018, 1005, 201, 33, 5, 1])


def interval(
    metric: Metric, rows: Rows, clusters: Sequence[Hashable]
) -> tuple[float | None, float | None, str]:
    """(low, high, method) of `metric.reduce(rows)` at 95 %, resampling whole clusters.

    Means of 0/1 rows get Wilson's interval at the effective sample size, other means Student's t
    with cluster-robust errors, other sums the bootstrap over clusters. AP is reduced again for every
    resample: an image drawn twice counts as two images, and a class that no drawn image shows is left
    out. With fewer than two clusters there is no interval: (None, None, "none").
    """
    index = cluster_index(clusters)
    groups = int(index.max()) + 1 if len(index) else 0
    if groups < 2:
        return None, None, "none"
    if isinstance(rows, list):
        low, high = percentiles(resampled(metric, rows, index), groups)
        method = f"bootstrap({RESAMPLES_SLOW}, copies distinct, absent classes dropped)"
        return (None, None, "none") if math.isnan(low) else (low, high, method)
    array = np.asarray(rows, dtype=np.float64)
    if is_mean(metric, array):
        values = array[:, 0]
        if np.isin(values, (0.0, 1.0)).all():
            low, high = wilson_clustered(values, index)
            method = "wilson"
        else:
            low, high = mean_interval(values, index)
            method = "t"
    else:
        low, high = percentiles(resampled(metric, array, index), groups)
        method = f"bootstrap({RESAMPLES})"
    if math.isnan(low) or math.isnan(high):
        return None, None, "none"
    top = math.inf if metric.maximum is None else metric.maximum
    return max(low, metric.minimum), min(high, top), method


def cluster_index(clusters: Sequence[Hashable]) -> Ints:
    """Cluster labels (n,) as numbers 0.. in order of first appearance."""
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(c, len(seen)) for c in clusters], dtype=np.intp)


def cluster_error(values: Floats, index: Ints, corrected: bool = True) -> float:
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


def mean_interval(values: Floats, index: Ints) -> tuple[float, float]:
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


def wilson_clustered(values: Floats, index: Ints) -> tuple[float, float]:
    """Wilson's interval at the effective size p(1-p)/SE², at most n (Korn & Graubard 1998).

    Without clusters this is the plain interval. If all rows are equal, the number of clusters is the size.
    """
    n, groups = len(values), int(index.max()) + 1
    p = float(values.mean())
    if groups == n:
        return wilson(p * n, n, student(math.inf))
    error = cluster_error(values, index)
    effective = min(float(n), p * (1 - p) / error**2) if error > 0 else float(groups)
    return wilson(p * effective, effective, student(groups - 1))


def student(freedom: float, level: float = LEVEL) -> float:
    """The two-sided quantile of Student's t (of the normal for infinite freedom)."""
    from scipy.special import ndtri, stdtrit

    level = 0.5 + level / 2
    return float(ndtri(level) if math.isinf(freedom) else stdtrit(freedom, level))


def is_mean(metric: Metric, rows: Floats) -> bool:
    """Whether the score is the plain mean of the first column."""
    return type(metric).value is Metric.value and bool((rows[:, 1] == 1).all())


# --- resampling ------------------------------------------------------------------------------------


def resampled(metric: Metric, rows: Rows, index: Ints, seed: int = 0) -> Floats:
    """The score in every resample of whole clusters (2,000, or 500 for a metric without sums).

    The same `index` and seed draw the same clusters, which pairs two models' scores.
    """
    groups = int(index.max()) + 1
    if isinstance(rows, list):
        rng = np.random.default_rng(seed)
        drawn = (
            np.bincount(rng.integers(0, groups, size=groups), minlength=groups)[index]
            for _ in range(RESAMPLES_SLOW)
        )
        return np.array([metric.reduce(rows, counts) for counts in drawn])
    return metric.value(resampled_sums(cluster_sums(np.asarray(rows, dtype=np.float64), index), seed=seed))


def cluster_sums(rows: Floats, index: Ints) -> Floats:
    """Rows (n, columns) added up by cluster: (clusters, columns)."""
    groups = int(index.max()) + 1
    return np.stack([np.bincount(index, weights=column, minlength=groups) for column in rows.T], axis=1)


def resampled_sums(sums: Floats, times: int = RESAMPLES, seed: int = 0) -> Floats:
    """Column sums (times, columns) of resampled clusters, given their `sums` (clusters, columns).

    Exact multinomial draws if clusters are few or many are equal; for very many different ones Poisson
    weights scaled to the same total (Chamandy et al. 2012), which are ten times as fast.
    """
    rng = np.random.default_rng(seed)
    groups = len(sums)
    if groups > 256:
        alike, counts = np.unique(sums, axis=0, return_counts=True)
        if len(alike) <= 256:
            exact: Floats = rng.multinomial(groups, counts / groups, size=times) @ alike
            return exact
    parts = []
    step = max(1, 100_000 // groups)  # as many as fit into the processor's cache
    counted = np.hstack([sums, np.ones((groups, 1))])  # the last column counts the draws
    for start in range(0, times, step):
        size = (min(step, times - start), groups)
        if groups <= 4096:
            parts.append(sums[rng.integers(0, groups, size=size)].sum(axis=1))
        else:
            drawn = rng.integers(0, 1 << 16, size=size, dtype=np.uint16)
            totals = np.take(_POISSON, drawn, mode="clip") @ counted
            parts.append(totals[:, :-1] * (groups / totals[:, -1:]))
    return np.concatenate(parts)


def percentiles(scores: Floats, groups: int, level: float = LEVEL) -> tuple[float, float]:
    """The bootstrap's percentile interval, widened for few clusters as Student's t is.

    Hesterberg 2015 ("expanded percentile"): quantiles at Phi(-sqrt(G/(G-1)) t). NaN scores (nothing
    left in a resample) are ignored; (NaN, NaN) if there are no others.
    """
    from scipy.special import ndtr

    finite = scores[np.isfinite(scores)]
    if not len(finite) or groups < 2:
        return math.nan, math.nan
    tail = float(ndtr(-math.sqrt(groups / (groups - 1)) * student(groups - 1, level)))
    low, high = np.quantile(finite, [tail, 1 - tail])
    return float(low), float(high)
