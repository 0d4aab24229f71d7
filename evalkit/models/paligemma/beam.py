"""The reference's one beam search, over any source of log-probabilities. Knows no model."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

Step = Callable[[list[int], list[int]], torch.Tensor]
"""(parents, tokens), one a live beam, to log-probabilities (beams, vocabulary) of the next token."""


def search(
    first: torch.Tensor, step: Step, beams: int, length: int, eos: int
) -> tuple[list[int], list[float]]:
    """The best sequence, which ends with `eos`, and the log-probability of each of its tokens.

    `first` (vocabulary,) are the first token's log-probabilities. The rule is big_vision's (oracle
    finding 4): at every step each live beam is considered as ending now; the best finished so far is
    kept (a later one must be strictly better; among equals the lower beam); each live beam is expanded
    with its top `beams` + 1 tokens, `eos` dropped, and the best `beams` by sum stay (ties: lower beam,
    then higher rank); it stops when the best live score is strictly below the best finished, or after
    `length` steps. `eos` counts in `length`. Sums are float32, as the reference's.
    """
    live: list[tuple[list[int], list[float]]] = [([], [])]
    sums = [0.0]
    logp = first[None]
    best: tuple[list[int], list[float]] = ([], [])
    best_sum = -math.inf
    for index in range(length):
        last = logp[:, eos].tolist()
        ending = [add(s, p) for s, p in zip(sums, last, strict=True)]
        row = ending.index(max(ending))
        if ending[row] > best_sum:
            best_sum = ending[row]
            best = ([*live[row][0], eos], [*live[row][1], last[row]])
        if index + 1 == length:
            break
        parents, tokens, sums = expand(logp, sums, beams, eos)
        if sums[0] < best_sum:
            break
        live = [
            ([*live[p][0], t], [*live[p][1], float(logp[p, t])]) for p, t in zip(parents, tokens, strict=True)
        ]
        logp = step(parents, tokens)
    return best


def expand(
    logp: torch.Tensor, sums: list[float], beams: int, eos: int
) -> tuple[list[int], list[int], list[float]]:
    """The best `beams` continuations without `eos`: parents, tokens and their sums, best first."""
    keep = min(beams + 1, logp.shape[-1])
    least = logp.topk(keep, dim=-1).values[:, -1:]
    candidates = []  # in the order lower beam, then higher rank: what ties fall back on
    for row, ids in enumerate([(r >= m).nonzero()[:, 0] for r, m in zip(logp, least, strict=True)]):
        values = logp[row, ids].tolist()
        ranked = sorted(zip(values, ids.tolist(), strict=True), key=lambda pair: (-pair[0], pair[1]))[:keep]
        candidates += [(row, token, add(sums[row], value)) for value, token in ranked if token != eos]
    candidates.sort(key=lambda c: -c[2])  # stable
    kept = candidates[:beams]
    return [c[0] for c in kept], [c[1] for c in kept], [c[2] for c in kept]


def add(a: float, b: float) -> float:
    """The sum rounded to float32, as the reference keeps its scores."""
    return float(np.float32(a) + np.float32(b))
