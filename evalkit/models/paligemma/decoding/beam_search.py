"""The reference's beam search, over any source of log-probabilities. Knows no model."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

Step = Callable[[list[int], list[int]], torch.Tensor]
"""(rows, tokens) to the next token's log-probabilities (beams, vocabulary). One entry per live beam: the row
of the last result that it continues, and the token that it reads."""


class Search:
    """One prompt's beam search, which gets log-probabilities step by step.

    The rule is big_vision's (oracle finding 4): at every step each live beam may end; the best finished
    sequence so far is kept (a later one must be strictly better; among equals the lower beam wins); each
    live beam is expanded with its top `beams` + 1 tokens, `eos` dropped, and the best `beams` by sum stay
    (ties: lower beam, then higher rank); it stops when the best live score is strictly below the best
    finished one, or after `length` steps. `eos` counts in `length`. Sums are float32, as the reference's.
    """

    def __init__(self, beams: int, length: int, eos: int) -> None:
        self.beams, self.left, self.eos = beams, length, eos
        self.tokens: list[int] = []  # of the best finished sequence, its end token included
        self.logprobs: list[float] = []
        self._best = -math.inf
        self._sums = [0.0]
        self._live: list[tuple[list[int], list[float]]] = [([], [])]

    def advance(self, logp: torch.Tensor) -> tuple[list[int], list[int]] | None:
        """Takes the live beams' log-probabilities (beams, vocabulary) and returns, for each new beam, the
        beam that it continues and its token; None when the search is over."""
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
    """Runs several searches together to their ends; `first` (searches, vocabulary) are the first token's
    log-probabilities. Searches that are over take no part in the next step."""
    live = [(one, [row]) for row, one in enumerate(searches)]
    logp = first
    while True:
        rows: list[int] = []
        tokens: list[int] = []
        going: list[tuple[Search, list[int]]] = []
        for one, mine in live:
            following = one.advance(logp[mine])
            if following is not None:
                parents, chosen = following
                going.append((one, list(range(len(rows), len(rows) + len(parents)))))
                rows += [mine[parent] for parent in parents]
                tokens += chosen
        if not going:
            return
        live, logp = going, step(rows, tokens)


def expand(
    logp: torch.Tensor, sums: list[float], beams: int, eos: int
) -> list[tuple[int, int, float, float]]:
    """The best `beams` continuations without `eos`, best first: (parent, token, sum, log-probability)."""
    keep = min(beams + 1, logp.shape[-1])
    least = logp.topk(keep, dim=-1).values[:, -1:]
    candidates = []  # ordered by beam, then rank: the stable sort keeps this order among ties
    for row, enough in enumerate(logp >= least):
        ids = enough.nonzero()[:, 0]  # more than `keep` where there are ties, the lowest id first
        pairs = zip(logp[row, ids].tolist(), ids.tolist(), strict=True)
        ranked = sorted(pairs, key=lambda pair: (-pair[0], pair[1]))[:keep]
        candidates += [(row, token, add(sums[row], p), p) for p, token in ranked if token != eos]
    candidates.sort(key=lambda candidate: -candidate[2])
    return candidates[:beams]


def add(a: float, b: float) -> float:
    """The sum rounded to float32, as the reference keeps its scores."""
    return float(np.float32(a) + np.float32(b))
