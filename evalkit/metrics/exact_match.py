"""Exact match: the answer equals one of the accepted ones, character by character."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evalkit import vqa_text
from evalkit.types import Metric, Rows


@dataclass(frozen=True)
class ExactMatch(Metric):
    """1 when the answer equals any accepted answer (targets: tuples of them), else 0.

    google-research/big_vision transfers/vqa.py @ 0127fb6b: `acc` for a single answer, `acc_any` for
    several; `lowercase` is its `to_lower` (OCR-VQA). `normalise` compares both sides as one of
    the VQA dialects does: "mmf" is ST-VQA accuracy of facebookresearch/mmf @ b0ffc7fb.
    A sample without accepted answers is left out of n.
    """

    lowercase: bool = False
    normalise: Literal["", "official", "big_vision", "mmf"] = ""

    def rows(self, answers: Sequence[str | None], targets: Sequence[Sequence[str]]) -> Rows:
        """One (correct, counted) a sample."""
        result = np.zeros((len(targets), 2))
        for i, (answer, accepted) in enumerate(zip(answers, targets, strict=True)):
            result[i, 1] = bool(accepted)
            if answer is None:
                continue
            if self.lowercase:
                answer, accepted = answer.lower(), [a.lower() for a in accepted]
            if self.normalise:
                dialect = vqa_text.DIALECTS[self.normalise]
                answer, accepted = dialect(answer), [dialect(a) for a in accepted]
            result[i, 0] = answer in tuple(accepted)
        return result
