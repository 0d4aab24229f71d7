"""Whether an answer is the accepted JSON: the same values in the same fields, whatever the order of keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from evalkit.text import trees
from evalkit.text.answers import accepted
from evalkit.types import Metric, Rows


@dataclass(frozen=True)
class JsonMatch(Metric):
    """1 when each value of an accepted answer is given in its field, and no other (targets: JSON texts), else
    0.

    `tolerance`, `days`, `lowercase` and `lists` are those of `evalkit.text.trees.Rules`. Null, "", [] and {}
    are no value, so that a key with null and a missing one are the same. An answer that is no JSON is wrong;
    how many are so is a remark. A sample without accepted answers is left out of n.
    """

    tolerance: float | None = None
    days: int | None = None
    lowercase: bool = False
    lists: Literal["matched", "ordered"] = "matched"

    takes: ClassVar[tuple[str, ...]] = ("texts",)

    def rows(self, answers: Sequence[str | None], targets: Sequence[Any]) -> Rows:
        """One (correct, counted) per sample."""
        rules = trees.Rules(self.tolerance, self.days, self.lowercase, self.lists)
        result = np.zeros((len(targets), 2))
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            texts, given = accepted(target), trees.given(answer)
            result[i, 1] = bool(texts)
            result[i, 0] = given is not None and any(
                right == said == wanted
                for one in trees.wanted(texts)
                for right, said, wanted in [_sums(rules.compare(given[0], one))]
            )
        return result

    def remarks(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Mapping[str, int]:
        return trees.unread(answers)

    def unfit(self, target: Any) -> str:
        return trees.unfit(accepted(target))


def _sums(counts: trees.Counts) -> tuple[int, int, int]:
    right, given, wanted = (sum(each[k] for each in counts.values()) for k in range(3))
    return right, given, wanted
