"""The reference's one beam search, over any source of log-probabilities. Knows no model."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

Step = Callable[[list[int], list[int]], torch.Tensor]
"""(rows, tokens), one a live beam: the row of the last call's result that it goes on from and what it
reads next, to log-probabilities (beams, vocabulary) of the token after."""


class Search:
    """One prompt's beam search, told log-probabilities step by step.

    The rule is big_vision's (oracle finding 4): at every step each live beam is considered as ending
    now; the best finished so far is kept (a later one must be strictly better; among equals the lower
    beam); each live beam is expanded with its top `beams` + 1 tokens, `eos` dropped, and the best
    `beams` by sum stay (ties: lower beam, then higher rank); it stops when the best live score is
    strictly below the best finished, or after `length` steps. `eos` counts in `length`. Sums are
    float32, as the reference's.
    """

    def __init__(self, beams: int, length: int, eos: int) -> None:
        self.beams, self.left, self.eos = beams, length, eos
        self.tokens: list[int] = []  # of the best finished sequence, its end token included
        self.logprobs: list[float] = []
        self._best = -math.inf
        self._sums = [0.0]
        self._live: list[tuple[list[int], list[float]]] = [([], [])]

    def advance(self, logp: torch.Tensor) -> tuple[list[int], list[int]] | None:
        """What the live beams read next, given their log-probabilities (beams, vocabulary): for each
        new beam the beam it goes on from and its token; None when the search is over."""
        last = logp[:, self.eos].tolist()
        ending = [add(total, p) for total, p in zip(self._sums, last, strict=True)]
        row = ending.index(max(ending))
        if ending[row] > self._best:
            self._best = ending[row]
            tokens, logprobs = self._live[row]
            self.tokens, self.logprobs = [*tokens, self.eos], [*logprobs, last[row]]
        self.left -= 1
        if self.left == 0:
            return None
        kept = expand(logp, self._sums, self.beams, self.eos)
        if kept[0][2] < self._best:
            return None
        self._sums = [total for _, _, total, _ in kept]
        self._live = [([*self._live[p][0], t], [*self._live[p][1], lp]) for p, t, _, lp in kept]
        return [p for p, _, _, _ in kept], [t for _, t, _, _ in kept]


def search(first: torch.Tensor, step: Step, searches: list[Search]) -> None:
    """Runs searches side by side to their ends; `first` (searches, vocabulary) are the first token's
    log-probabilities. Rows of searches that are over are left out of the next step."""
    live = [(one, [row]) for row, one in enumerate(searches)]
    logp = first
    while True:
        rows: list[int] = []
        tokens: list[int] = []
        going: list[tuple[Search, list[int]]] = []
        for one, mine in live:
            told = one.advance(logp[mine])
            if told is not None:
                going.append((one, list(range(len(rows), len(rows) + len(told[0])))))
                rows += [mine[parent] for parent in told[0]]
                tokens += told[1]
        if not going:
            return
        live, logp = going, step(rows, tokens)


def expand(
    logp: torch.Tensor, sums: list[float], beams: int, eos: int
) -> list[tuple[int, int, float, float]]:
    """The best `beams` continuations without `eos`, best first: (parent, token, sum, log-probability)."""
    keep = min(beams + 1, logp.shape[-1])
    least = logp.topk(keep, dim=-1).values[:, -1:]
    candidates = []  # in the order lower beam, then higher rank: what ties fall back on
    for row, enough in enumerate(logp >= least):
        ids = enough.nonzero()[:, 0]  # more than `keep` where there are ties, the lowest id first
        pairs = zip(logp[row, ids].tolist(), ids.tolist(), strict=True)
        ranked = sorted(pairs, key=lambda pair: (-pair[0], pair[1]))[:keep]
        candidates += [(row, token, add(sums[row], p), p) for p, token in ranked if token != eos]
    candidates.sort(key=lambda candidate: -candidate[2])  # stable
    return candidates[:beams]


def add(a: float, b: float) -> float:
    """The sum rounded to float32, as the reference keeps its scores."""
    return float(np.float32(a) + np.float32(b))
