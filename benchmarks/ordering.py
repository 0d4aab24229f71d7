"""What order and grouping save, counted without a model.

    python -m benchmarks.ordering

The second table counts, for VQA with 5 questions an image and answers of 3 tokens, how often an engine reads
prompts of one length and takes a decode step, by what becomes of incomplete batches.

The first is about ordering outputs by expected length: continuous batching, a simulated engine. The lengths
are the detection benchmark's (8 to 200 tokens, most short). "known" orders by the true lengths, which are
never known in advance: no predictor can save more. "learned" orders each window by the mean length of earlier
answers to the same prompt text, where a prompt's text decides half of the (log-) length.
"""

from __future__ import annotations

import math
import random
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import numpy as np
import torch

from benchmarks import models, work
from benchmarks.gpu.load import VQA
from benchmarks.work import Question
from evalkit.models.paligemma.batching.batches import Planned, Tails, plan
from evalkit.models.paligemma.engine.continuous_batching import ContinuousBatch, Row
from evalkit.models.paligemma.interface import Limit, Prompt, rules
from evalkit.models.paligemma.tokenizer import Prompter
from evalkit.types import Decode

END = 1
PIXELS = np.zeros((1, 1, 1, 3), np.uint8)


class Places:
    """The part of a cache that a `ContinuousBatch` uses."""

    lengths: list[int]
    rows: list[int]

    def retire(self, ended: list[int]) -> list[int]:
        """Removes ended rows; gives the indices of those that stay."""
        self.rows = [r for i, r in enumerate(self.rows) if i not in ended]
        return [i for i in range(len(self.rows) + len(ended)) if i not in ended]


class Scripted:
    """An engine whose rows have given lengths; counts steps and the rows in them."""

    strict = overlaps = False

    def __init__(self) -> None:
        self.steps = self.rows = 0

    def prefill(self, prompts: Sequence[Prompt], rules: Any, state: Places | None, room: int) -> Any:
        """The first token of new rows."""
        if state is None or not state.lengths:
            state = Places()
            state.rows = []
        state.rows += [p.seed - 1 for p in prompts]
        state.lengths = state.rows
        return self._logits(state.rows[-len(prompts) :]), state

    def step(self, tokens: Any, state: Places) -> Any:
        """The next token of all rows."""
        self.steps += 1
        self.rows += len(state.rows)
        state.rows = [r - 1 for r in state.rows]
        state.lengths = state.rows
        return self._logits(state.rows)

    def _logits(self, left: list[int]) -> Any:
        logits = torch.zeros((len(left), 2))
        logits[:, END] = torch.tensor([1.0 if n <= 0 else -1.0 for n in left])
        return logits


def run(lengths: Sequence[int], places: int) -> Scripted:
    """Answers of these lengths, in this order, in a continuous batch of so many places."""
    engine: Any = Scripted()
    decode = Decode(256, None)
    batch = ContinuousBatch(engine, decode, rules("paper", (END,)), Limit(places), refill=True)
    rows = [Row(Prompt(PIXELS, (2,), n)) for n in lengths]
    done = list(batch.run(rows[i : i + places] for i in range(0, len(rows), places)))
    assert sorted(len(r.tokens) for r in done) == sorted(lengths)
    found: Scripted = engine
    return found


def learned(lengths: Sequence[int], kinds: Sequence[int], window: int) -> Iterator[int]:
    """The lengths, each window ordered longest first by the means of the windows before."""
    seen: dict[int, list[float]] = defaultdict(list)
    for start in range(0, len(lengths), window):
        part = list(range(start, min(start + window, len(lengths))))
        expected = {k: sum(v) / len(v) for k, v in seen.items()}
        for i in sorted(part, key=lambda i: -expected.get(kinds[i], 0.0)):
            yield lengths[i]
            seen[kinds[i]].append(math.log(lengths[i]))


def main() -> int:
    """Prints the tables: steps of the model, and how many fewer in another order; then tails."""
    print("samples  places  steps  rows a step  known  learned")
    for count in (64, 500, 5000):
        random_ = random.Random(5)
        kinds = [random_.randrange(20) for _ in range(count)]
        questions = [Question(str(i), "", "") for i in range(count)]
        drawn = list(work.lengths(questions, 8, 200).values())
        of_kind = [8 * 25 ** (k / 19) for k in range(20)]
        lengths = [round(math.sqrt(n * of_kind[k])) for n, k in zip(drawn, kinds, strict=True)]
        for places in (8, 32, 64):
            plain = run(lengths, places)
            known = run(sorted(lengths, reverse=True), places)
            by_means = run(list(learned(lengths, kinds, 16 * places)), places)
            saved = [f"{100 * (1 - other.steps / plain.steps):.1f} %" for other in (known, by_means)]
            dense = plain.rows / plain.steps
            print(f"{count:7}  {places:6}  {plain.steps:5}  {dense:11.1f}  {saved[0]:>6}  {saved[1]:>6}")
    print("\npx   samples  tails     batches  prompts read  steps")
    for side, rows, count in ((224, 256, 1024), (448, 64, 900), (896, 16, 160)):
        for tails in get_args(Tails):
            made = list(plan(asked(side, count), Limit(rows), 4096, None, tails))
            reads = sum(len({len(p.ids) for p in batch}) for batch in made)
            steps = len(made) * (VQA.new[1] - 1)
            print(f"{side}  {count:7}  {tails:8}  {len(made):7}  {reads:12}  {steps:5}")
    return 0


def asked(side: int, count: int) -> list[Planned]:
    """VQA as the GPU benchmark asks it, by the tokenizer of the embedded model."""
    prompter = Prompter(models.tokenizer())
    requests = VQA.requests(side, 0, count)
    return [Planned(r, tuple(prompter.encode(r.prompt, None, "hf"))) for r in requests]


if __name__ == "__main__":
    sys.exit(main())
