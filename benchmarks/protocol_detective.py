"""Does `evalkit doctor --protocol-of` name the convention that a checkpoint was trained with?

`python -m benchmarks.protocol_detective OUT [--base demo|fresh] [--steps N] [--only CASE]...` trains a
checkpoint for each convention and prints the table as Markdown. What is there is not trained again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from benchmarks import trained_apart
from evalkit import demo
from evalkit.evaluation.detective import Verdict
from evalkit.evaluation.investigate import investigate
from evalkit.options.verbs import DoctorOptions
from evalkit.types import Conventions

USUAL = {
    "prompt_mask": "bidirectional", "newline": True, "bos": "prompt", "prompt_case": "kept",
    "question": "kept", "class_order": "kept", "class_separator": "kept", "resize": "bicubic", "pad": "none",
    "bins": 1023, "eos": True,
}  # fmt: skip


def judged(trained: Conventions, found: Verdict) -> tuple[list[str], list[str], list[str]]:
    """Which conventions were named rightly, wrongly, and which of the case's own were not told apart."""
    truth = {**USUAL, **trained.said}
    right = [name for name, value in found.told.items() if truth[name] == value]
    wrong = [f"{name} {value}" for name, value in found.told.items() if truth[name] != value]
    return right, wrong, [name for name in trained.said if name not in found.told]


def line(case: str, file: Path, test: Path, out: Path, steps: int, base: Path | None) -> str:
    """Trains a case unless it is there, and its row of the table."""
    trained = trained_apart.CASES[case]
    if not (out / "tokenizer_config.json").exists():
        trained_apart.train(trained, file, out, steps, base)
    begun = time.process_time()
    found = investigate(DoctorOptions(protocol_of=str(out), data=test, device="cpu")).verdict
    seconds = time.process_time() - begun
    right, wrong, untold = judged(trained, found)
    own = "not told" if untold else "named" if trained.said else "–"
    cells = (case, own, ", ".join(right) or "–", ", ".join(wrong) or "none", f"{seconds:.0f}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Trains, asks and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", choices=("demo", "fresh"), default="demo")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--only", action="append", choices=list(trained_apart.CASES))
    args = parser.parse_args()
    torch.set_num_threads(1)
    write = trained_apart.write_scenes if args.base == "demo" else trained_apart.write
    base = demo.checkpoint("later") if args.base == "demo" else None
    files = [args.out / name / "lines.jsonl" for name in ("train", "test")]
    for seed, (file, images) in enumerate(zip(files, (400, 64), strict=True)):
        if not file.exists():
            write(file.parent, images, seed)
    print("| trained with | its convention | named rightly | named wrongly | CPU seconds |")
    print("|---|---|---|---|---|")
    for case in args.only or trained_apart.CASES:
        out = args.out / case.replace(" ", "-").replace(",", "")
        print(line(case, files[0], files[1], out, args.steps, base), flush=True)


if __name__ == "__main__":
    main()
