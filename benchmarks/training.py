"""What an evaluation inside a training takes beside generating, and the memory that it leaves:
`python -m benchmarks.training [--limit 60] [--times 5] [--all]`. One thread; CPU time, that of child
processes too, since other work on the machine stretches any other."""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

import evalkit
from evalkit import demo
from evalkit.models.paligemma.live import Live

TASK = "shapes_vqa_test"


def now() -> float:
    """Seconds of CPU time so far."""
    others = os.times()  # of itself it is too coarse
    return time.process_time() + others.children_user + others.children_system


class Clock:
    """Sums the CPU time that the model's answers take, and nothing else."""

    def __init__(self) -> None:
        self.seconds = 0.0
        inner = Live.predict

        def predict(model: Any, requests: Any, *more: Any) -> Iterator[Any]:
            answers = inner(model, requests, *more)
            while True:
                begun = now()
                answer = next(answers, None)
                self.seconds += now() - begun
                if answer is None:
                    return
                yield answer

        Live.predict = predict  # type: ignore[assignment, method-assign]


def tensors() -> int:
    """Bytes of all tensors that Python knows."""
    gc.collect()
    return sum(t.untyped_storage().nbytes() for t in gc.get_objects() if isinstance(t, torch.Tensor))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--all", action="store_true", help="with until_decided=False")
    given = parser.parse_args()
    torch.set_num_threads(1)
    base = demo.checkpoint("earlier")
    processor = transformers.AutoProcessor.from_pretrained(base)
    model = transformers.PaliGemmaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        evaluate = evalkit.Evaluator(
            TASK, processor=processor, limit=given.limit, output_path=Path(folder), name="benchmark",
            until_decided=not given.all,
        )  # fmt: skip
        later = []
        for step in range(given.times + 1):
            with torch.no_grad():  # other weights, else the answers are known
                model.lm_head.weight.mul_(1.0001)
            before = tensors()  # it takes longer than all that is beside generating
            clock.seconds, begun = 0.0, now()
            evaluate(model, step)
            took = now() - begun
            beside = (took - clock.seconds) / took
            later += [beside] if step else []
            kept = tensors() - before
            first = " (the first, which reads tokenizer and data)" * (step == 0)
            text = (
                f"{took:.1f} s of CPU, {took - clock.seconds:.2f} s ({100 * beside:.1f} %) beside generating"
            )
            print(f"{text}, {kept:,} bytes kept{first}")
        print(f"later evaluations, median: {100 * statistics.median(later):.1f} % beside generating")


if __name__ == "__main__":
    main()
