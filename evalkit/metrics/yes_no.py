"""Yes-or-no questions (POPE): accuracy, precision, recall, F1 or the share of yes answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evalkit.text.answers import accepted
from evalkit.types import Metric, Rows

_FIGURES = ("accuracy", "precision", "recall", "f1", "yes_rate")


@dataclass(frozen=True)
class YesNo(Metric):
    """One figure over yes-or-no questions (targets: ("yes",) or ("no",), in any case); `details` has all.

    `variant`:
    - strict: google-research/big_vision transfers/pope.py @ 0127fb6b. The lower-cased answer must be
      exactly yes or no; anything else is wrong, and neither a yes nor a no.
    - official: AoiDragon/POPE evaluate.py @ 08d957b9. The text before the first full stop, without commas,
      is a no if it has one of the words "No", "no", "not"; everything else is a yes, even "NO" and "".

    An unreadable answer (None) is wrong in both. Where a figure's denominator is 0 and the official
    script raises, the figure is 0.
    """

    variant: Literal["strict", "official"] = "strict"
    figure: Literal["accuracy", "precision", "recall", "f1", "yes_rate"] = "accuracy"

    takes = ("texts",)
    columns = ("true yes", "false yes", "true no", "false no", "neither, yes wanted", "neither, no wanted")

    def rows(self, answers: Sequence[str | None], targets: Sequence[Any]) -> Rows:
        """One row with a single 1 per sample."""
        result = np.zeros((len(targets), 6))
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            wanted = accepted(target)[0].lower() != "no"  # a copy of POPE on the hub may write "NO"
            said = None if answer is None else self._said(answer)
            if said is None:
                result[i, 4 if wanted else 5] = 1.0
            elif said:
                result[i, 0 if wanted else 1] = 1.0
            else:
                result[i, 3 if wanted else 2] = 1.0
        return result

    def unfit(self, target: Any) -> str:
        said = next(iter(accepted(target)), "")
        return "" if said.lower() in ("yes", "no") else f"is {said[:40]!r}; it must be yes or no"

    def value(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return self._figures(sums)[self.figure]

    def details(self, rows: Rows) -> dict[str, float]:
        """All figures, and the share of answers that were a yes or a no."""
        sums = np.asarray(rows, dtype=np.float64).sum(axis=0)
        found = {name: float(value) for name, value in self._figures(sums).items()}
        return found | {"readable": float(_ratio(sums[:4].sum(), sums.sum()))}

    def _said(self, answer: str) -> bool | None:
        """Whether it says yes (True), no (False) or neither."""
        if self.variant == "strict":
            return {"yes": True, "no": False}.get(answer.lower())
        words = answer.split(".")[0].replace(",", "").split(" ")
        return not {"No", "not", "no"} & set(words)

    def _figures(self, sums: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        true_yes, false_yes, true_no, false_no, lost_yes, _ = np.moveaxis(sums, -1, 0)
        n = sums.sum(axis=-1)
        precision = _ratio(true_yes, true_yes + false_yes)
        recall = _ratio(true_yes, true_yes + false_no + lost_yes)
        f1 = _ratio(2 * precision * recall, precision + recall)
        accuracy, yes_rate = _ratio(true_yes + true_no, n), _ratio(true_yes + false_yes, n)
        return dict(zip(_FIGURES, (accuracy, precision, recall, f1, yes_rate), strict=True))


def _ratio(above: Any, below: Any) -> npt.NDArray[np.float64]:
    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    result: npt.NDArray[np.float64] = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return result
