"""Error rates of music transcriptions: edits over the reference's length, by character, symbol or line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from evalkit.text import error_rate
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
        return error_rate.rows(answers, targets, self._units)

    def value(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Edits over length; NaN without samples."""
        return error_rate.value(sums)

    def _units(self, text: str) -> Sequence[str]:
        if self.kind == "cer":
            return text
        if self.kind == "ler":
            return text.split("\n")
        return text.replace("\n", " <b> ").replace("\t", " <t> ").split(" ")
