"""The fast engine against the `generate` loops that people write, on one thread, in CPU time.

    python -m benchmarks.engine [--json FILE] [--only NAME ...] [--rounds 5] [--quick]

Every row is measured in one process, contenders taking turns; the median ratio of the rounds is reported.
Checkpoints are random (`benchmarks/models.py`); answers are compared, and `same` says how many were equal.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks import models, rivals, table, work
from benchmarks.table import Row
from benchmarks.work import Question

os.environ.setdefault("OMP_NUM_THREADS", "1")

Contender = Callable[[Sequence[Question]], dict[str, str]]
"""Questions to texts by question id."""


def race(
    name: str,
    ours: Contender,
    theirs: Mapping[str, tuple[Contender, float, Sequence[Question]]],
    questions: Sequence[Question],
    rounds: int,
) -> list[Row]:
    """One row per rival: `ours` on all questions against the rival on its part of them, taking turns."""
    warm = questions[:4]
    ours(warm)
    for rival, _, _ in theirs.values():
        rival(warm)
    ratios: dict[str, list[float]] = {key: [] for key in theirs}
    times: dict[str, list[float]] = {key: [] for key in [*theirs, "ours"]}
    same: dict[str, str] = {}
    for _ in range(rounds):
        mine, texts = _timed(ours, questions)
        times["ours"].append(mine)
        for key, (rival, _, part) in theirs.items():
            their, answers = _timed(rival, part)
            times[key].append(their)
            ratios[key].append(their / mine)
            same[key] = f"{sum(texts[k] == v for k, v in answers.items())}/{len(answers)}"
    rows = []
    for key, (_, least, _) in theirs.items():
        found = ratios[key]
        mine, their = (1e3 * statistics.median(times[k]) for k in ("ours", key))
        shown = f"{mine:.1f} against {their:.1f} ms"
        rows.append(
            Row(
                name,
                key,
                round(statistics.median(found), 3),
                least,
                (min(found), max(found)),
                same[key],
                shown,
            )
        )
    return rows


def _timed(run: Contender, questions: Sequence[Question]) -> tuple[float, dict[str, str]]:
    begun = time.process_time()
    answers = run(questions)
    return (time.process_time() - begun) / len(questions), answers


# --- rows ------------------------------------------------------------------------------------------


def compute_bound(folder: Path, rounds: int, quick: bool) -> list[Row]:
    """`half` in bfloat16, VQA with 5 questions an image, at 224 and 448."""
    rows = []
    for side, images, least in ((224, 16, (1.6, 1.45)), (448, 5, (1.45, None))):
        images = max(2, images // (4 if quick else 1))
        path = models.build(folder / f"half{side}", "half", side)
        questions = work.vqa(folder / "images", images)
        rival = rivals.Generate(path, torch.bfloat16)
        theirs = {
            "generate, batch 1": (rival.batches(1, 5), least[0] or 0.0, questions[: 5 * max(2, images // 2)])
        }
        if least[1]:
            theirs["generate, batch 8, left-padded"] = (rival.batches(8, 5), least[1], questions)
        ours = rivals.ours(path, "bfloat16", side, 5)
        rows += race(
            f"compute-bound, {side} px, bf16, VQA 5 questions an image", ours, theirs, questions, rounds
        )
    return rows


def stable_cost(folder: Path, rounds: int, quick: bool) -> list[Row]:
    """The cost of `--stable` on the compute-bound model: the ratio is below 1 by the share of close calls."""
    path = models.build(folder / "half224", "half", 224)
    questions = work.vqa(folder / "images", 4 if quick else 16)
    plain = rivals.ours(path, "bfloat16", 224, 5)
    stable = rivals.ours(path, "bfloat16", 224, 5, stable=0.05)
    return race(
        "--stable, margin 0.05, bf16", stable, {"without": (plain, 0.0, questions)}, questions, rounds
    )


def real_depth(folder: Path, rounds: int, quick: bool) -> list[Row]:
    """`thin` in float32: VQA and captions."""
    path = models.build(folder / "thin224", "thin")
    rows = []
    for name, questions, new, least in (
        ("VQA", work.vqa(folder / "images", 16 if quick else 64), 5, (1.8, 1.4)),
        ("captions", work.captions(folder / "images", 32 if quick else 96), 20, (1.9, 1.4)),
    ):
        rival = rivals.Generate(path, torch.float32)
        part = questions[: len(questions) // 4]
        theirs = {
            "generate, batch 1": (rival.batches(1, new), least[0], part),
            "generate, batch 32, left-padded": (rival.batches(32, new), least[1], questions),
        }
        ours = rivals.ours(path, "float32", 224, new)
        rows += race(f"real depth, thin, {name}", ours, theirs, questions, rounds)
    return rows


def detection(folder: Path, rounds: int, quick: bool) -> list[Row]:
    """Outputs of 8 to 200 tokens, their lengths set by the same rule on both sides."""
    rows = []
    for shape, dtype, count in (("thin", torch.float32, 64), ("half", torch.bfloat16, 32)):
        path = models.build(folder / f"{shape}224", shape)
        questions = work.detection(folder / "images", count // (2 if quick else 1))
        lengths = work.lengths(questions, 8, 200)
        rival = rivals.Generate(path, dtype)
        theirs = {"generate, batch 8, left-padded": (rival.batches(8, 200, lengths), 2.0, questions)}
        ours = rivals.ours(path, str(dtype).removeprefix("torch."), 224, 200, lengths=lengths)
        rows += race(f"detection, 8 to 200 tokens, {shape}", ours, theirs, questions, rounds)
    return rows


def images(folder: Path, rounds: int, quick: bool) -> list[Row]:
    """Decoding, resizing and normalising, without a model."""
    from benchmarks import pictures

    return [Row(**line) for line in pictures.rows(folder, max(rounds, 5), quick)]


def memory(folder: Path, rounds: int, quick: bool) -> list[Row]:
    """Peak resident memory of one sample at 896 px with 257k vocabulary rows, each side in a process."""
    path = models.build(folder / "wide896", "half", 896, rows=257_216)
    picture = work.vqa(folder / "images", 1)[0].image
    found = {}
    for kind in ("generate", "fast"):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.rivals", kind, str(path), picture],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found[kind] = int(done.stdout.split()[-1])
    each = f"{found['fast'] / 1024:.0f} against {found['generate'] / 1024:.0f} MiB"
    ratio = round(found["generate"] / found["fast"], 3)
    return [Row("peak memory, 896 px, batch 1, 257k vocabulary, float32", "generate", ratio, 1.0, each=each)]


ROWS = {
    "images": images,
    "memory": memory,
    "real_depth": real_depth,
    "detection": detection,
    "compute_bound": compute_bound,
    "stable": stable_cost,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; status 1 when a row is below its bar."""
    with tempfile.TemporaryDirectory() as folder:
        return table.run(__doc__, {name: partial(row, Path(folder)) for name, row in ROWS.items()}, argv)


if __name__ == "__main__":
    sys.exit(main())
