"""95 % intervals of scores that respect clusters (questions about one image).

Knows rows, clusters and reductions; not tasks, models or files.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.types import Metric, Rows, Stratum

LEVEL = 0.95
FEW = 100  # with fewer clusters an interval is rough; the tables say so
FEWEST = 10  # with fewer, or fewer that differ, rows say too little of their own spread
RESAMPLES = 2000
RESAMPLES_SLOW = 500  # for metrics that are no function of sums (AP): each resample is a full reduction
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

# How often a cluster is drawn in one resample of very many: Poisson(1) in 65,536ths, for 0 to 8 times.
_POISSON = np.repeat(np.arange(9.0), [24109, 24109, 12055, 4018, 1005, 201, 33, 5, 1])


Interval = tuple[float | None, float | None, str]
_NONE: Interval = (None, None, "none")


def interval(metric: Metric, rows: Rows, clusters: Sequence[Hashable]) -> Interval:
    """(low, high, method) of `metric.reduce(rows)` at 95 %, for samples that are drawn by whole clusters.

    Means of 0/1 rows get Wilson's interval at the effective sample size, other means Student's t
    with cluster-robust errors, other sums the bootstrap over clusters, means over groups their groups'
    intervals combined. AP is reduced again for every resample: an image drawn twice counts as two images,
    and a class that no drawn image shows is left out.

    With fewer than `FEWEST` clusters (AP: `FEW`), or fewer that carry the spread, rows say too little of it.
    A bounded score then gets Clopper and Pearson's interval, which assumes the largest spread that its value
    allows; an unbounded one has none: (None, None, "none"). So has any score of one cluster.
    """
    index = cluster_index(clusters)
    if not len(index) or int(index.max()) < 1 or metric.no_interval():
        return _NONE
    strata = metric.strata(rows)
    low, high, method = metric.bounds(rows, index) or (
        _combined(metric, strata, index) if strata else _single(metric, rows, index)
    )
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return _NONE
    top = math.inf if metric.maximum is None else metric.maximum
    return max(low, metric.minimum), min(high, top), method


def _single(metric: Metric, rows: Rows, index: Ints, in_part: bool = False) -> Interval:
    """Of a score that is no mean over groups, or of one of these."""
    if isinstance(rows, list):
        method = f"bootstrap({RESAMPLES_SLOW}, copies distinct, absent classes dropped)"
        return _of_any(metric, rows, index, method)
    array = np.asarray(rows, dtype=np.float64)
    if type(metric).value is Metric.value:
        counting = array[:, 1] != 0
        if np.isin(array[:, 1], (0.0, 1.0)).all() and counting.any():
            part = cluster_index(index[counting].tolist())
            return _of_mean(array[counting, 0], part, metric.minimum, metric.maximum, in_part)
    return _of_any(metric, array, index, f"bootstrap({RESAMPLES})")


def _of_mean(values: Floats, index: Ints, least: float, most: float | None, in_part: bool) -> Interval:
    """Of the mean of values in [least, most]; `most` None: unbounded. `in_part`: of one of several strata."""
    groups = int(index.max()) + 1
    binary = np.isin(values, (0.0, 1.0)).all() and (least, most) == (0.0, 1.0)
    if binary and not in_part:
        return *wilson_clustered(values, index), "wilson"
    if min(groups, carriers(cluster_sums(values[:, None] - values.mean(), index)[:, 0])) >= FEWEST:
        return (
            (*wilson_clustered(values, index), "wilson") if binary else (*mean_interval(values, index), "t")
        )
    if most is None:
        return _NONE
    p = float(values.mean() - least) / (most - least)
    size = float(len(values))
    if groups < size:
        error = cluster_error(values, index) / (most - least)
        size = min(size, p * (1 - p) / error**2) if error > 0 else float(groups)
    low, high = exact(p, size, groups if groups < len(values) else math.inf)
    return least + low * (most - least), least + high * (most - least), "exact"


def _of_any(metric: Metric, rows: Rows, index: Ints, method: str) -> Interval:
    """Of any function of clusters: the bootstrap's, where enough of them carry its spread. AP of fewer than
    `FEW` images is too high as a rule (few false positives, a coarse curve), which no resampling shows."""
    groups, several = int(index.max()) + 1, isinstance(rows, list)
    size, changes = effective_size(metric, rows, index), _changes(metric, rows, index)
    carried = carriers(changes) if changes is not None else _alone(metric, rows, index)
    if min(size, carried) >= FEWEST and (size >= FEW or not several):
        low, high = percentiles(resampled(metric, rows, index), int(size) if several else groups)
        return low, high, method
    if metric.maximum is None:
        return _NONE
    span = metric.maximum - metric.minimum
    value = min(max((metric.reduce(rows) - metric.minimum) / span, 0.0), 1.0)
    if math.isnan(value):
        return _NONE
    low, high = closed(value, size, None if changes is None else changes / span)
    return metric.minimum + low * span, metric.minimum + high * span, "exact"


def closed(value: float, size: float, changes: Floats | None) -> tuple[float, float]:
    """`exact` of any score in [0, 1] of `size` clusters, at most; of fewer where the scores without each
    cluster (`changes`) spread more than right and wrong answers do."""
    spread = 0.0
    if changes is not None:
        spread = float(((changes - changes.mean()) ** 2).sum()) * (1 - 1 / len(changes))
    if 0 < value * (1 - value) < size * spread:
        size = value * (1 - value) / spread
    return exact(value, size)


def carriers(changes: Floats) -> float:
    """How many clusters carry a score's spread, by what leaving out each changes: (sum of squares)^2 / sum of
    fourth powers, from 1 up to their number. Of right and wrong answers about as many as the rarer kind."""
    moved = changes - changes.mean()
    moved[np.abs(moved) < 1e-12] = 0.0
    squares = moved**2
    return float(squares.sum() ** 2 / (squares**2).sum()) if squares.any() else 0.0


def _changes(metric: Metric, rows: Rows, index: Ints) -> Floats | None:
    """The score without each cluster (the jackknife), of many images without each that says anything; None of
    AP over many of these, where it takes long."""
    groups = int(index.max()) + 1
    if not isinstance(rows, list):
        sums = cluster_sums(rows, index)
        return np.nan_to_num(metric.value(sums.sum(axis=0) - sums))
    some = np.arange(groups) if groups < FEW else np.unique(index[~metric.silent(rows)])
    if len(some) >= FEW:
        return None
    return np.nan_to_num([metric.reduce(rows, (index != g).astype(np.int64)) for g in some])


def _alone(metric: Metric, rows: Rows, index: Ints) -> int:
    """How many clusters, up to `FEWEST`, have a score of their own other than the commonest; an image without
    objects has none and is left out."""
    members: dict[int, list[Any]] = {}
    for place, row in zip(index.tolist(), rows, strict=True):
        members.setdefault(place, []).append(row)
    found: Counter[float] = Counter()
    for some in members.values():
        if not math.isnan(score := metric.reduce(some)):
            found[score] += 1
        if found.total() - max(found.values(), default=0) >= FEWEST:
            break
    return found.total() - max(found.values(), default=0)


def effective_size(metric: Metric, rows: Rows, index: Ints) -> float:
    """How many clusters of equal weight say as much as these, at most: Kish's 1/sum of squared weights for a
    ratio of sums and a mean over groups, else the number of clusters that say anything."""
    if strata := metric.strata(rows):
        sizes = [effective_size(s.metric, s.rows, cluster_index(index[s.places].tolist())) for s in strata]
        return float(1 / sum(s.weight**2 / max(size, 1.0) for s, size in zip(strata, sizes, strict=True)))
    groups = int(index.max(initial=-1)) + 1
    if isinstance(rows, list):
        return float(len(np.unique(index[~metric.silent(rows)])))
    if type(metric).value is not Metric.value:
        return float(groups)
    weights = np.bincount(index, weights=rows[:, 1], minlength=groups)
    squares = float(weights @ weights)
    return float(weights.sum()) ** 2 / squares if squares > 0 else float(groups)


# --- means over groups -------------------------------------------------------------------------------


def _combined(metric: Metric, strata: Sequence[Stratum], index: Ints) -> Interval:
    """The interval of a weighted mean of scores from theirs (Zou & Donner 2008, "MOVER"): distances to the
    bounds add up as errors do, with the correlations of shared clusters (one image, many languages)."""
    bounds, methods = [], set()
    for s in strata:
        part = cluster_index(index[s.places].tolist())
        if not len(part):
            return _NONE
        low, high, method = _single(s.metric, s.rows, part, len(strata) > 1)
        value = s.metric.reduce(s.rows)
        if low is None or high is None:
            return _NONE
        low, high = max(low, metric.minimum), high if metric.maximum is None else min(high, metric.maximum)
        bounds.append((value, value - low, high - value))
        methods.add(method)
    values, below, above = np.array(bounds).T
    weights = np.array([s.weight for s in strata])
    alike = _correlations(strata, index)
    mean = float(weights @ values)
    low, high = (
        mean + sign * math.sqrt(max(0.0, float((weights * d) @ alike @ (weights * d))))
        for sign, d in ((-1, below), (1, above))
    )
    return low, high, f"groups({', '.join(sorted(methods))})" if len(strata) > 1 else methods.pop()


def _correlations(strata: Sequence[Stratum], index: Ints) -> Floats:
    """How far the errors of the strata go together, (strata, strata): by what leaving out each cluster
    changes; by the clusters that they share, as if these were wholly alike, where it changes nothing."""
    groups = int(index.max()) + 1
    changes, members = np.zeros((len(strata), groups)), np.zeros((len(strata), groups))
    for k, s in enumerate(strata):
        here = index[s.places]
        sums = np.stack([np.bincount(here, weights=c, minlength=groups) for c in s.rows.T], axis=1)
        total = sums.sum(axis=0)
        changes[k] = np.nan_to_num(s.metric.value(total) - s.metric.value(total - sums))
        changes[k][np.abs(changes[k]) < 1e-12] = 0.0
        members[k, here] = 1.0
    found = np.eye(len(strata))
    for i, j in itertools.combinations(range(len(strata)), 2):
        one, two = (changes[i], changes[j]) if changes[i].any() and changes[j].any() else members[[i, j]]
        product = float(one @ two) / math.sqrt(float(one @ one) * float(two @ two))
        found[i, j] = found[j, i] = max(0.0, product)
    return found


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
    return (centre - half if successes > 0 else 0.0), (centre + half if successes < n else 1.0)


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


def exact(p: float, size: float, groups: float = math.inf, level: float = LEVEL) -> tuple[float, float]:
    """Clopper and Pearson's interval for a proportion at an effective `size` (Korn & Graubard 1998: less by
    Student's t for few clusters). For any score in [0, 1], since none of that mean spreads more than 0/1."""
    from scipy.special import betaincinv

    if not math.isinf(groups):
        size *= (student(math.inf, level) / student(max(1.0, groups - 1), level)) ** 2
    right, tail = p * size, (1 - level) / 2
    low = float(betaincinv(right, size - right + 1, tail)) if right > 0 else 0.0
    high = float(betaincinv(right + 1, size - right, 1 - tail)) if right < size else 1.0
    return low, high


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
    if isinstance(rows, list):
        return np.array([metric.reduce(rows, counts) for counts in draws(index, seed)])
    return metric.value(resampled_sums(cluster_sums(np.asarray(rows, dtype=np.float64), index), seed=seed))


def draws(index: Ints, seed: int = 0) -> Iterator[Ints]:
    """How often each row (n,) is drawn in 500 resamples of whole clusters."""
    rng, groups = np.random.default_rng(seed), int(index.max()) + 1
    for _ in range(RESAMPLES_SLOW):
        yield np.bincount(rng.integers(0, groups, size=groups), minlength=groups)[index]


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
