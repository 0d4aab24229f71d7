"""The difference of two models on the same samples: interval, tests, smallest detectable drop.

Knows rows, clusters and metrics; not runs, files or verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from evalkit.stats import intervals, significance
from evalkit.stats.intervals import Floats, Ints
from evalkit.types import Metric, Rows

POWER = 0.8
ROUNDING = 1e-9  # smaller differences come from sums added up in another order, not from changes
SPARSE = intervals.FEWEST  # with fewer changed clusters, resampling them says too little


@dataclass(frozen=True)
class Difference:
    """B minus A in one metric; positive is always better (`lower_is_better` swaps the sign).

    `low` and `high` are the 95 % interval, `error` the standard error, `p` the two-sided p of the
    test named by `test`; `others` are further p-values, recorded only. `gained`, `lost`: samples
    whose row got better or worse (None if rows can't be ordered). `detectable` is the smallest
    true drop that this comparison finds in 80 of 100 cases.
    """

    a: float
    b: float
    n: int
    clusters: int
    value: float
    low: float
    high: float
    error: float
    p: float
    test: str
    method: str
    detectable: float
    changed: int  # clusters with any difference
    gained: tuple[int, ...] | None = None  # places in the rows
    lost: tuple[int, ...] | None = None
    others: dict[str, float] = field(default_factory=dict)
    sizes: tuple[float, float, float, float] | None = None  # for Tango's test: gained, lost, n, scale

    def p_above(self, shift: float) -> float:
        """One-sided p against "the difference is at most `shift`": small when it is surely above."""
        return self._tail(shift, -1)

    def p_below(self, shift: float) -> float:
        """One-sided p against "the difference is at least `shift`": small when it is surely below."""
        return self._tail(shift, 1)

    def needed(self, margin: float) -> int | None:
        """Samples needed to decide non-inferiority at `margin` for a difference like this one (80 % power,
        one-sided 5 %): the error falls with the square root of n. None if the number is unreasonable."""
        distance = self.value + margin
        if not self.error > 0 or abs(distance) < self.error / 100:
            return None
        if self.changed == 0:  # then the bound falls with n, not with its square root
            return math.ceil(max(self.n * -self.low / margin, self.n + 1))
        count = self.n * ((1.6449 + 0.8416) * self.error / distance) ** 2
        return math.ceil(max(count, self.n + 1)) if count < 1e8 else None

    def _tail(self, shift: float, side: int) -> float:
        from scipy.special import ndtr, stdtr

        if self.clusters < 2 or math.isnan(self.error):
            return 1.0
        if self.sizes is not None:
            gained, lost, n, scale = self.sizes
            score = side * tango_score(gained, lost, n, shift / scale)
            return float(ndtr(score) if self.clusters == self.n else stdtr(self.clusters - 1, score))
        if self.error == 0:
            return 0.0 if side * (shift - self.value) > 0 else 1.0
        return float(stdtr(self.clusters - 1, side * (self.value - shift) / self.error))


def difference(metric: Metric, a: Rows, b: Rows, index: Ints, level: float = intervals.LEVEL) -> Difference:
    """Compares two models' rows of the same samples in the same order; `index` are their clusters.

    Means of 0/1 rows get Tango's score interval (1998) at the effective sample size and, without
    clusters, McNemar's exact test; other means the paired clustered bootstrap and the sign-flip test;
    other metrics only the paired bootstrap. Where fewer than `SPARSE` clusters changed, any bounded metric
    takes Tango's interval; an unbounded one of fewer clusters in all has none. With fewer than two clusters,
    or for rows that cannot be drawn one by one, the bounds are NaN.
    """
    if isinstance(a, list) or isinstance(b, list):
        return _by_resampling(metric, a, b, index, level)
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if intervals.is_mean(metric, first) and intervals.is_mean(metric, second):
        return _of_means(metric, first[:, 0], second[:, 0], index, level)
    return _by_resampling(metric, first, second, index, level)


def undefined(a: float, b: float, n: int, clusters: int) -> Difference:
    """What stands for the difference where one of two scores is none (NaN)."""
    return Difference(
        a=a, b=b, n=n, clusters=clusters, value=math.nan, low=math.nan, high=math.nan, error=math.nan, p=1.0,
        test="none", method="none", detectable=math.nan, changed=0,
    )  # fmt: skip


def _of_means(metric: Metric, a: Floats, b: Floats, index: Ints, level: float) -> Difference:
    sign = -1.0 if metric.lower_is_better else 1.0
    moved = sign * (b - a)
    moved[np.abs(moved) < ROUNDING] = 0.0
    n, clusters = len(moved), int(index.max()) + 1
    sums: Floats = np.bincount(index, weights=moved, minlength=clusters).astype(np.float64)
    changed = len(np.unique(index[moved != 0]))
    few = clusters < 2 or (clusters < SPARSE and metric.maximum is None) or bool(metric.no_interval())
    binary = bool(np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all())
    value, others = float(moved.mean()), dict[str, float]()
    error = intervals.cluster_error(moved, index)
    sparse = changed < SPARSE and metric.maximum is not None
    scale = 1.0 if binary or metric.maximum is None else metric.maximum - metric.minimum
    tested: tuple[float, float, float, float] | None = None
    if few:
        low = high = error = math.nan
        method = "none"
    elif binary or sparse:
        sizes = effective(moved / scale, index)
        low, high = tango(*sizes, _quantile(clusters, n, level))
        low, high, method, tested = low * scale, high * scale, "tango", (*sizes, scale)
        # with very few changes the plain error is much too small
        error = max(error, (high - low) / (2 * intervals.student(clusters - 1, level)))
    else:
        low, high = _bootstrap_mean(sums, index, clusters, level)
        method = f"bootstrap({intervals.RESAMPLES})"
    flips = significance.sign_flip(moved, index) if clusters > 1 else 1.0
    others["sign_flip"] = flips
    if binary:
        for name in ("exact", "mid"):
            found = significance.mcnemar(int((moved > 0).sum()), int((moved < 0).sum()), name)
            others[f"mcnemar_{name}"] = found.p
    p, test = (others["mcnemar_exact"], "mcnemar") if binary and clusters == n else (flips, "sign_flip")
    return Difference(
        a=float(a.mean()), b=float(b.mean()), n=n, clusters=clusters, value=value, low=low, high=high,
        error=error, p=p, test=test, method=method, detectable=_detectable(error, clusters), changed=changed,
        gained=tuple(np.flatnonzero(moved > 0).tolist()), lost=tuple(np.flatnonzero(moved < 0).tolist()),
        others=others, sizes=tested,
    )  # fmt: skip


def _bootstrap_mean(sums: Floats, index: Ints, clusters: int, level: float) -> tuple[float, float]:
    sizes = np.bincount(index, minlength=clusters).astype(np.float64)
    drawn = intervals.resampled_sums(np.stack([sums, sizes], axis=1))
    return intervals.percentiles(drawn[:, 0] / drawn[:, 1], clusters, level)


def _by_resampling(metric: Metric, a: Rows, b: Rows, index: Ints, level: float) -> Difference:
    """Any metric: both models are reduced on the same resamples of clusters."""
    sign = -1.0 if metric.lower_is_better else 1.0
    clusters = int(index.max()) + 1
    if isinstance(a, list) or isinstance(b, list):
        first = intervals.resampled(metric, a, index)  # all of A, then all of B: rows are prepared once
        scores = sign * (intervals.resampled(metric, b, index) - first)
        alike = [x == y for x, y in zip(a, b, strict=True)]
        gained: tuple[int, ...] | None = None
        lost: tuple[int, ...] | None = None
    else:
        width = a.shape[1]
        drawn = intervals.resampled_sums(intervals.cluster_sums(np.hstack([a, b]), index))
        scores = sign * (metric.value(drawn[:, width:]) - metric.value(drawn[:, :width]))
        alike = [bool((np.abs(x - y) < ROUNDING).all()) for x, y in zip(a, b, strict=True)]
        moved = sign * (metric.value(b) - metric.value(a))
        moved[np.abs(moved) < ROUNDING] = 0.0
        by_sample = not np.isnan(moved).all()  # a mean over groups has no value for one sample
        gained = tuple(np.flatnonzero(moved > 0).tolist()) if by_sample else None
        lost = tuple(np.flatnonzero(moved < 0).tolist()) if by_sample else None
    before, after = metric.reduce(a), metric.reduce(b)
    value = sign * (after - before)
    finite = scores[np.isfinite(scores)]
    low, high = intervals.percentiles(scores, clusters, level)
    error = (
        float(finite.std(ddof=1)) * math.sqrt(clusters / max(1, clusters - 1))
        if len(finite) > 1
        else math.nan
    )
    same = all(alike)
    changed = len({int(c) for c, s in zip(index, alike, strict=True) if not s})
    method, sizes = f"bootstrap({len(scores)})", None
    if metric.no_interval() or (metric.maximum is None and clusters < SPARSE):
        low = high = error = math.nan
        method = "none"
    elif changed < SPARSE and clusters > 1:
        scale = metric.maximum - metric.minimum if metric.maximum is not None else max(1.0, abs(value))
        most = min(intervals.effective_size(metric, rows, index) for rows in (a, b))
        sizes = (*_net(value / scale, 0.0 if math.isnan(error) else error / scale, most), most, scale)
        low, high = (scale * x for x in tango(*sizes[:3], _quantile(clusters, len(index), level)))
        method = "tango"
        error = (high - low) / (2 * intervals.student(clusters - 1, level))
    found = Difference(
        a=before, b=after, n=len(index), clusters=clusters, value=value, low=low, high=high, error=error,
        p=1.0, test="bootstrap", method=method, sizes=sizes,
        detectable=_detectable(error, clusters), gained=gained, lost=lost,
        changed=changed, others={} if same or not len(finite) else {"bootstrap_tail": _tail_p(finite, value)},
    )  # fmt: skip
    p = 1.0 if same else min(1.0, 2 * min(found.p_above(0.0), found.p_below(0.0)))
    return replace(found, p=p)


def _net(value: float, error: float, n: float) -> tuple[float, float]:
    """(gained, lost) of `n` samples that give this difference with this standard error."""
    changed = min(n, max(abs(value) * n, n * (n * error**2 + value**2)))
    return (changed + value * n) / 2, (changed - value * n) / 2


def _tail_p(scores: Floats, value: float) -> float:
    """Two-sided p from the resamples alone: how often the centred difference is as far out."""
    return float((np.abs(scores - value) >= abs(value)).sum() + 1) / (len(scores) + 1)


def _detectable(error: float, clusters: int) -> float:
    from scipy.special import ndtri

    if clusters < 2 or math.isnan(error):
        return math.nan
    return (intervals.student(clusters - 1) + float(ndtri(POWER))) * error


# --- where boxes are -----------------------------------------------------------------------------------

AXES = ("down", "right")


def offsets(metric: Metric, a: Rows, b: Rows, index: Ints) -> dict[str, Difference]:
    """How far B's boxes are from A's, relative to the same target: down and right, in 1/1024 of the image.

    Uses the samples in which both found their target; several boxes of one sample count as their mean.
    Student's t, clustered. Detects small shifts that overlap hardly shows, because boxes that are all
    shifted alike scatter little. Empty for a metric without boxes, and with fewer than `SPARSE` clusters.
    """
    first, second = metric.offsets(a), metric.offsets(b)
    if first is None or second is None:
        return {}
    both = (first[:, 2] > 0) & (second[:, 2] > 0)
    part = intervals.cluster_index(index[both].tolist())
    clusters = int(part.max(initial=-1)) + 1
    if clusters < SPARSE:
        return {}
    found = {}
    for axis, name in enumerate(AXES):
        before, after = (side[both, axis] / side[both, 2] for side in (first, second))
        moved = after - before
        value, error = float(moved.mean()), intervals.cluster_error(moved, part)
        half = intervals.student(clusters - 1) * error
        d = Difference(
            a=float(before.mean()), b=float(after.mean()), n=len(moved), clusters=clusters, value=value,
            low=value - half, high=value + half, error=error, p=1.0, test="t", method="t",
            detectable=_detectable(error, clusters), changed=len(np.unique(part[moved != 0])),
        )  # fmt: skip
        found[name] = replace(d, p=min(1.0, 2 * min(d.p_above(0.0), d.p_below(0.0))))
    return found


# --- paired proportions --------------------------------------------------------------------------------


def tango(gained: float, lost: float, n: float, z: float) -> tuple[float, float]:
    """Tango's score interval of a paired difference of proportions (Statistics in Medicine 1998).

    `gained` and `lost` are the numbers of samples that only B or only A got right; they and `n` may be
    fractions (effective sizes). Never of width 0: 300 unchanged samples give about ±1.3 points.
    """
    return _root(gained, lost, n, z), _root(gained, lost, n, -z)


def tango_score(gained: float, lost: float, n: float, shift: float) -> float:
    """The score statistic for a true difference of `shift`; at 0 it is McNemar's (x-y)/sqrt(x+y)."""
    square = -gained - lost + (2 * n - gained + lost) * shift
    product = -lost * shift * (1 - shift)
    root = math.sqrt(max(0.0, square * square - 8 * n * product))
    only_a = (root - square) / (4 * n)
    variance = n * (2 * only_a + shift * (1 - shift))
    if variance <= 0:
        return math.copysign(math.inf, gained - lost - n * shift) if gained - lost != n * shift else 0.0
    return (gained - lost - n * shift) / math.sqrt(variance)


def _root(gained: float, lost: float, n: float, z: float) -> float:
    """The shift whose score is `z`; the score falls as the shift grows."""
    low, high = -1.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if tango_score(gained, lost, n, middle) > z:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def effective(moved: Floats, index: Ints) -> tuple[float, float, float]:
    """(gained, lost, n) for Tango's test at the effective size: n x (variance of independent samples /
    of clustered ones), at most n.

    `moved` is in [-1, 1]; graded values count as fractions, which never makes the interval shorter.
    If nothing changed, the number of clusters is the size.
    """
    n, clusters = len(moved), int(index.max()) + 1
    share = 1.0
    if clusters < n:
        plain = float((moved**2).mean() - moved.mean() ** 2) / n
        robust = intervals.cluster_error(moved, index) ** 2
        share = min(1.0, plain / robust) if robust > 0 and plain > 0 else clusters / n
    gained, lost = float(moved[moved > 0].sum()), float(-moved[moved < 0].sum())
    return gained * share, lost * share, n * share


def _quantile(clusters: int, n: int, level: float) -> float:
    return intervals.student(clusters - 1 if clusters < n else math.inf, level)


def simultaneous(
    metric: Metric, a: Rows, b: Rows, index: Ints, groups: Sequence[str], least: int = 50
) -> dict[str, Difference]:
    """The difference within every group of at least `least` samples, with intervals that hold for all
    groups together (Bonferroni)."""
    names = [name for name in sorted(set(groups)) if sum(g == name for g in groups) >= least]
    if len(set(groups)) < 2:
        return {}
    level = 1 - (1 - intervals.LEVEL) / max(1, len(names))
    found = {}
    for name in names:
        chosen = np.array([i for i, g in enumerate(groups) if g == name])
        part_a: Rows = [a[i] for i in chosen] if isinstance(a, list) else a[chosen]
        part_b: Rows = [b[i] for i in chosen] if isinstance(b, list) else b[chosen]
        part = intervals.cluster_index(index[chosen].tolist())
        found[name or "other"] = difference(metric, part_a, part_b, part, level)
    return found
