"""A long run's overhead and memory: CPU time outside model and images, resident memory as samples go by.

    python -m benchmarks.steady [--samples 20000] [--shape thin]

A tiny checkpoint answers so fast that memory can be watched over many samples; the share of overhead is
taken on `--shape`, whose calls cost what a model's do.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from benchmarks import models, work
from evalkit import images
from evalkit.models.paligemma import PaliGemma, lane
from evalkit.types import Decode, ImageRef, Preparation, Request

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


def overhead(folder: Path, shape: str, scenes: int) -> float:
    """Share of CPU time that goes neither into the model nor into reading images, after the first batch."""
    path = models.build(folder / shape, shape)
    clock = Clock()
    backend = PaliGemma(str(path), device="cpu", protocol="hf", prepare=clock.wrap(images.prepare))
    backend.load()
    engine: Any = backend._engine
    for name in ("prefill", "step"):
        setattr(engine, name, clock.wrap(getattr(engine, name)))
    lane.Lane._read = clock.wrap(lane.Lane._read)  # type: ignore[method-assign]
    questions = work.vqa(folder / "images", scenes)
    preparation = Preparation(224, "bicubic", True, "precise")
    asked = [Request(q.id, (ImageRef(q.image),), q.prompt, preparation, Decode(5, None)) for q in questions]
    answers = backend.predict(asked)
    for _ in range(16):
        next(answers)
    clock.spent, begun = 0.0, time.process_time()
    for _ in answers:
        pass
    return 1 - clock.spent / (time.process_time() - begun)


def memory(folder: Path, samples: int) -> list[tuple[int, float]]:
    """(samples answered, resident MiB) along one run of a tiny checkpoint at 28 px."""
    path = models.build(folder / "tiny", "tiny", 28)
    pixels = images.resize(images.decode(Path(work.picture(folder / "images", 0)).read_bytes()), 28)

    def prepare(ref: ImageRef, preparation: Preparation) -> images.Prepared:
        changed = pixels.copy()
        changed[0, :4, 0] = [int(ref.path) >> shift & 255 for shift in (0, 8, 16, 24)]
        return images.Prepared(changed, ref.path, (480, 640))

    def asked() -> Iterator[Request]:
        for i in range(samples):
            image = (ImageRef(str(i // 5)),)
            yield Request(str(i), image, "ab"[: 1 + i % 2] * (1 + i % 7), Preparation(28), Decode(2))

    backend = PaliGemma(str(path), device="cpu", prepare=prepare, batch_size=64)
    marks = sorted({1000, 5000, 10_000, 20_000, 50_000, samples})
    found = []
    for done, _ in enumerate(backend.predict(asked()), start=1):
        if done in marks:
            found.append((done, _resident()))
    return found


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main(argv: Sequence[str] | None = None) -> int:
    """Prints both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--shape", choices=("thin", "half"), default="thin")
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        for done, mib in memory(Path(name), asked.samples):
            print(f"{done:,} samples: {mib:.0f} MiB resident")
        share = overhead(Path(name), asked.shape, asked.scenes)
        print(f"{asked.shape}: {100 * share:.1f} % of CPU time outside model and images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
