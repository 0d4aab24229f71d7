"""Accuracy averaged over question types (RSVQA), so that each type counts the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.text.answers import accepted
from evalkit.types import Metric, Rows, Share, Stratum


@dataclass(frozen=True)
class MeanTypeAccuracy(Metric):
    """Mean over question types of the share of answers that equal an accepted one.

    Targets are `{"type": name, "answers": accepted answers}`. `types`: count only these (RSVQA's
    non-numeric ones: presence, comp, rural_urban for LR; presence, comp for HR); () means all. A type
    without samples is left out. google-research/big_vision transfers/rsvqa.py @ 0127fb6b
    (`acc_avg`); `lowercase` is its `to_lower`.
    """

    types: tuple[str, ...] = ()
    lowercase: bool = True

    takes = ("type",)
    columns = ()

    def rows(self, answers: Sequence[str | None], targets: Sequence[dict[str, Any]]) -> Rows:
        """One [type, correct] per sample."""
        result = []
        for answer, target in zip(answers, targets, strict=True):
            wanted = accepted(target)
            if answer is not None and self.lowercase:
                answer, wanted = answer.lower(), [w.lower() for w in wanted]
            result.append([target["type"], float(answer is not None and answer in tuple(wanted))])
        return result

    def reduce(self, rows: Rows, counts: npt.NDArray[Any] | None = None) -> float:
        """The mean over types; NaN without a sample."""
        found = self._by_type(rows, counts)
        return float(np.mean(list(found.values()))) if found else float("nan")

    def strata(self, rows: Rows) -> list[Stratum]:
        names = np.array([name for name, _ in rows], dtype=object)
        correct = np.array([[c, 1.0] for _, c in rows])
        found = [np.flatnonzero(names == name) for name in sorted(set(self.types or names) & set(names))]
        return [Stratum(1 / len(found), Share(), correct[places], places) for places in found]

    def details(self, rows: Rows) -> dict[str, float]:
        """The accuracy of each type, and over all samples of these types."""
        kept = [correct for name, correct in rows if not self.types or name in self.types]
        overall = {"overall": float(np.mean(kept))} if kept else {}
        return self._by_type(rows, None) | overall

    def _by_type(self, rows: Rows, counts: npt.NDArray[Any] | None) -> dict[str, float]:
        names = np.array([name for name, _ in rows], dtype=object)
        correct = np.array([c for _, c in rows], dtype=np.float64)
        drawn = np.ones(len(rows)) if counts is None else np.asarray(counts, dtype=np.float64)
        found = {}
        for name in sorted(set(self.types or names)):
            here = names == name
            if (n := drawn[here].sum()) > 0:
                found[name] = float(drawn[here] @ correct[here] / n)
        return found
