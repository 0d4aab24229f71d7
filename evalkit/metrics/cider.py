"""CIDEr (CIDEr-D): consensus of a caption with the references by tf-idf-weighted n-grams."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from evalkit import ptb
from evalkit.types import Metric, Rows

_LONGEST = 4
_SIGMA = 6.0  # of the penalty for another length
_Gram = tuple[str, ...]
_Vector = tuple[list[dict[_Gram, float]], list[float], int]  # weights and norms by n, bigrams


@dataclass(frozen=True)
class Cider(Metric):
    """Mean over samples of the similarity to all references (targets: tuples of captions), 0 to 10.

    Equal to salaniz/pycocoevalcap cider/cider_scorer.py @ ad63453c on tokens of `evalkit.ptb`, which
    needs no Java. An n-gram's idf comes from the references of the samples handed in, so a subset
    alone is not comparable with the whole (a limited run is scored with the idf of the whole dataset);
    one sample alone scores 0. A sample's length is its number of bigrams, as in the reference.
    Unscaled: papers print it times 100.
    """

    columns = ("score", "n")
    maximum = 10.0
    corpus = True

    def rows(self, answers: Sequence[str | None], targets: Sequence[Sequence[str]]) -> Rows:
        """One (score, 1) a sample; unreadable answers score 0."""
        references = [[_counted(ptb.caption(r)) for r in some] for some in targets]
        frequency: Counter[_Gram] = Counter()
        for some in references:
            frequency.update(set(chain.from_iterable(some)))
        size = math.log(max(1, len(references)))
        idf = {gram: size - math.log(count) for gram, count in frequency.items()}
        result = np.zeros((len(targets), 2))
        result[:, 1] = 1.0
        for i, (answer, some) in enumerate(zip(answers, references, strict=True)):
            if answer is None or not some:
                continue
            mine = _vector(_counted(ptb.caption(answer)), idf, size)
            total = sum(_similarity(mine, _vector(theirs, idf, size)) for theirs in some)
            result[i, 0] = 10.0 * total / _LONGEST / len(some)
        return result


def _counted(caption: str) -> Counter[_Gram]:
    words = caption.split()
    shifted = [words[i:] for i in range(_LONGEST)]
    return Counter(chain.from_iterable(zip(*shifted[:n], strict=False) for n in range(1, _LONGEST + 1)))


def _vector(counts: Counter[_Gram], idf: dict[_Gram, float], unseen: float) -> _Vector:
    weights: list[dict[_Gram, float]] = [{} for _ in range(_LONGEST)]
    squares = [0.0] * _LONGEST
    bigrams = 0
    for gram, count in counts.items():
        n = len(gram) - 1
        weight = count * idf.get(gram, unseen)
        weights[n][gram] = weight
        squares[n] += weight * weight
        if n == 1:
            bigrams += count
    return weights, [math.sqrt(s) for s in squares], bigrams


def _similarity(mine: _Vector, theirs: _Vector) -> float:
    """Sum over n of the clipped cosine, times the penalty for another length."""
    total = 0.0
    for own, other, own_norm, other_norm in zip(mine[0], theirs[0], mine[1], theirs[1], strict=True):
        if own_norm == 0.0 or other_norm == 0.0:
            continue
        # In the caption's order, never a set's: the last bit of a sum must not change between runs.
        shared = sum(min(w, other[g]) * other[g] for g, w in own.items() if g in other)
        total += shared / (own_norm * other_norm)
    apart = float(mine[2] - theirs[2])
    return total * math.exp(-(apart * apart) / (2 * _SIGMA * _SIGMA))
