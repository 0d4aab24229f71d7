"""F1 of the fields of answers that are JSON, over all values, over fields or over samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from evalkit.stats import f1, parts
from evalkit.text import trees
from evalkit.text.answers import accepted
from evalkit.types import Breakdowns, Metric, Rows

UNREAD = "(no JSON)"  # the field of an answer that is none where nothing is wanted either


@dataclass(frozen=True)
class JsonFields(Metric):
    """F1 of values (targets: tuples of JSON texts): one is right that stands in its field and is the same.

    `tolerance`, `days`, `lowercase` and `lists` are those of `evalkit.text.trees.Rules`; `lists='flat'` is
    clovaai/donut donut/util.py cal_f1 @ 11bc663f, for values that are texts. An answer that is no JSON gives
    no value; how many are so is a remark. Of several accepted answers the one with the best F1 counts.

    `average`: over all values (micro), the mean over fields (macro), or over samples.
    """

    average: Literal["micro", "macro", "samples"] = "micro"
    tolerance: float | None = None
    days: int | None = None
    lowercase: bool = False
    lists: Literal["matched", "ordered", "flat"] = "matched"

    takes: ClassVar[tuple[str, ...]] = ("texts",)
    columns: ClassVar[tuple[str, ...]] = ()
    undefined: ClassVar[str] = "no target has a value"

    def rows(self, answers: Sequence[str | None], targets: Sequence[Any]) -> Rows:
        """One dict a sample: by field, how many values are right, given and wanted."""
        rules = trees.Rules(self.tolerance, self.days, self.lowercase, self.lists)
        return [self._row(rules, a, accepted(t)) for a, t in zip(answers, targets, strict=True)]

    def reduce(self, rows: Rows, counts: npt.NDArray[Any] | None = None) -> float:
        return f1.table(rows, _same).score(self.average, counts)

    def details(self, rows: Rows) -> dict[str, float]:
        """Precision and recall over all values, F1 by each average, and the share of answers all right."""
        return f1.table(rows, _same).details()

    def breakdowns(self, rows: Rows) -> Breakdowns:
        """By field: precision, recall, F1 and counts."""
        return {"field": f1.table(rows, _same).classes()}

    def silent(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Samples with nothing given nor wanted, unless each is right by that."""
        return np.array([not row and self.average != "samples" for row in rows], dtype=bool)

    def part_intervals(self, rows: Rows, index: npt.NDArray[np.intp]) -> Breakdowns:
        return {"field": parts.of_table(f1.table(rows, _same), index)}

    def remarks(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Mapping[str, int]:
        return trees.unread(answers)

    def unfit(self, target: Any) -> str:
        return trees.unfit(accepted(target))

    def _row(self, rules: trees.Rules, answer: str | None, texts: Sequence[str]) -> dict[str, list[int]]:
        given = trees.given(answer)
        found = [rules.compare(given[0] if given else None, each) for each in trees.wanted(texts)]
        best = max(found, key=_f1, default={})
        return best if given or best or not texts else {UNREAD: [0, 1, 0]}


def _same(row: f1.Counts) -> f1.Counts:
    return row


def _f1(counts: Mapping[str, Sequence[int]]) -> float:
    right, given, wanted = (sum(c[k] for c in counts.values()) for k in range(3))
    return 2 * right / (given + wanted) if given + wanted else 1.0
