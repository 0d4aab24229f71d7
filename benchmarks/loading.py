"""Memory and time of loading a checkpoint with either engine: real size, random weights.

    python -m benchmarks.loading [--shape 3b] [--saved bfloat16] [--dtype bfloat16] [--folder DIR]

Each engine loads in a process of its own, from a file that the page cache has; memory is read from /proc, so
this runs on Linux. Status 1 if the fast engine holds more than 1.1 times what the plain one does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import models

MOST = 1.1  # the fast engine's memory over the plain one's
GIB = 2**30


def write(folder: Path, shape: str, resolution: int, family: int, saved: str) -> Path:
    """Saves random weights one tensor at a time, which needs the memory of the largest one."""
    import torch
    import transformers

    config = models.config(shape, resolution, family=family)
    config.dtype = saved
    with torch.device("meta"):
        model = transformers.PaliGemmaForConditionalGeneration(config)
    dtype, end, header = getattr(torch, saved), 0, dict[str, Any]()
    weights = sorted(model.named_parameters())
    for name, weight in weights:
        size = weight.numel() * dtype.itemsize
        header[name] = {
            "dtype": {"bfloat16": "BF16", "float32": "F32"}[saved],
            "shape": list(weight.shape),
            "data_offsets": [end, end + size],
        }
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    models.save_processor(folder, resolution)
    torch.manual_seed(0)
    with (folder / "model.safetensors").open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for _, weight in weights:
            values = torch.empty(weight.shape, dtype=dtype)
            values.normal_(0, 1.5 * weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.1)
            out.write(values.view(-1).view(torch.uint8).numpy().data)
    return folder


def load(folder: Path, engine: str, dtype: str) -> dict[str, Any]:
    """Loads the checkpoint in this process: seconds, and GiB resident and at the peak, libraries included."""
    import torch

    from evalkit.models.paligemma import PaliGemma

    model = PaliGemma(str(folder), engine=engine, dtype=dtype, device="cpu")
    model.identity()
    begun = time.monotonic()
    model.load()
    seconds = time.monotonic() - begun
    with torch.inference_mode():
        read = _use(model._engine, model.info.resolution)
    found = {"resident": _memory("VmRSS"), "peak": _memory("VmHWM"), "seconds": seconds}
    return found | {"digest": hashlib.sha256(read).hexdigest()[:12]}


def _use(engine: Any, side: int) -> bytes:
    """Reads every weight once: one image's features and the logits after one token, as bytes. What is only
    mapped into memory counts as resident from then on."""
    import torch

    pixels = torch.arange(side * side * 3).remainder(251).to(torch.uint8).view(1, side, side, 3)
    x = engine.features(pixels)[:, :1]
    if engine_decoder := getattr(engine, "decoder", None):
        logits = engine_decoder.logits(engine_decoder.prefill(x, engine_decoder.begin(1, 1, 0))[:, 0])
    else:
        model = engine.model
        logits = model.lm_head(model.model.language_model(inputs_embeds=x).last_hidden_state[:, -1]).float()
    return bytes(logits.numpy().tobytes())


def _memory(key: str) -> float:
    """GiB of this process as /proc/self/status has them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) * 1024 / GIB


def measure(folder: Path, engine: str, dtype: str) -> dict[str, Any]:
    """As `load`, in a fresh process."""
    words = [sys.executable, "-m", "benchmarks.loading", "--child", engine, "--folder", str(folder)]
    done = subprocess.run([*words, "--dtype", dtype], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line for each engine and the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shape", choices=tuple(models.SHAPES), default="3b")
    parser.add_argument("--family", type=int, choices=(1, 2), default=1)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--saved", choices=("bfloat16", "float32"), default="bfloat16", help="on disk")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="in memory")
    parser.add_argument("--folder", type=Path, help="a checkpoint, or where to write one and keep it")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--child", choices=("plain", "fast"), help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.child:
        print(json.dumps(load(given.folder, given.child, given.dtype)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = given.folder or Path(name)
        if not (folder / "config.json").is_file():
            write(folder, given.shape, given.resolution, given.family, given.saved)
        size = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
        measure(folder, "plain", given.dtype)  # hashes the file, and brings it into the page cache
        found = {engine: measure(folder, engine, given.dtype) for engine in ("plain", "fast")}
    print(f"{size / GIB:.2f} GiB on disk, loaded in {given.dtype}")
    for engine, row in found.items():
        print(
            f"{engine:<6} {row['resident']:6.2f} GiB resident, {row['peak']:6.2f} at the peak, "
            f"{row['seconds']:5.1f} s, logits {row['digest']}"
        )
    ratios = {key: found["fast"][key] / found["plain"][key] for key in ("resident", "peak")}
    print(f"ratio  {ratios['resident']:6.2f}              {ratios['peak']:6.2f}")
    if given.json:
        given.json.write_text(json.dumps({"found": found, "ratios": ratios, "bytes": size}, indent=2))
    return int(max(ratios.values()) > MOST)


if __name__ == "__main__":
    sys.exit(main())
