"""A score as the unweighted mean over groups (languages, question types), each scored on its own.

Knows any metric whose rows add up; not tasks, models or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.errors import DataError
from evalkit.types import Metric, Rows


def rows_by_group(
    metric: Metric, answers: Sequence[Any], targets: Sequence[Any], groups: Sequence[str]
) -> Rows:
    """`metric.rows` of each group by itself, so that CIDEr's idf, say, is the language's own."""
    parts: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        parts.setdefault(group, []).append(index)
    whole: list[Any] = [None] * len(groups)
    arrays = True
    for chosen in parts.values():
        rows = metric.rows([answers[i] for i in chosen], [targets[i] for i in chosen])
        arrays = arrays and not isinstance(rows, list)
        for index, row in zip(chosen, rows, strict=True):
            whole[index] = row
    return np.asarray(whole, dtype=np.float64) if arrays else whole


class GroupMean(Metric):
    """The mean of `metric` over the groups that are not left out; reads rows that `spread` made.

    A spread row holds the metric's columns once for each group, zero but for the sample's own, so
    that sums over samples are sums within groups, and resampling clusters works as for any metric.
    """

    def __init__(self, metric: Metric, groups: Sequence[str], without: Sequence[str] = ()) -> None:
        self.metric, self.names = metric, sorted(set(groups))
        missing = sorted(set(without) - set(self.names))
        if missing:
            raise DataError(f"group_mean: no group '{missing[0]}'; there are: {', '.join(self.names)}")
        self.counted = [name not in without for name in self.names]
        for told in ("maximum", "minimum", "lower_is_better", "corpus"):  # they hold for the mean too
            setattr(self, told, getattr(metric, told))

    def rows(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Rows:
        raise NotImplementedError("rows are made by the metric inside, then spread")

    def spread(self, rows: Rows, groups: Sequence[str]) -> npt.NDArray[np.float64]:
        """Rows (n, columns) as (n, groups · columns)."""
        if isinstance(rows, list):
            raise DataError("group_mean: needs a metric whose rows are numbers that add up")
        place = {name: i for i, name in enumerate(self.names)}
        wide = np.zeros((len(rows), len(self.names), rows.shape[1]))
        wide[np.arange(len(rows)), [place[g] for g in groups]] = rows
        return wide.reshape(len(rows), -1)

    def value(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        each = self._each(sums)
        return np.asarray(each[..., self.counted].mean(axis=-1))

    def _each(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return self.metric.value(sums.reshape(*sums.shape[:-1], len(self.names), -1))

    def details(self, rows: Rows) -> dict[str, float]:
        """The mean over all groups, where some are left out of the score."""
        if all(self.counted):
            return {}
        sums = np.asarray(rows, dtype=np.float64).sum(axis=0)
        return {f"mean of all {len(self.names)} groups": float(self._each(sums).mean())}

    def tools(self) -> str:
        return self.metric.tools()
