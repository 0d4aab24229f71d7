"""The generated images that the oracle's files name by kind, seed and size (their `header.inputs`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(os.environ.get("EVALKIT_ORACLE", Path(__file__).resolve().parents[1] / "../shared/oracle"))
ABSENT = f"no oracle files at {FOLDER} (EVALKIT_ORACLE names the folder)"


def stream(n: int, seed: int) -> np.ndarray:
    """`n` bytes of splitmix64, counted from `seed` · 1000003."""
    with np.errstate(over="ignore"):
        z = (np.arange(n, dtype=np.uint64) + np.uint64(seed * 1000003 + 1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(56)).astype(np.uint8)


def image(spec: dict[str, Any]) -> np.ndarray:
    """(h, w, 3) uint8 of `{"kind": ..., "seed": ..., "h": ..., "w": ...}`."""
    kind, seed, h, w = spec["kind"], spec["seed"], spec["h"], spec["w"]
    if kind == "gray":
        return np.repeat(stream(h * w, seed).reshape(h, w, 1), 3, axis=2)
    if kind in ("noise", "sat"):
        noise = stream(h * w * 3, seed).reshape(h, w, 3)
        return noise if kind == "noise" else np.where(noise >= 128, 255, 0).astype(np.uint8)
    y, x = np.mgrid[:h, :w]
    if kind == "smooth":
        planes = (
            np.broadcast_to(x * 255 // max(w - 1, 1), (h, w)),
            np.broadcast_to(y * 255 // max(h - 1, 1), (h, w)),
            (x * y * (7 + seed)) // 64 % 256,
        )
    else:
        planes = (
            (x // (3 + seed % 5) + y // 4) % 2 * 255,
            x // 7 % 2 * 200,
            y // (2 + seed % 3) % 2 * 131,
        )
    return np.stack(planes, axis=-1).astype(np.uint8)
