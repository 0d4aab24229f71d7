"""Error rates of music transcriptions: edits over the reference's length, by character, symbol or line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evalkit.text.answers import accepted
from evalkit.text.edit_distance import distance
from evalkit.types import Metric, Rows


@dataclass(frozen=True)
class ErrorRates(Metric):
    """Edits of all samples over the length of all references (targets: tuples of texts); 0 is best.

    antoniorv6/SMT eval_functions.py @ afcdefdf, as a fraction (there in per cent). It may exceed 1.
    `kind` says what is counted:
    - cer: characters, including tabs and line breaks.
    - ser: symbols separated by blanks; a tab and a line break are one symbol each. Between two blanks
      there is an empty symbol, and an empty text is one too: both kept.
    - ler: lines.

    Nothing is stripped. None is scored as if each unit of the reference were missing. Of several
    references the one with the smallest rate counts; a sample without one is left out. Where all
    references are empty, and SMT's script divides by zero, the rate is 0 without edits, else 1.
    """

    kind: Literal["cer", "ser", "ler"] = "cer"

    takes = ("texts",)
    columns = ("edits", "length", "n")
    maximum = None
    lower_is_better = True

    def rows(self, answers: Sequence[str | None], targets: Sequence[Sequence[str]]) -> Rows:
        """One (edits, length of the reference, counted) per sample."""
        result = np.zeros((len(targets), 3))
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            given = None if answer is None else self._units(answer)
            counted = [self._count(given, self._units(text)) for text in accepted(target)]
            if counted:
                result[i] = *min(counted, key=lambda one: one[0] / max(one[1], 1)), 1
        return result

    def value(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Edits over length; NaN without samples."""
        edits, length, n = sums[..., 0], sums[..., 1], sums[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = np.where(length > 0, edits / length, np.minimum(edits, 1.0))
        result: npt.NDArray[np.float64] = np.where(n > 0, rate, np.nan)
        return result

    def _count(self, given: Sequence[Any] | None, wanted: Sequence[Any]) -> tuple[int, int]:
        return len(wanted) if given is None else distance(given, wanted), len(wanted)

    def _units(self, text: str) -> Sequence[str]:
        if self.kind == "cer":
            return text
        if self.kind == "ler":
            return text.split("\n")
        return text.replace("\n", " <b> ").replace("\t", " <t> ").split(" ")
