"""Precision, recall and F1 from counts by class: over all counts, over classes, over samples.

Knows no answer and no target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Average = Literal["micro", "macro", "samples"]
Counts = Mapping[str, Sequence[float]]
"""By class: how many are right, given and wanted."""


@dataclass(frozen=True)
class Table:
    """The counts of many samples, one line for each class of each sample."""

    names: tuple[str, ...]  # sorted
    size: int  # samples
    sample: npt.NDArray[np.intp]  # (k,)
    name: npt.NDArray[np.intp]  # (k,)
    counts: Floats  # (k, 3): right, given, wanted

    def score(self, average: Average, drawn: npt.NDArray[np.generic] | None = None) -> float:
        """F1; `drawn` (n,) says how often each sample is drawn. NaN where nothing is given nor wanted.

        micro: of all counts. macro: the mean over classes with anything given or wanted. samples: the mean
        over samples; one with nothing given nor wanted is right.
        """
        times = np.ones(self.size) if drawn is None else np.asarray(drawn, dtype=np.float64)
        if average == "samples":
            own = f1(self.by(self.sample, self.size))
            return float(np.where(np.isnan(own), 1.0, own) @ times / times.sum()) if times.sum() else np.nan
        if average == "micro":
            return float(f1(self.sums(drawn)))
        sums = self.by(self.name, len(self.names), times)
        found = f1(sums)
        known = found[~np.isnan(found)]
        return float(known.mean()) if len(known) else float("nan")

    def details(self) -> dict[str, float]:
        """Precision and recall of all counts, F1 by each average, and the share of samples that are all
        right; what is undefined is left out."""
        wrong = np.bincount(self.sample, (np.ptp(self.counts, axis=1) > 0), minlength=self.size)
        right = {"all right": float((wrong == 0).mean())} if self.size else {}
        averages: tuple[Average, ...] = ("micro", "macro", "samples")
        found = {f"{name} F1": self.score(name) for name in averages}
        return {**shares(self.sums()), **{k: v for k, v in found.items() if not np.isnan(v)}, **right}

    def sums(self, drawn: npt.NDArray[np.generic] | None = None) -> Floats:
        """(3,): all counts added up."""
        times = np.ones(self.size) if drawn is None else np.asarray(drawn, dtype=np.float64)
        result: Floats = times[self.sample] @ self.counts
        return result

    def by(self, index: npt.NDArray[np.intp], size: int, times: Floats | None = None) -> Floats:
        """(size, 3): the counts added up by an index of the lines."""
        weights = self.counts if times is None else self.counts * times[self.sample, None]
        sums = [np.bincount(index, column, minlength=size) for column in weights.T]
        return np.stack(sums, axis=-1).astype(np.float64)

    def classes(self) -> dict[str, dict[str, float]]:
        """Precision, recall, F1 and the counts of each class; a figure that is undefined is left out."""
        return {
            name: figures(row)
            for name, row in zip(self.names, self.by(self.name, len(self.names)), strict=True)
        }


def table(rows: Iterable[Any], counts: Callable[[Any], Counts]) -> Table:
    """The counts of samples, in their order; `counts` reads those of one row. The last table is remembered: a
    bootstrap asks for it often."""
    if not _last or _last[0][0] is not rows or _last[0][1] != counts:
        _last[:] = [(rows, counts, _table([counts(row) for row in rows]))]
    return _last[0][2]


_last: list[tuple[Any, Any, Table]] = []


def _table(rows: Sequence[Counts]) -> Table:
    names = tuple(sorted({name for row in rows for name in row}))
    place = {name: i for i, name in enumerate(names)}
    lines = [(i, place[name], *counts) for i, row in enumerate(rows) for name, counts in row.items()]
    array = np.array(lines, dtype=np.float64).reshape(-1, 5)
    return Table(names, len(rows), array[:, 0].astype(np.intp), array[:, 1].astype(np.intp), array[:, 2:])


def f1(counts: Floats) -> Floats:
    """F1 of (..., 3) right, given, wanted; NaN where nothing is given nor wanted."""
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Floats = 2 * counts[..., 0] / (counts[..., 1] + counts[..., 2])
    return result


def shares(counts: Floats) -> dict[str, float]:
    """Precision and recall of one (3,); what has nothing to divide by is left out."""
    right, given, wanted = map(float, counts)
    found = {"precision": right / given} if given else {}
    return found | ({"recall": right / wanted} if wanted else {})


def figures(counts: Floats) -> dict[str, float]:
    """What a table shows of one class."""
    right, given, wanted = map(float, counts)
    score = {"F1": float(f1(counts))} if given or wanted else {}
    return {**shares(counts), **score, "right": int(right), "given": int(given), "wanted": int(wanted)}
