"""Levenshtein distance and longest common subsequence of strings or tokens, by rapidfuzz; knows no metric.

Tokens are strings, which rapidfuzz compares by their 64-bit hashes. It confuses the empty token, whose
hash is 0, with the character NUL, so tokens are numbered first if one of them is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cache
from itertools import chain

import numpy as np
import numpy.typing as npt

_Compare = Callable[[Sequence[Hashable], Sequence[Hashable]], int]


def distance(first: Sequence[str], second: Sequence[str]) -> int:
    """The least number of insertions, deletions and substitutions that turn one into the other."""
    return _levenshtein()(*_comparable(first, second))


def distances(first: Sequence[Sequence[str]], second: Sequence[Sequence[str]]) -> npt.NDArray[np.int64]:
    """The distance of each of `first` to each of `second`, as (first, second)."""
    from rapidfuzz import process
    from rapidfuzz.distance import Levenshtein

    numbers = _numbered(*first, *second)
    ours, theirs = numbers[: len(first)], numbers[len(first) :]
    result: npt.NDArray[np.int64] = process.cdist(ours, theirs, scorer=Levenshtein.distance, dtype=np.int64)
    return result


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    return _subsequence()(*_comparable(first, second))


def _comparable(first: Sequence[str], second: Sequence[str]) -> Sequence[Sequence[Hashable]]:
    texts = isinstance(first, str) and isinstance(second, str)
    return (first, second) if texts or ("" not in first and "" not in second) else _numbered(first, second)


def _numbered(*sequences: Sequence[str]) -> list[list[int]]:
    """The sequences with a number in place of each symbol."""
    number = {symbol: n for n, symbol in enumerate(set(chain.from_iterable(sequences)))}.__getitem__
    return [list(map(number, sequence)) for sequence in sequences]


# Loaded at the first call, since `evalkit list` imports the metrics. Cached, since an import statement takes
# longer than comparing two short answers.


@cache
def _levenshtein() -> _Compare:
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.distance


@cache
def _subsequence() -> _Compare:
    from rapidfuzz.distance import LCSseq

    return LCSseq.similarity
