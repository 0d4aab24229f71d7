"""Saves the parameters of a JAX training as big_vision's `.npz`, which evalkit evaluates:

    from export_npz import save

    if step % 500 == 0 and jax.process_index() == 0:
        save(f"checkpoints/step-{step}.npz", params)  # {"img": {...}, "llm": {...}}

    evalkit run --model checkpoints/step-500.npz --tokenizer FOLDER --tasks docvqa_val --data-root /datasets

Needs numpy only; `np.asarray` fetches an array of JAX from its device. Gather sharded parameters first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np


def flat(tree: Mapping[str, Any], above: str = "params") -> Iterator[tuple[str, np.ndarray]]:
    """Every array with its place in the tree: `params/img/embedding/kernel`."""
    for name, value in tree.items():
        place = f"{above}/{name}"
        if isinstance(value, Mapping):
            yield from flat(value, place)
        else:
            yield place, np.asarray(value)


def save(file: str | Path, params: Mapping[str, Any]) -> None:
    """Writes `file`, first under another name: who watches the folder never sees a half of it."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.partial")
    with partial.open("wb") as opened:
        np.savez(opened, **dict(flat(params)))
    os.replace(partial, file)
