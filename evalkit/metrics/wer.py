"""Word error rate: edits of words over the number of words in the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from evalkit.text import error_rate
from evalkit.types import Metric, Rows


@dataclass(frozen=True)
class Wer(Metric):
    """Edits of all samples over the words of all references (targets: tuples of texts); 0 is best.

    jiwer 4.0.0 `wer`; blanks at both ends are dropped; words end at any white space, there at blanks only. It
    may exceed 1. `lowercase` lowers both sides. None is scored as if each unit of the reference were missing.
    Of several references the one with the smallest rate counts; a sample without one is left out. Where all
    references are empty, the rate is 0 without edits, else 1. (`error_rates` counts music as its own script
    does, and strips nothing.)
    """

    lowercase: bool = False

    takes: ClassVar[tuple[str, ...]] = ("texts",)
    columns: ClassVar[tuple[str, ...]] = ("edits", "length", "n")
    maximum: ClassVar[float | None] = None
    lower_is_better: ClassVar[bool] = True

    def rows(self, answers: Sequence[str | None], targets: Sequence[Any]) -> Rows:
        """One (edits, length of the reference, counted) per sample."""
        return error_rate.rows(answers, targets, self._units)

    def value(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Edits over length; NaN without samples."""
        return error_rate.value(sums)

    def _units(self, text: str) -> Sequence[str]:
        plain = text.lower() if self.lowercase else text
        return plain.split()
