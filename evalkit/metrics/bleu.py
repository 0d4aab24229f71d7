"""Corpus BLEU of captions; the brevity penalty uses the closest reference's length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.text import ngrams
from evalkit.text.ngrams import LONGEST
from evalkit.types import Metric, Rows

_TINY, _SMALL = 1e-15, 1e-9  # keep the reference's fractions defined


@dataclass(frozen=True)
class Bleu(Metric):
    """BLEU-`n` from the counts summed over samples (targets: tuples of captions).

    Equal to salaniz/pycocoevalcap bleu/bleu_scorer.py @ ad63453c (option "closest") on tokens of
    `evalkit.text.ptb`; `ptb` as in `evalkit.text.ngrams`. `details` has BLEU-1 to BLEU-4.
    """

    n: int = 4
    ptb: ngrams.Tokens = "caption"

    takes = ("texts",)
    columns = (
        *(f"correct {n}" for n in (1, 2, 3, 4)),
        *(f"guessed {n}" for n in (1, 2, 3, 4)),
        "length",
        "reference length",
    )

    def __post_init__(self) -> None:
        if not 1 <= self.n <= LONGEST:
            raise ValueError(f"n={self.n} is not 1, 2, 3 or 4")

    def rows(self, answers: Sequence[str | None], targets: Sequence[Sequence[str]]) -> Rows:
        """One row of counts per sample; an unreadable answer counts as an empty caption."""
        ours, theirs = ngrams.tokenized(answers, targets, self.ptb)
        texts = [answer or "" for answer in ours]
        samples, owner = len(ours), np.repeat(np.arange(len(ours)), [len(some) for some in theirs])
        every = ngrams.grams((*texts, *chain.from_iterable(theirs)))
        mine, references = every.part(0, samples), every.part(samples, samples + len(owner))
        keys = references.keys(owner)
        order = np.argsort(keys)
        shared, first = np.unique(keys[order], return_index=True)
        most = np.maximum.reduceat(references.count[order], first) if len(first) else order
        inside, places = ngrams.matching(mine.keys(np.arange(samples)), shared)
        right = np.minimum(mine.count[inside], most[places])
        slots = mine.caption[inside] * LONGEST + every.length[mine.gram[inside]] - 1
        lengths = [len(text.split()) for text in texts]
        result = np.zeros((samples, 2 * LONGEST + 2))
        result[:, :LONGEST] = np.bincount(slots, right, samples * LONGEST).reshape(-1, LONGEST)
        for i, (length, some) in enumerate(zip(lengths, theirs, strict=True)):
            others = (len(reference.split()) for reference in some)
            closest = min(((abs(other - length), other) for other in others), default=(0, 0))[1]
            result[i, LONGEST:] = *(max(0, length - n) for n in range(LONGEST)), length, closest
        return result

    def value(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """BLEU-n of sums of rows (..., columns)."""
        return self._all(sums)[..., self.n - 1]

    def details(self, rows: Rows) -> dict[str, float]:
        scores = self._all(np.asarray(rows, dtype=np.float64).sum(axis=0))
        return {f"BLEU-{n + 1}": float(score) for n, score in enumerate(scores)}

    def remarks(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> dict[str, int]:
        """How many samples have only references in which there are no `n` words in a row."""
        short = sum(all(len(text.split()) < self.n for text in some) for some in targets)
        return (
            {f"references of under {self.n} words, in which BLEU-{self.n} finds nothing": short}
            if short
            else {}
        )

    def no_interval(self) -> str:
        return ngrams.BATCH_REASON if self.ptb == "batch" else ""

    def _all(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        correct, guessed = sums[..., :LONGEST], sums[..., LONGEST : 2 * LONGEST]
        product = np.cumprod((correct + _TINY) / (guessed + _SMALL), axis=-1)
        ratio = (sums[..., -2:-1] + _TINY) / (sums[..., -1:] + _SMALL)
        brevity = np.exp(np.minimum(0.0, 1 - 1 / ratio))
        result: npt.NDArray[np.float64] = product ** (1 / np.arange(1, LONGEST + 1)) * brevity
        return result
