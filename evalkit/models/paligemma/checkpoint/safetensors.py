"""Names and shapes of tensors in safetensors files, from their headers alone. Does not import torch."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

from evalkit.errors import ModelError

DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}
_SPELLINGS = (
    (r"^base_model\.model\.", ""),  # peft's wrapping
    (r"\.base_layer\.", "."),
    (r"^model\.(?=vision_tower|multi_modal_projector|language_model|lm_head)", ""),  # since transformers 4.52
    (r"^language_model\.lm_head\b", "lm_head"),  # before
    (r"^language_model\.model\.", "language_model."),
    (r"^vision_tower\.vision_model\.", "vision_tower."),
)


def canonical(name: str) -> str:
    """One name for a weight that versions of transformers and peft name differently."""
    for pattern, short in _SPELLINGS:
        name = re.sub(pattern, short, name)
    return name


def shapes(files: tuple[Path, ...]) -> tuple[dict[str, tuple[int, ...]], Counter[str]]:
    """Shapes of all tensors, and the number of parameters by the precision they are saved in."""
    found: dict[str, tuple[int, ...]] = {}
    kinds: Counter[str] = Counter()
    for file in files:
        for name, entry in header(file).items():
            if name == "__metadata__":
                continue
            found[name] = tuple(entry["shape"])
            kinds[DTYPES.get(entry["dtype"], entry["dtype"])] += math.prod(entry["shape"])
    if not found:
        raise ModelError(f"{files[0]}: holds no tensors")
    return found, kinds


def header(file: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file. Raises ModelError if it is damaged or the file is cut short."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(200)
        if start.startswith(b"version https://git-lfs"):
            raise ModelError(f"{file}: is a git-lfs pointer, not the weights; fetch them with 'git lfs pull'")
        length = int.from_bytes(start[:8], "little")
        stream.seek(8)
        try:
            if not 2 <= length <= min(size - 8, 200_000_000):
                raise ValueError
            header: dict[str, Any] = json.loads(stream.read(length))
            end = max((e["data_offsets"][1] for n, e in header.items() if n != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError):
            raise ModelError(f"{file}: is not a safetensors file, or damaged; download it again") from None
    if 8 + length + end != size:
        raise ModelError(
            f"{file}: has {size:,} bytes, its header says {8 + length + end:,}; download it again"
        )
    return header
