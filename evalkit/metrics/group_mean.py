"""The unweighted mean over groups (languages, question types) of another metric's score for each group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit import registry
from evalkit.errors import DataError
from evalkit.types import Metric, Rows, Stratum


@dataclass(frozen=True)
class GroupMean(Metric):
    """The mean over `groups`, except `without`, of the metric `of`; `details` has the mean over all groups.

    A task turns it on with `group_mean: true`. A row holds the metric's columns once for each group,
    zero except for the sample's own group, so that sums over samples are sums within groups and
    resampling clusters works as for any metric. Without `groups` all samples are one group.
    """

    of: str = "exact_match"
    groups: tuple[str, ...] = ("",)
    without: tuple[str, ...] = ()
    metric: Metric = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        metric: Metric = registry.make("metrics", self.of)
        object.__setattr__(self, "metric", metric)
        for name in ("groups", "without"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("wants", "takes", "maximum", "minimum", "lower_is_better", "corpus"):  # of the mean too
            object.__setattr__(self, name, getattr(metric, name))
        columns = tuple(f"{group} {column}".strip() for group in self.groups for column in metric.columns)
        object.__setattr__(self, "columns", columns)
        missing = sorted(set(self.without) - set(self.groups))
        if missing:
            raise DataError(f"group_mean: no group '{missing[0]}'; there are: {', '.join(self.groups)}")

    def rows(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Rows:
        """Rows of samples that all belong to the first group."""
        return self.spread(self.metric.rows(answers, targets), [self.groups[0]] * len(targets))

    def own_rows(self, answers: Sequence[Any], targets: Sequence[Any], groups: Sequence[str]) -> Rows:
        """The inner metric's rows, made group by group, so that CIDEr's idf, say, is that of one language."""
        parts: dict[str, list[int]] = {}
        for index, group in enumerate(groups):
            parts.setdefault(group, []).append(index)
        whole: list[Any] = [None] * len(groups)
        arrays = True
        for chosen in parts.values():
            rows = self.metric.rows([answers[i] for i in chosen], [targets[i] for i in chosen])
            arrays = arrays and not isinstance(rows, list)
            for index, row in zip(chosen, rows, strict=True):
                whole[index] = row
        return np.asarray(whole, dtype=np.float64) if arrays else whole

    def spread(self, rows: Rows, groups: Sequence[str]) -> npt.NDArray[np.float64]:
        """The inner metric's rows (n, columns) as (n, groups · columns)."""
        if isinstance(rows, list):
            raise DataError(f"group_mean: {self.of} has no rows of numbers that add up")
        place = {name: i for i, name in enumerate(self.groups)}
        wide = np.zeros((len(rows), len(self.groups), rows.shape[1]))
        wide[np.arange(len(rows)), [place[g] for g in groups]] = rows
        return wide.reshape(len(rows), len(self.groups) * rows.shape[1])

    def narrow(self, rows: Rows) -> npt.NDArray[np.float64]:
        """The inverse of `spread`: rows (n, groups · columns) to the inner metric's rows (n, columns)."""
        wide = np.asarray(rows, dtype=np.float64)
        return np.asarray(wide.reshape(len(wide), len(self.groups), -1).sum(axis=1))

    def value(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        counted = [name not in self.without for name in self.groups]
        return np.asarray(self._each(sums)[..., counted].mean(axis=-1))

    def _each(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return self.metric.value(sums.reshape(*sums.shape[:-1], len(self.groups), -1))

    def details(self, rows: Rows) -> dict[str, float]:
        """The mean over all groups, where some are left out of the score."""
        if not self.without:
            return {}
        sums = np.asarray(rows, dtype=np.float64).sum(axis=0)
        mean = float(self._each(sums).mean())
        return {} if math.isnan(mean) else {f"mean of all {len(self.groups)} groups": mean}

    def strata(self, rows: Rows) -> list[Stratum]:
        """The groups that count; a sample belongs to the group whose columns are not all zero."""
        wide = np.asarray(rows, dtype=np.float64).reshape(len(rows), len(self.groups), -1)
        counted = [k for k, name in enumerate(self.groups) if name not in self.without]
        found = []
        for k in counted:
            places = np.flatnonzero(wide[:, k].any(axis=1))
            found.append(Stratum(1 / len(counted), self.metric, wide[places, k], places))
        return found

    def why_undefined(self, rows: Rows) -> str:
        """The first group that has no score, and how many others have none."""
        sums = np.asarray(rows, dtype=np.float64).sum(axis=0).reshape(len(self.groups), -1)
        values = self.metric.value(sums)
        lacking = [
            f"no sample of group {name}" if not total.any() else f"{self.metric.undefined} in group {name}"
            for name, total, value in zip(self.groups, sums, values, strict=True)
            if math.isnan(value) and name not in self.without
        ]
        if not lacking:
            return self.undefined
        more = len(lacking) - 1
        return lacking[0] + (f" and {more} other{'s' if more > 1 else ''}" if more else "")

    def unfit(self, target: Any) -> str:
        return self.metric.unfit(target)

    def no_interval(self) -> str:
        return self.metric.no_interval()

    def tools(self) -> str:
        return self.metric.tools()
