"""Does `evalkit doctor --protocol-of` name the convention that a checkpoint was trained with?

`python -m benchmarks.protocol_detective OUT [--steps N] [--only CASE]...` fine-tunes the demo model by each
convention, asks about two halves of the answers and prints the table as Markdown. What is there is not
trained again.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import trained_apart
from evalkit.evaluation.detective import Verdict
from evalkit.evaluation.investigate import investigate
from evalkit.options.verbs import DoctorOptions
from evalkit.types import Conventions

IMAGES = 33  # four answers each: twice the 64 that the detective asks about, and a few
BOXED = 64  # images with boxes in pixels, one answer each
STEPS = 120
USUAL: Mapping[str, Any] = {
    "prompt_mask": "bidirectional", "newline": True, "bos": "prompt", "prompt_case": "kept",
    "question": "kept", "class_order": "kept", "class_separator": "kept", "resize": "bicubic", "pad": "none",
    "bins": 1023, "eos": True,
}  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """Conventions by name: those named rightly, named wrongly (with the value), and the case's own that
    could not be told."""

    right: tuple[str, ...]
    wrong: tuple[str, ...]
    untold: tuple[str, ...]


def judged(trained: Conventions, found: Verdict) -> Judged:
    """What was found against what it was trained with."""
    truth = {**USUAL, **trained.said}
    right = tuple(name for name, value in found.told.items() if truth[name] == value)
    wrong = tuple(f"{name} {value}" for name, value in found.told.items() if truth[name] != value)
    return Judged(right, wrong, tuple(name for name in trained.said if name not in right))


def halves(file: Path) -> list[Path]:
    """Two files beside `file`, each with half of its lines."""
    every = trained_apart.read(file)
    random.Random(0).shuffle(every)
    middle = len(every) // 2
    parts = every[:middle], every[middle:]
    return [trained_apart.kept(file.with_name(f"half{i}.jsonl"), part) for i, part in enumerate(parts)]


def line(case: str, file: Path, asked: list[Path], out: Path, steps: int) -> tuple[str, list[Judged]]:
    """Trains a case unless it is there; its row of the table, and what was found by each of `asked`."""
    trained = trained_apart.CASES[case]
    if not (out / "tokenizer_config.json").exists():
        trained_apart.train(trained, file, out, steps)
    apart = trained_apart.apart(trained, out, file)
    found, seconds = [], []
    for data in asked:
        begun = time.process_time()
        verdict = investigate(DoctorOptions(protocol_of=str(out), data=data, device="cpu")).verdict
        seconds.append(time.process_time() - begun)
        found.append(judged(trained, verdict))
    smallest = f"{min(apart.values()):.1f}" if apart else "–"
    own = " / ".join("not told" if one.untold else "named" for one in found) if trained.said else "–"
    right = " / ".join(", ".join(name for name in one.right) or "none" for one in found)
    wrong = " / ".join(", ".join(one.wrong) or "none" for one in found)
    cells = (case, smallest, own, right, wrong, " / ".join(f"{s:.0f}" for s in seconds))
    return "| " + " | ".join(cells) + " |", found


def main() -> None:
    """Trains, asks and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--only", action="append", choices=list(trained_apart.CASES))
    args = parser.parse_args()
    torch.set_num_threads(1)
    file, boxes = (args.out / name / "lines.jsonl" for name in ("data", "boxes"))
    if not file.exists():
        trained_apart.write(file.parent, IMAGES)
    if not boxes.exists():
        trained_apart.write_boxes(boxes.parent, BOXED)
    lines, coco = halves(file), [boxes.with_name(f"half{i}.json") for i in range(2)]
    print("| trained with | apart by | its convention | named rightly | named wrongly | CPU seconds |")
    print("|---|---|---|---|---|---|")
    for case in args.only or trained_apart.CASES:
        out = args.out / re.sub(r"[^a-z0-9]+", "-", case)
        boxed = trained_apart.CASES[case].bins is not None
        row, _ = line(case, boxes if boxed else file, coco if boxed else lines, out, args.steps)
        print(row, flush=True)


if __name__ == "__main__":
    main()
