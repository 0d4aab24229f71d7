"""Exact match: the answer equals one of the accepted ones, character by character."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from evalkit.text import vqa
from evalkit.text.answers import accepted
from evalkit.types import Metric, Rows


@dataclass(frozen=True)
class ExactMatch(Metric):
    """1 when the answer equals any accepted answer (targets: tuples of them), else 0.

    google-research/big_vision transfers/vqa.py @ 0127fb6b: `acc` for a single answer, `acc_any` for
    several; `lowercase` is its `to_lower` (OCR-VQA). `normalise` first normalises both sides by one of
    the dialects in `evalkit.text.vqa`: "mmf" gives ST-VQA accuracy of facebookresearch/mmf @ b0ffc7fb,
    "count" is big_vision's tallyqa.py (TallyQA, CountBenchQA; for any count, there only up to 15).
    A sample without accepted answers is left out of n.
    """

    lowercase: bool = False
    normalise: Literal["", "official", "big_vision", "mmf", "count"] = ""

    takes = ("texts",)

    def rows(self, answers: Sequence[str | None], targets: Sequence[Any]) -> Rows:
        """One (correct, counted) per sample."""
        result = np.zeros((len(targets), 2))
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            wanted = accepted(target)
            result[i, 1] = bool(wanted)
            if answer is None:
                continue
            if self.lowercase:
                answer, wanted = answer.lower(), [a.lower() for a in wanted]
            if self.normalise:
                dialect = vqa.DIALECTS[self.normalise]
                answer, wanted = dialect(answer), [dialect(a) for a in wanted]
            result[i, 0] = answer in tuple(wanted)
        return result
