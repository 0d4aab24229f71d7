"""Names and shapes of tensors in safetensors files, from their headers alone. Does not import torch."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import ModelError

DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_LONGEST = 100_000_000  # bytes of a header, as the format allows
_SPELLINGS = (
    (r"^base_model\.model\.", ""),  # peft's wrapping
    (r"\.base_layer\.", "."),
    (r"^model\.(?=vision_tower|multi_modal_projector|language_model|lm_head)", ""),  # since transformers 4.52
    (r"^language_model\.lm_head\b", "lm_head"),  # before
    (r"^language_model\.model\.", "language_model."),
    (r"^vision_tower\.vision_model\.", "vision_tower."),
)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file: where its bytes are, counted from the end of the header."""

    dtype: str  # as the format spells it: F32, BF16, I8, ...
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """The beginning of a file: its own bytes (length and JSON), and every tensor in the order of the data."""

    file: Path
    raw: bytes
    tensors: Mapping[str, Tensor]


@functools.lru_cache(maxsize=1 << 14)
def canonical(name: str) -> str:
    """One name for a weight that versions of transformers and peft name differently."""
    for pattern, short in _SPELLINGS:
        name = re.sub(pattern, short, name)
    return name


def headers(files: tuple[Path, ...]) -> tuple[Header, ...]:
    """The headers of files. Raises ModelError if one is damaged, or if there is no tensor in any of them."""
    found = tuple(map(header, files))
    if not any(one.tensors for one in found):
        raise ModelError(f"{files[0]}: holds no tensors")
    return found


def header(file: Path) -> Header:
    """The header of a safetensors file. Raises ModelError if it is damaged or the file is cut short."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(200)
            if start.startswith(b"version https://git-lfs"):
                raise ModelError(
                    f"{file}: is a git-lfs pointer, not the weights; fetch them with 'git lfs pull'"
                )
            length = int.from_bytes(start[:8], "little")
            if not 2 <= length <= min(size - 8, _LONGEST):
                raise ValueError(f"its header would have {length:,} bytes")
            stream.seek(0)
            raw = stream.read(8 + length)
        tensors = _tensors(json.loads(raw[8:], object_pairs_hook=_once))
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:  # also of JSON and UTF-8
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ModelError(
            f"{file}: is not a safetensors file, or damaged ({why}); download or save it again"
        ) from None
    end = max((tensor.end for tensor in tensors.values()), default=0)
    if len(raw) + end != size:
        raise ModelError(f"{file}: has {size:,} bytes, its header says {len(raw) + end:,}; download it again")
    return Header(file, raw, tensors)


def payload(one: Header, tensor: Tensor) -> bytes:
    """A tensor's bytes. Raises ModelError if the file cannot be read."""
    try:
        with one.file.open("rb") as stream:
            stream.seek(len(one.raw) + tensor.begin)
            return stream.read(tensor.end - tensor.begin)
    except OSError as error:
        raise ModelError(f"{one.file}: cannot be read ({error.strerror or error})") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError for a name that stands in it twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} stands in it twice")
    return found


def _tensors(said: Any) -> dict[str, Tensor]:
    """Every tensor of a header, in the order of the data. Raises ValueError unless they are as the format has
    them: one behind the other, with the bytes that shape and type need."""
    if not isinstance(said, dict):
        raise ValueError("its header is no JSON object")
    found = {name: _tensor(name, entry) for name, entry in said.items() if name != "__metadata__"}
    ordered = sorted(found.items(), key=lambda item: (item[1].begin, item[1].end))
    at = 0
    for name, tensor in ordered:
        size = _BYTES.get(tensor.dtype)
        if tensor.begin != at or (size and tensor.end - at != size * math.prod(tensor.shape)):
            raise ValueError(f"the bytes of {name!r} are not where its header says")
        at = tensor.end
    return dict(ordered)


def _tensor(name: str, entry: Any) -> Tensor:
    said = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = said.get("dtype"), _counts(said.get("shape")), _counts(said.get("data_offsets"))
    if not isinstance(dtype, str) or shape is None or offsets is None or len(offsets) != 2:
        raise ValueError(f"the entry of {name!r} in its header is not one of a tensor")
    return Tensor(dtype, shape, *offsets)


def _counts(said: Any) -> tuple[int, ...] | None:
    whole = isinstance(said, list) and all(type(n) is int and n >= 0 for n in said)
    return tuple(said) if whole else None
