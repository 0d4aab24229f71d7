"""VQA accuracy: an answer is fully right when three of the other human answers agree with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from evalkit.text import vqa
from evalkit.text.answers import accepted
from evalkit.types import Metric, Rows


@dataclass(frozen=True)
class VqaAccuracy(Metric):
    """Mean over the humans of min(1, others that agree / 3); targets are tuples of human answers.

    `variant` says whose normalisation is used:
    - official: GT-Vision-Lab/VQA vqaEval.py @ a013f004; nothing is normalised when all humans agree.
    - big_vision: google-research/big_vision transfers/vqav2.py @ 0127fb6b; as official, but removes every
      full stop that no digit follows, not just the first 32.
    - mmf: facebookresearch/mmf m4c_evaluators.py @ b0ffc7fb (TextVQA); always normalises.
    - vizwiz: the VizWiz API; the prediction is normalised, the human answers are not.
    - plain: big_vision transfers/vqa.py (OKVQA, A-OKVQA, its VizWiz): min(1, agreeing humans / 3),
      nothing normalised, nobody left out; a single human answer can then give 1/3 at most.

    `lowercase` lowers both sides first (big_vision's `to_lower`). There may be any number of human
    answers (two references require ten); a sample without any is left out of n, as in big_vision.
    """

    variant: Literal["official", "big_vision", "mmf", "vizwiz", "plain"] = "big_vision"
    lowercase: bool = False

    takes = ("texts",)

    def rows(self, answers: Sequence[str | None], targets: Sequence[Any]) -> Rows:
        """One (score, counted) per sample; scores are multiples of 1/(3 x humans)."""
        judges: dict[str, Callable[[str, Sequence[str]], float]] = {
            "official": partial(_when_humans_differ, vqa.official),
            "big_vision": partial(_when_humans_differ, vqa.big_vision),
            "mmf": _mmf,
            "vizwiz": _vizwiz,
            "plain": _plain,
        }
        judge = judges[self.variant]
        result = np.zeros((len(targets), 2))
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            humans = accepted(target)
            if not humans:
                continue
            result[i, 1] = 1.0
            if answer is None:
                continue
            if self.lowercase:
                answer, humans = answer.lower(), [h.lower() for h in humans]
            result[i, 0] = judge(answer, humans)
        return result


def _leave_one_out(agreeing: int, humans: int) -> float:
    """The mean over left-out humans of min(1, agreeing others / 3)."""
    if agreeing == 0:
        return 0.0
    inside = agreeing * min(1.0, (agreeing - 1) / 3)
    return (inside + (humans - agreeing) * min(1.0, agreeing / 3)) / humans


def _when_humans_differ(normalise: Callable[[str], str], answer: str, humans: Sequence[str]) -> float:
    tidy = vqa.tidy
    answer, humans = tidy(answer), [tidy(h) for h in humans]
    if humans.count(humans[0]) < len(humans):
        answer, humans = normalise(answer), [normalise(h) for h in humans]
    return _leave_one_out(humans.count(answer), len(humans))


def _mmf(answer: str, humans: Sequence[str]) -> float:
    mmf = vqa.mmf
    return _leave_one_out([mmf(h) for h in humans].count(mmf(answer)), len(humans))


def _vizwiz(answer: str, humans: Sequence[str]) -> float:
    return _leave_one_out(list(humans).count(vqa.vizwiz(vqa.tidy(answer))), len(humans))


def _plain(answer: str, humans: Sequence[str]) -> float:
    return min(1.0, list(humans).count(answer) / 3.0)
