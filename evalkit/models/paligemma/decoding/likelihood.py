"""The most likely of given answers, with any engine that can prefill prompts and step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from evalkit.models.paligemma.interface import Answer, Prompt, Rules


class Reader(Protocol):
    """The engine calls that scoring needs; a state belongs to the engine that created it."""

    home: torch.device

    def prefill(self, prompts: Sequence[Prompt], rules: Rules) -> tuple[torch.Tensor, Any]:
        """float32 logits (batch, vocabulary) of the first new tokens, and the state to continue from."""
        ...

    def step(self, tokens: torch.Tensor, state: Any) -> torch.Tensor:
        """Reads one new token per row: float32 logits (batch, vocabulary) of the token after it."""
        ...

    def reorder(self, state: Any, rows: torch.Tensor) -> None:
        """Makes row i continue from what row `rows[i]` has read; may change the number of rows."""
        ...


def choose(engine: Reader, prompt: Prompt, choices: Sequence[Sequence[int]], rules: Rules) -> Answer:
    """The most likely of the choices, each with its end token, as an answer.

    A choice's likelihood is the sum of its tokens' log-probabilities, including the end token's, not
    divided by its length; among equals the first wins. `margin`: that sum minus the second best's.
    """
    found = likelihood(engine, prompt, choices, rules)
    sums = [sum(one) for one in found]
    best = max(range(len(sums)), key=sums.__getitem__)
    others = [value for i, value in enumerate(sums) if i != best]
    return Answer(tuple(choices[best]), found[best], "eos", sums[best] - max(others) if others else None)


def likelihood(
    engine: Reader, prompt: Prompt, continuations: Sequence[Sequence[int]], rules: Rules
) -> list[tuple[float, ...]]:
    """The log-probability of each token of each continuation; the prompt is read once.

    A continuation's likelihood is the sum; an end token counts only if the continuation contains it.
    """
    longest = max(len(c) for c in continuations)
    found: list[list[float]] = [[] for _ in continuations]
    with torch.inference_mode():
        logits, state = engine.prefill([prompt], rules)
        logits = logits.expand(len(continuations), -1)
        engine.reorder(state, torch.zeros(len(continuations), dtype=torch.long))
        for step in range(longest):
            fed = torch.tensor([c[min(step, len(c) - 1)] if c else 0 for c in continuations])
            fed = fed.to(engine.home)
            logp = logits.gather(1, fed[:, None])[:, 0] - logits.logsumexp(dim=-1)
            for row, value in enumerate(logp.tolist()):
                if step < len(continuations[row]):
                    found[row].append(value)
            if step + 1 < longest:
                logits = engine.step(fed, state)
    return [tuple(row) for row in found]


def of_answers(
    engine: Any, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], rules: Rules, rows: int = 16
) -> list[tuple[float, ...]]:
    """The log-probability of each token of each prompt's one answer, as `likelihood` has it; prompts of one
    length together, at most `rows` at once, where the engine can (`FastEngine.forced`)."""
    found: list[tuple[float, ...]] = [()] * len(prompts)
    if not hasattr(engine, "forced"):
        for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            found[i] = likelihood(engine, prompt, [answer], rules)[0]
        return found
    groups: dict[tuple[int, ...], list[int]] = {}
    for i in sorted(range(len(prompts)), key=lambda i: len(answers[i])):
        key = len(prompts[i].pixels), len(prompts[i].before), len(prompts[i].ids)
        groups.setdefault(key, []).append(i)
    with torch.inference_mode():
        for group in groups.values():
            for start in range(0, len(group), rows):
                some = group[start : start + rows]
                told = engine.forced([prompts[i] for i in some], [answers[i] for i in some], rules)
                for i, each in zip(some, told, strict=True):
                    found[i] = each
    return found
