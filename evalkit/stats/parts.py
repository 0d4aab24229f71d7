"""95 % intervals of a score's parts, such as classes: each as of a score of its own, over the clusters that
show the part.

Knows counts and reductions; not answers or metrics.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from evalkit.stats import f1, intervals
from evalkit.stats.intervals import FEW, FEWEST, Floats, Ints

LOW, HIGH = " low", " high"  # after a figure's name
IMAGES = "images"  # clusters that show a part: what its intervals are drawn from

Bounds = dict[str, float]
"""`{"F1 low": ..., "F1 high": ..., "images": ...}`: what is told of one part beside its figures."""

_RATIOS: Mapping[str, Callable[[Floats], Floats]] = {
    "precision": lambda sums: sums[..., 0] / sums[..., 1],
    "recall": lambda sums: sums[..., 0] / sums[..., 2],
    "F1": f1.f1,
}


def of_table(table: f1.Table, index: Ints) -> dict[str, Bounds]:
    """Of precision, recall and F1 of each class of a table whose samples are in the clusters `index` (n,)."""
    order = np.argsort(table.name, kind="stable")
    bounds = np.searchsorted(table.name[order], np.arange(len(table.names) + 1))
    found = {}
    for name, (start, end) in zip(table.names, itertools.pairwise(bounds.tolist()), strict=True):
        lines = order[start:end]
        found[name] = of_counts(table.counts[lines], index[table.sample[lines]])
    return found


def of_counts(counts: Floats, index: Ints) -> Bounds:
    """Of precision, recall and F1 of one class, from right, given, wanted (k, 3) in the clusters `index`
    (k,)."""
    shown = counts.any(axis=1)
    if not shown.any():
        return {IMAGES: 0}
    sums = intervals.cluster_sums(counts[shown], intervals.cluster_index(index[shown].tolist()))
    found: Bounds = {}
    divided = {"precision": sums[:, 1], "recall": sums[:, 2], "F1": sums[:, 1] + sums[:, 2]}
    for figure, value in _RATIOS.items():
        if both := _of_sums(value, sums[divided[figure] > 0]):
            found |= pair(figure, both)
    return found | {IMAGES: len(sums)}


def of_curves(
    reduce: Callable[[Ints], Floats], clusters: int, drawn: Callable[[], Floats]
) -> list[tuple[float, float] | None]:
    """Of figures in [0, 1] that are no functions of sums. `reduce` gives them (k,) when each cluster is drawn
    so often, `drawn` in every resample (resamples, k); as of AP itself, fewer than `FEW` clusters are not
    resampled."""
    every = np.ones(clusters, dtype=np.int64)
    values = reduce(every)
    if clusters < 2 or np.isnan(values).all():
        return [None] * len(values)
    if clusters < FEW:
        changes = np.nan_to_num([reduce(each) for each in 1 - np.eye(clusters, dtype=np.int64)])
        return [intervals.closed(v, clusters, c) for v, c in zip(values.tolist(), changes.T, strict=True)]
    if _alone(reduce(each) for each in np.eye(clusters, dtype=np.int64)) < FEWEST:
        return [intervals.closed(v, clusters, None) for v in values.tolist()]
    return [intervals.percentiles(column, clusters) for column in drawn().T]


def pair(figure: str, both: tuple[float, float]) -> Bounds:
    """A figure's bounds by their names."""
    return {figure + LOW: both[0], figure + HIGH: both[1]}


def _of_sums(value: Callable[[Floats], Floats], sums: Floats) -> tuple[float, float] | None:
    clusters = len(sums)
    if clusters < 2:
        return None
    total = sums.sum(axis=0)
    changes = np.nan_to_num(value(total - sums))
    if min(clusters, intervals.carriers(changes)) >= FEWEST:
        return intervals.percentiles(value(intervals.resampled_sums(sums)), clusters)
    return intervals.closed(float(value(total)), clusters, changes)


def _alone(values: Iterator[Floats]) -> int:
    """How many clusters, up to `FEWEST`, have a first figure of their own other than the commonest."""
    found: Counter[float] = Counter()
    for value in values:
        if not np.isnan(value[0]):
            found[float(value[0])] += 1
        if found.total() - max(found.values(), default=0) >= FEWEST:
            break
    return found.total() - max(found.values(), default=0)
