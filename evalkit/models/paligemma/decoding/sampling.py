"""Drawing tokens at a temperature, with random numbers that depend on the sample and never on its batch."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from evalkit.types import Decode

ROWS = 16  # drawn at once, to bound memory: several copies of the probabilities exist in float64


class Draws:
    """One stream of random numbers per row, from `random.Random`, which is stable across Python versions."""

    def __init__(self, seeds: Sequence[int], decode: Decode) -> None:
        self._streams = [random.Random(seed) for seed in seeds]
        self._decode = decode

    def next(self, logits: torch.Tensor) -> torch.Tensor:
        """Tokens (batch,) drawn from float32 logits (batch, vocabulary)."""
        return choose(logits, [s.random() for s in self._streams], self._decode)


def choose(logits: torch.Tensor, numbers: Sequence[float], decode: Decode) -> torch.Tensor:
    """Tokens (batch,) from float32 logits (batch, vocabulary) by one number in [0, 1) per row.

    Looks the number up in the cumulative probabilities of the kept tokens, in the order of their ids.
    Batching changes probabilities by rounding (1e-6 in float32), so a draw changes only if its number
    is that close to an edge or, with top_p, if two tokens whose probabilities are that close compete for the
    last place among those kept.
    """
    drawn = torch.tensor(numbers, dtype=torch.float64)[:, None].to(logits.device)
    parts = zip(logits.split(ROWS), drawn.split(ROWS), strict=True)
    return torch.cat([_choose(part, some, decode) for part, some in parts])


def _choose(logits: torch.Tensor, numbers: torch.Tensor, decode: Decode) -> torch.Tensor:
    probabilities = nucleus(torch.softmax(logits.double() / decode.temperature, dim=-1), decode.top_p)
    edges = probabilities.cumsum(dim=-1)
    # right=True: a token of probability 0 is never chosen, not even by the number 0
    chosen = torch.searchsorted(edges, numbers * edges[:, -1:], right=True)[:, 0]
    last = probabilities.shape[-1] - 1 - (probabilities.flip(-1) > 0).int().argmax(dim=-1)
    return torch.minimum(chosen, last)


def nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Probabilities (batch, vocabulary) with all but the likeliest tokens set to 0: those that together reach
    `top_p`, including the one that crosses it, so at least one (Holtzman et al., 2020)."""
    if top_p >= 1:
        return probabilities
    ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ranked.cumsum(dim=-1) - ranked
    return torch.zeros_like(probabilities).scatter(-1, order, ranked.where(before < top_p, 0.0))
