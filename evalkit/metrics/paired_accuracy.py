"""Paired accuracy: a group of samples counts as right when every one of them is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalkit.text.answers import accepted
from evalkit.types import Metric, Rows


@dataclass(frozen=True)
class PairedAccuracy(Metric):
    """Share of pairs (MMVP) or larger groups (NLVR2's consistency) answered right as a whole.

    Targets are `{"pair": a name that the group's samples share, "answers": accepted answers}`; the
    samples of a pair must be one cluster, so that they are drawn together. An answer is right
    when it equals an accepted one; `lowercase` lowers both, as in lil-lab/nlvr nlvr2/eval/metrics.py
    @ 18924841. The format `nlvr2` names a pair by the identifier without its third field.
    """

    lowercase: bool = False

    takes = ("pair",)

    def rows(self, answers: Sequence[str | None], targets: Sequence[dict[str, Any]]) -> Rows:
        """(whole group correct, 1) at a group's first sample, (0, 0) at its others."""
        result = np.zeros((len(targets), 2))
        first: dict[Any, int] = {}
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            place = first.setdefault(target["pair"], i)
            if place == i:
                result[i] = 1.0
            wanted = accepted(target)
            if answer is not None and self.lowercase:
                answer, wanted = answer.lower(), [w.lower() for w in wanted]
            if answer is None or answer not in tuple(wanted):
                result[place, 0] = 0.0
        return result
