"""CIDEr (CIDEr-D): consensus of a caption with the references by tf-idf-weighted n-grams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from evalkit.text import ngrams
from evalkit.text.ngrams import LONGEST
from evalkit.types import Metric, Rows

_SIGMA = 6.0  # of the penalty for a difference in length
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cider(Metric):
    """Mean over samples of the similarity to all references (targets: tuples of captions), 0 to 10.

    Equal to salaniz/pycocoevalcap cider/cider_scorer.py @ ad63453c on tokens of `evalkit.text.ptb`, which
    needs no Java; `ptb` as in `evalkit.text.ngrams`. An n-gram's idf comes from the references of the
    samples given, so a subset is not comparable with the whole (a limited run is scored with the idf of
    the whole dataset), and a single sample scores 0. A caption's length is its number of bigrams, as in
    the reference. Unscaled: papers print it times 100.
    """

    ptb: ngrams.Tokens = "caption"

    takes = ("texts",)
    columns = ("score", "n")
    maximum = 10.0
    corpus = True

    def rows(self, answers: Sequence[str | None], targets: Sequence[Sequence[str]]) -> Rows:
        """One (score, 1) per sample; unreadable answers score 0."""
        ours, theirs = ngrams.tokenized(answers, targets, self.ptb)
        samples, owner = len(ours), np.repeat(np.arange(len(ours)), [len(some) for some in theirs])
        every = ngrams.grams((*(answer or "" for answer in ours), *chain.from_iterable(theirs)))
        mine, references = every.part(0, samples), every.part(samples, samples + len(owner))
        shared = references.keys(owner)
        ordered = np.sort(shared)  # np.unique hashes, ten times slower here
        distinct = ordered[np.diff(ordered, prepend=-1) > 0]
        seen = np.bincount(distinct % max(1, len(every.length)), minlength=len(every.length))
        idf = np.log(max(1, samples)) - np.log(np.maximum(seen, 1))
        weights, norms, bigrams = _vectors(mine, idf, samples)
        other_weights, other_norms, other_bigrams = _vectors(references, idf, len(owner))
        inside, places = ngrams.matching(shared, mine.keys(np.arange(samples)))
        other = other_weights[inside]
        slots = references.caption[inside] * LONGEST + every.length[references.gram[inside]] - 1
        products = np.bincount(slots, np.minimum(weights[places], other) * other, len(owner) * LONGEST)
        scale = norms[owner] * other_norms
        cosines = np.divide(products.reshape(-1, LONGEST), scale, out=np.zeros_like(scale), where=scale > 0)
        difference = (bigrams[owner] - other_bigrams).astype(np.float64)
        similarity = cosines.sum(axis=1) * np.exp(-(difference**2) / (2 * _SIGMA**2))
        result = np.ones((samples, 2))
        total = np.bincount(owner, similarity, samples)
        result[:, 0] = 10.0 * total / LONGEST / np.maximum(1, np.bincount(owner, minlength=samples))
        result[[answer is None for answer in ours], 0] = 0.0
        return result

    def no_interval(self) -> str:
        return ngrams.BATCH_REASON if self.ptb == "batch" else ""


def _vectors(grams: ngrams.Grams, idf: Floats, captions: int) -> tuple[Floats, Floats, ngrams.Ints]:
    """Each pair's tf-idf weight; norms by caption and n; bigrams of each caption."""
    weights = grams.count * idf[grams.gram]
    length = grams.length[grams.gram]
    squares = np.bincount(grams.caption * LONGEST + length - 1, weights**2, captions * LONGEST)
    pairs = length == 2
    bigrams = np.bincount(grams.caption[pairs], grams.count[pairs], captions)
    return weights, np.sqrt(squares).reshape(-1, LONGEST), bigrams.astype(np.int64)
