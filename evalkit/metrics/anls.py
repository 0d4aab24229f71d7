"""ANLS: normalised Levenshtein similarity to the nearest accepted answer, cut off below a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from evalkit.text.answers import accepted
from evalkit.text.edit_distance import distance
from evalkit.types import Metric, Rows


@dataclass(frozen=True)
class Anls(Metric):
    """Best similarity 1 - edits / length over the accepted answers (targets: tuples of them).

    `variant` says how edge cases are scored:
    - big_vision: google-research/big_vision transfers/vqa.py @ 0127fb6b. A distance of exactly
      `threshold` gives 0; an empty target is matched by an empty answer only; nothing is stripped.
    - rrc: the Robust Reading Competition's DocVQA/InfographicVQA script (as kept in QwenLM/Qwen-VL
      eval_mm/infographicsvqa_eval.py @ aa00ed04). A similarity of exactly `threshold` is kept; edits are
      counted on lower-cased text with white space collapsed, but the length is that of the raw text
      upper-cased, so that extra spaces raise the similarity and a sharp s counts twice: both kept.
    - mmf: facebookresearch/mmf m4c_evaluators.py @ b0ffc7fb (ST-VQA). White space at both ends is stripped;
      a similarity of `threshold` is kept. Two empty texts, where it divides by zero, give 1 here.

    `lowercase` lowers both sides (big_vision's `to_lower`); rrc and mmf always do.
    A sample without accepted answers is left out of n.
    """

    threshold: float = 0.5
    lowercase: bool = True
    variant: Literal["big_vision", "rrc", "mmf"] = "big_vision"

    takes = ("texts",)

    def rows(self, answers: Sequence[str | None], targets: Sequence[Any]) -> Rows:
        """One (similarity, counted) per sample."""
        similarity = {"big_vision": self._big_vision, "rrc": self._rrc, "mmf": self._mmf}[self.variant]
        result = np.zeros((len(targets), 2))
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            wanted = accepted(target)
            result[i, 1] = bool(wanted)
            if answer is not None:
                result[i, 0] = max((similarity(answer, a) for a in wanted), default=0.0)
        return result

    def _big_vision(self, answer: str, accepted: str) -> float:
        if self.lowercase:
            answer, accepted = answer.lower(), accepted.lower()
        if not accepted:
            return float(answer == "")
        normalised = distance(accepted, answer) / max(len(accepted), len(answer))
        return 1 - normalised if normalised < self.threshold else 0.0

    def _rrc(self, answer: str, accepted: str) -> float:
        length = max(len(answer.upper()), len(accepted.upper()))
        if length == 0:
            return 1.0
        edits = distance(" ".join(accepted.lower().split()), " ".join(answer.lower().split()))
        similarity = 1 - edits / length
        return similarity if similarity >= self.threshold else 0.0

    def _mmf(self, answer: str, accepted: str) -> float:
        answer, accepted = answer.lower().strip(), accepted.lower().strip()
        length = max(len(answer), len(accepted))
        similarity = 1 - distance(answer, accepted) / length if length else 1.0
        return similarity if similarity >= self.threshold else 0.0
