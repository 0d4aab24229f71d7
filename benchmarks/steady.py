"""A long run's overhead and memory: CPU time outside model and images, resident memory after many samples.

    python -m benchmarks.steady [--samples 20000] [--seconds 300] [--shape thin]

Memory is measured with a tiny checkpoint, which is fast enough for many samples; the share of overhead is
measured with `--shape`, whose calls cost about as much as those of a real model.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import evalkit
from benchmarks import models, work
from evalkit.images import prepare
from evalkit.models.paligemma import PaliGemma
from evalkit.models.paligemma.engine import continuous_batching, fast
from evalkit.runs.journal import Journal
from evalkit.runs.journal_lines import Entry
from evalkit.types import Decode, ImageRef, Preparation, Request

os.environ.setdefault("OMP_NUM_THREADS", "1")

models.SHAPES["tiny"] = {
    "text": {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 1, "head_dim": 8,
    },
    "vision": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
}  # fmt: skip
models.ROWS["tiny"] = 2048


class Clock:
    """CPU time of the calling thread inside wrapped calls, nested ones counted once."""

    def __init__(self) -> None:
        self.spent = 0.0
        self._inside = threading.local()

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **more: Any) -> Any:
            if getattr(self._inside, "now", False):
                return call(*args, **more)
            self._inside.now = True
            begun = time.thread_time()
            try:
                return call(*args, **more)
            finally:
                self.spent += time.thread_time() - begun
                self._inside.now = False

        return timed


def overhead(folder: Path, shape: str, scenes: int, seconds: float) -> tuple[float, int, float]:
    """(share of CPU time spent outside the model and image reading, number of samples, seconds of wall
    time), measured after the first batch."""
    path = models.build(folder / shape, shape)
    clock = Clock()
    backend = PaliGemma(str(path), device="cpu", protocol="hf", prepare=clock.wrap(prepare.prepare))
    backend.load()
    engine: Any = backend._engine
    for name in ("prefill", "step"):
        setattr(engine, name, clock.wrap(getattr(engine, name)))
    continuous_batching.ContinuousBatch._read = clock.wrap(continuous_batching.ContinuousBatch._read)  # type: ignore[method-assign]
    questions = work.vqa(folder / "images", scenes)
    preparation = Preparation(224, "bicubic", True, "precise")
    requests = (
        Request(f"{turn}-{q.id}", (ImageRef(q.image),), q.prompt, preparation, Decode(5, None))
        for turn in itertools.count()
        for q in questions
    )
    answers = backend.predict(requests)
    for _ in range(32):
        next(answers)
    clock.spent, begun, wall, done = 0.0, time.process_time(), time.monotonic(), 0
    for _ in answers:
        done += 1
        if time.monotonic() - wall > seconds:
            break
    used, wall = time.process_time() - begun, time.monotonic() - wall
    answers.close()  # type: ignore[attr-defined]
    return 1 - clock.spent / used, done, wall


def memory(folder: Path, samples: int) -> list[tuple[str, float]]:
    """(when, resident MiB) during one complete run of a tiny checkpoint at 28 px, with five questions per
    image, and after scoring."""
    path = models.build(folder / "tiny", "tiny", 28)
    data = folder / "custom"
    (data / "images").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    with (data / "vqa.jsonl").open("w") as lines:
        for i in range(samples):
            if i % 5 == 0:
                pixels[0, :4, 0] = [i >> shift & 255 for shift in (0, 8, 16, 24)]
                Image.fromarray(pixels).save(data / "images" / f"{i // 5}.png", compress_level=1)
            line = {
                "id": i,
                "image": f"{i // 5}.png",
                "question": "ab"[: 1 + i % 2] * (1 + i % 7),
                "answer": "a",
            }
            lines.write(json.dumps(line) + "\n")
    fast.memory_limits = lambda device: (1 << 20, 0)  # full after a thousand samples, as with a real model
    marks = sorted({1000, 10_000, 50_000, samples})
    found, written, write = [], itertools.count(1), Journal.write

    def counted(self: Journal, entry: Entry) -> None:
        write(self, entry)
        done = next(written)
        if done in marks:
            found.append((f"{done:,} samples", _resident()))

    Journal.write = counted  # type: ignore[method-assign]
    evalkit.run(
        path, "custom_vqa", data_root=folder, output_path=folder / "results", device="cpu", batch_size=64,
        set={"decode.max_new_tokens": 2},
    )  # fmt: skip
    return [*found, ("scored", _resident())]


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main(argv: Sequence[str] | None = None) -> int:
    """Prints memory and overhead."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--shape", choices=("thin", "half"), default="thin")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        for when, mib in memory(Path(name), arguments.samples):
            print(f"{when}: {mib:.0f} MiB resident", flush=True)
        share, done, wall = overhead(Path(name), arguments.shape, arguments.scenes, arguments.seconds)
        print(
            f"{arguments.shape}: {100 * share:.1f} % of CPU time outside model and images "
            f"({done:,} samples in {wall:.0f} s)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
