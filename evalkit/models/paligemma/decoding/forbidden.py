"""Forbidden tokens: an answer may not contain the last token of a forbidden sequence that it has begun.
Knows no tokenizer; changes logits in place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch

Sequences = Sequence[Sequence[int]]


def completing(forbidden: Sequences, said: Sequence[int]) -> set[int]:
    """The tokens that would complete one of the sequences after the tokens `said`."""
    return {f[-1] for f in forbidden if len(f) == 1 or list(said[1 - len(f) :]) == list(f[:-1])}


def forbid(logits: torch.Tensor, rows: Iterable[tuple[Sequences, Sequence[int]]]) -> None:
    """Sets the logits (rows, vocabulary) of each row's forbidden tokens to minus infinity; each of `rows` is
    (its forbidden sequences, its tokens so far)."""
    places = [(i, token) for i, (never, said) in enumerate(rows) for token in completing(never, said)]
    if places:
        at = torch.tensor(places, device=logits.device)
        logits[at[:, 0], at[:, 1]] = -math.inf
