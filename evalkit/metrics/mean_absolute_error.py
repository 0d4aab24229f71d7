"""How far off numbers are: the mean absolute error, with the share of answers within a distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from evalkit.text import numbers
from evalkit.text.answers import accepted
from evalkit.types import Metric, Rows


@dataclass(frozen=True)
class MeanAbsoluteError(Metric):
    """The mean of |answer - target| (targets: tuples of texts that are numbers, of which the nearest counts).

    Numbers are read as `evalkit.text.numbers` does: `1,234.5`, `$12`, `45%`, which is 0.45. An answer that is
    no number is as far off as 0 would be, and by 1 at least; how many are so is a remark. `within`: the
    distances whose shares `details` has (0: exactly right). relaxed_accuracy has a tolerance relative to the
    target. A sample without accepted answers is left out of n.
    """

    within: tuple[float, ...] = (0.0, 1.0)

    takes: ClassVar[tuple[str, ...]] = ("texts",)
    maximum: ClassVar[float | None] = None
    lower_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "within", tuple(map(float, self.within)))
        object.__setattr__(self, "columns", ("error", "n", *(f"within {limit:g}" for limit in self.within)))

    def rows(self, answers: Sequence[str | None], targets: Sequence[Any]) -> Rows:
        """One (error, counted, whether it is a number within each distance) per sample."""
        result = np.zeros((len(targets), 2 + len(self.within)))
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            wanted = [n for n in map(numbers.number, accepted(target)) if n is not None]
            if not wanted:
                continue
            given = None if answer is None else numbers.number(answer)
            off = min(abs(n) for n in wanted) if given is None else min(abs(given - n) for n in wanted)
            result[i, :2] = (max(off, 1.0) if given is None else off), 1.0
            result[i, 2:] = [given is not None and off <= limit for limit in self.within]
        return result

    def details(self, rows: Rows) -> dict[str, float]:
        """The share of answers within each distance."""
        sums = np.asarray(rows, dtype=np.float64).reshape(-1, 2 + len(self.within)).sum(axis=0)
        shares = {
            f"within {limit:g}": sums[2 + k] / sums[1] for k, limit in enumerate(self.within) if sums[1]
        }
        return {name: float(share) for name, share in shares.items()}

    def remarks(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Mapping[str, int]:
        n = sum(answer is not None and numbers.number(answer) is None for answer in answers)
        return {"no number": n} if n else {}

    def unfit(self, target: Any) -> str:
        text = next((text for text in accepted(target) if numbers.number(text) is None), None)
        return "" if text is None else f"is no number: {text[:60]!r}; write 12, 1,234.5 or 45%"
