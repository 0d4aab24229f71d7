"""Relaxed accuracy (ChartQA): numbers must be within 5 % of the target, other answers exactly equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalkit.text.answers import accepted
from evalkit.types import Metric, Rows


@dataclass(frozen=True)
class RelaxedAccuracy(Metric):
    """1 when the answer is close enough to one of the accepted answers (targets: tuples of them), else 0.

    google-research/big_vision transfers/chartqa.py @ 0127fb6b with its `to_lower` as `lowercase`;
    google-research/pix2struct metrics.py @ 945f27e9 gives the same with `lowercase=True`. "45%" is
    0.45; a target of 0 needs equal text; a target that reads as nan or infinity is never matched.
    A sample without accepted answers is left out of n.
    """

    tolerance: float = 0.05
    lowercase: bool = True

    takes = ("texts",)

    def rows(self, answers: Sequence[str | None], targets: Sequence[Any]) -> Rows:
        """One (correct, counted) per sample."""
        result = np.zeros((len(targets), 2))
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            wanted = accepted(target)
            result[i, 1] = bool(wanted)
            if answer is not None:
                result[i, 0] = any(self._matches(answer, a) for a in wanted)
        return result

    def _matches(self, answer: str, accepted: str) -> bool:
        if self.lowercase:
            answer, accepted = answer.lower(), accepted.lower()
        got, wanted = _number(answer), _number(accepted)
        if got is None or not wanted:
            return answer == accepted
        return abs(got - wanted) / abs(wanted) <= self.tolerance


def _number(text: str) -> float | None:
    """The text as Python's float reads it (so "1e3", "1_000" and "nan" too); "%" divides by 100."""
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None
