"""Fills the table of samples/s, share of the ceiling and memory on a GPU; without one it says so.

    python -m benchmarks.gpu [--model FOLDER] [--samples 512] [--json FILE]

Without `--model` it takes random weights in the shape of PaliGemma 3B at 224, 448 and 896 px. The ceiling
is arithmetic: dense bfloat16 operations of one sample over what the GPU multiplies here, measured first.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import models, rivals, work

TERA = {224: 0.22 + 1.08 + 0.010, 448: 0.98 + 4.27 + 0.010, 896: 5.48 + 18.8 + 0.011}
"""10¹² operations of one VQA sample of the 3B model: vision, prefill, decoding."""

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
    """bfloat16 operations a second of a large product on this GPU, in 10¹²."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        for _ in range(10):
            a @ a
        torch.cuda.synchronize()
        done += 10
    return done * 2 * 8192**3 / (time.perf_counter() - begun) / 1e12


def measure(path: Path, side: int, samples: int, folder: Path, teraflops: float) -> dict[str, Any]:
    """One resolution's line."""
    questions = work.vqa(folder / "images", samples // 5)
    run = rivals.ours(path, "bfloat16", side, 5, device="cuda", workers=8)
    run(questions[:64])
    torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    run(questions)
    rate = len(questions) / (time.perf_counter() - begun)
    return {
        "resolution": side,
        "samples_per_second": round(rate, 1),
        "share_of_ceiling": round(rate * TERA[side] / teraflops, 3),
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; status 1 without a GPU."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, help="a checkpoint folder; its resolution alone is measured")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("benchmarks.gpu: no GPU here; nothing was measured", file=sys.stderr)
        return 1
    teraflops, rows = peak(), []
    print(f"{torch.cuda.get_device_name()}: {teraflops:.0f} TFLOP/s in bfloat16")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side in TERA:
            path = asked.model or models.build(folder / f"3b-{side}", "3b", side)
            if asked.model:
                said = json.loads((path / "config.json").read_text())["vision_config"]["image_size"]
                if said != side:
                    continue
            rows.append(measure(path, side, asked.samples, folder, teraflops))
            print(rows[-1], flush=True)
    if asked.json:
        asked.json.write_text(json.dumps({"teraflops": teraflops, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
