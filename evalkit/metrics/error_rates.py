"""Error rates of long transcriptions: edits over length, by character, symbol or line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from evalkit.accepted import accepted
from evalkit.edits import distance
from evalkit.types import Metric, Rows


@dataclass(frozen=True)
class ErrorRates(Metric):
    """Sum of edit distances over sum of target lengths; lower is better, and it can pass 1.

    `unit`: cer counts characters; ser the symbols of **kern music (split at blanks, where a line
    break and a tab are symbols of their own and empty symbols count); ler whole lines.
    antoniorv6/SMT eval_functions.py @ afcdefdf, as a fraction instead of a percentage. Targets are
    tuples; where there are several, the nearest counts. An unreadable answer misses everything.
    """

    unit: Literal["cer", "ser", "ler"] = "cer"

    columns: ClassVar[tuple[str, ...]] = ("edits", "length")
    maximum: ClassVar[float | None] = None
    lower_is_better: ClassVar[bool] = True

    def rows(self, answers: Sequence[str | None], targets: Sequence[Any]) -> Rows:
        """One (edits, target length) a sample."""
        result = np.zeros((len(targets), 2))
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            wanted = [self._units(text) for text in accepted(target)]
            if wanted:
                missed = [(float(len(units)), float(len(units))) for units in wanted]
                if answer is not None:
                    given = self._units(answer)
                    missed = [(float(distance(given, units)), float(len(units))) for units in wanted]
                result[i] = min(missed, key=lambda pair: pair[0] / max(pair[1], 1.0))
        return result

    def _units(self, text: str) -> Sequence[str]:
        if self.unit == "cer":
            return text
        if self.unit == "ler":
            return text.split("\n")
        return text.replace("\n", " <b> ").replace("\t", " <t> ").split(" ")
