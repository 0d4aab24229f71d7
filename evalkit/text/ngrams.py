"""Tokenized captions and their n-grams, for captioning metrics; knows no metric."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evalkit.text import ptb
from evalkit.text.answers import accepted

Tokens = Literal["caption", "batch"]
"""caption: each caption is tokenized by itself. batch: all in one call, as pycocoevalcap does."""

LONGEST = 4
Gram = tuple[str, ...]
Ints = npt.NDArray[np.int64]

BATCH_REASON = (
    "ptb='batch' tokenizes all captions in one call and each may change the next one's tokens, "
    "so samples cannot be drawn one by one"
)


def tokenized(
    answers: Sequence[str | None], targets: Sequence[Any], mode: Tokens
) -> tuple[list[str | None], list[list[str]]]:
    """Answers and references as tokens joined by blanks; an unreadable answer stays None.

    In a batch an unreadable answer counts as an empty caption, and lines that the reference loses
    (a caption with a line separator shifts the others) are empty.
    """
    if len(answers) != len(targets):
        raise ValueError("zip() argument 2 is not as long as argument 1")
    targets = [accepted(target) for target in targets]
    if mode == "caption":
        ours = [None if answer is None else ptb.caption(answer) for answer in answers]
        return ours, [[ptb.caption(reference) for reference in some] for some in targets]
    lines = ptb.batch([answer or "" for answer in answers])
    lines += [""] * (len(answers) - len(lines))
    ours = [None if a is None else line for a, line in zip(answers, lines, strict=False)]
    flat = ptb.batch(list(chain.from_iterable(targets)))
    flat += [""] * (sum(map(len, targets)) - len(flat))
    rest = iter(flat)
    return ours, [[next(rest) for _ in some] for some in targets]


@dataclass(frozen=True)
class Grams:
    """The n-grams of one to four tokens of many captions, as sorted pairs of caption and gram."""

    caption: Ints  # (pairs,)
    gram: Ints  # (pairs,) the gram's number
    count: Ints  # (pairs,) how often the gram occurs in the caption
    length: Ints  # (grams,) tokens of each gram

    def keys(self, owner: Ints) -> Ints:
        """One number for each pair's (owner of the caption, gram)."""
        return owner[self.caption] * len(self.length) + self.gram

    def part(self, first: int, last: int) -> Grams:
        """The captions from `first` to `last` (excluded), numbered from 0."""
        chosen = slice(*np.searchsorted(self.caption, (first, last)).tolist())
        return Grams(self.caption[chosen] - first, self.gram[chosen], self.count[chosen], self.length)


@lru_cache(maxsize=1)  # BLEU and CIDEr of a task count the same captions
def grams(captions: tuple[str, ...]) -> Grams:
    """All captions' grams; equal grams have the same number in all captions."""
    numbers: defaultdict[Gram, int] = defaultdict(itertools.count().__next__)
    found: list[int] = []
    sizes: list[int] = []
    for caption in captions:
        words = caption.split()
        shifted = [words[i:] for i in range(LONGEST)]
        runs = chain.from_iterable(zip(*shifted[:n], strict=False) for n in range(1, LONGEST + 1))
        before = len(found)
        found += [numbers[run] for run in runs]
        sizes.append(len(found) - before)
    total = max(1, len(numbers))
    owner = np.repeat(np.arange(len(captions)), sizes)
    keys, counts = np.unique(owner * total + np.array(found, dtype=np.int64), return_counts=True)
    caption_of, gram = np.divmod(keys, total)
    lengths = np.fromiter(map(len, numbers), dtype=np.int64, count=len(numbers))
    return Grams(caption_of, gram, counts.astype(np.int64), lengths)


def matching(keys: Ints, among: Ints) -> tuple[npt.NDArray[np.bool_], Ints]:
    """Which of `keys` are in the sorted `among`, and for those their places there."""
    if not len(among):
        return np.zeros(len(keys), dtype=bool), np.zeros(0, dtype=np.int64)
    places = np.minimum(np.searchsorted(among, keys), len(among) - 1)
    inside = among[places] == keys
    return inside, places[inside]
