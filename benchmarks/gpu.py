"""Fills the table of samples/s, share of the ceiling and memory on a GPU; without one it says so.

    python -m benchmarks.gpu [--model FOLDER] [--samples 512] [--json FILE]

bfloat16, five questions per image, decode steps with and without CUDA graphs. Without `--model` it uses
random weights in the shape of PaliGemma 3B at 224, 448 and 896 px. The ceiling is computed: the GPU's speed
at a large matrix product, measured first, over the operations of one sample (`evalkit.models.paligemma.cost`,
nothing reused between samples).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import models, rivals, work
from evalkit.models.paligemma import flops as cost
from evalkit.models.paligemma.checkpoint import info as checkpoint_info

SIDES = (224, 448, 896)
PROMPT, NEW = 16, 5  # tokens of a sample's prompt and answer, as in VQAv2

models.SHAPES["3b"] = {
    "text": {
        "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 18, "num_attention_heads": 8,
        "num_key_value_heads": 1, "head_dim": 256,
    },
    "vision": {
        "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
    },
}  # fmt: skip
models.ROWS["3b"] = 257_216


def peak(seconds: float = 2.0) -> float:
    """bfloat16 operations per second of a large matrix product on this GPU, in 10¹²."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    a @ a  # warm-up: libraries initialise themselves
    torch.cuda.synchronize()
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        for _ in range(10):
            a @ a
        torch.cuda.synchronize()
        done += 10
    return done * 2 * 8192**3 / (time.perf_counter() - begun) / 1e12


def row(
    side: int, graphs: str, samples: int, seconds: float, flops: float, teraflops: float, held: int
) -> dict[str, Any]:
    """One line of the table: `flops` of one sample, `teraflops` of the device, `held` bytes at the peak."""
    rate = samples / seconds
    ceiling = teraflops * 1e12 / flops
    return {
        "resolution": side,
        "cuda_graphs": graphs,
        "samples_per_second": round(rate, 1),
        "ceiling": round(ceiling, 1),
        "share_of_ceiling": round(rate / ceiling, 3),
        "peak_memory_gib": round(held / 2**30, 1),
    }


def measure(
    path: Path, samples: int, folder: Path, teraflops: float, graphs: str, device: str = "cuda"
) -> dict[str, Any]:
    """One checkpoint's line, measured after a first pass over some of the samples."""
    info = checkpoint_info.inspect(path)
    questions = work.vqa(folder / "images", max(1, samples // 5))
    run = rivals.ours(path, "bfloat16", info.resolution, NEW, device=device, workers=8, cuda_graphs=graphs)
    run(questions[:128])
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    answers = run(questions)
    seconds = time.perf_counter() - begun
    held = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    flops = cost.flops(info, 1, PROMPT, NEW)
    return row(info.resolution, graphs, len(answers), seconds, flops, teraflops, held)


def checkpoints(model: Path | None, folder: Path) -> Iterator[Path]:
    """The given checkpoint, or one of random weights at each resolution, removed after use."""
    if model is not None:
        yield model
        return
    for side in SIDES:
        made = models.build(folder / f"3b-{side}", "3b", side, dtype=torch.bfloat16)
        yield made
        shutil.rmtree(made)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows in Markdown, for docs/performance.md."""
    lines = [
        "| px | CUDA graphs | samples/s | ceiling | share | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| {r['resolution']} | {r['cuda_graphs']} | {r['samples_per_second']} | {r['ceiling']} | "
            f"{100 * r['share_of_ceiling']:.1f} % | {r['peak_memory_gib']} GiB |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; status 2 without a GPU."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, help="a checkpoint folder; its resolution alone is measured")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print(
            "benchmarks.gpu: torch sees no CUDA device here, so nothing was measured; "
            "run it on a machine with a GPU (on a CPU: python -m benchmarks.engine)",
            file=sys.stderr,
        )
        return 2
    teraflops, rows = peak(), []
    print(f"{torch.cuda.get_device_name()}: {teraflops:.0f} TFLOP/s in bfloat16")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["EVALKIT_CACHE"] = str(folder / "cache")  # batch sizes as on a first run
        for path in checkpoints(arguments.model, folder):
            for graphs in ("on", "off"):
                rows.append(measure(path, arguments.samples, folder, teraflops, graphs))
                print(rows[-1], flush=True)
                gc.collect()
                torch.cuda.empty_cache()
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps({"teraflops": teraflops, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
