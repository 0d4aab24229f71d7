"""A checkpoint's tensors from their files to where they stay, piece by piece: no second copy of the weights
is held, neither in the host's memory nor in mapped pages that count as this process's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint import safetensors
from evalkit.models.paligemma.checkpoint.safetensors import canonical

PIECE = 1 << 25  # bytes read at once

Place = tuple[Path, int, Mapping[str, Any]]
"""A tensor in a file: the file, where its data begins, and its entry in the header."""


def covered(files: tuple[Path, ...], model: Any) -> dict[str, Place] | None:
    """Where each parameter of transformers' `model` is in safetensors files, by its name; None if one is not
    there in its own shape and in a precision of floating point: then transformers says what is wrong."""
    found: dict[str, Place] = {}
    for file in files:
        header = safetensors.header(file)
        start = 8 + int.from_bytes(_first(file, 8), "little")
        for name, entry in header.items():
            if name != "__metadata__":
                found[canonical(name)] = (file, start, entry)
    places = {}
    for name, parameter in model.named_parameters():
        place = found.get(canonical(name))
        if place is None or place[2]["dtype"] not in safetensors.DTYPES:
            return None
        if tuple(place[2]["shape"]) != tuple(parameter.shape):
            return None
        places[name] = place
    return places


def fill(model: Any, places: Mapping[str, Place]) -> None:
    """Reads every parameter into its place, in the order of the files; converts precisions. Raises ModelError
    if a file ends early."""
    parameters = dict(model.named_parameters())
    buffer = torch.empty(PIECE, dtype=torch.uint8)
    order = sorted(places, key=lambda name: (str(places[name][0]), places[name][2]["data_offsets"][0]))
    with torch.no_grad():
        for name in order:
            flat, at = parameters[name].view(-1), 0
            for values in _values(places[name], buffer):
                flat[at : at + len(values)].copy_(values)
                at += len(values)


def _values(place: Place, buffer: torch.Tensor) -> Iterator[torch.Tensor]:
    """A tensor's values, flat, in pieces that lie in `buffer`."""
    path, start, entry = place
    kind = getattr(torch, safetensors.DTYPES[entry["dtype"]])
    begin, end = entry["data_offsets"]
    with path.open("rb", buffering=0) as file:
        file.seek(start + begin)
        left = end - begin
        while left:
            size = min(left, PIECE)
            view, got = memoryview(buffer.numpy())[:size], 0
            while got < size:
                read = file.readinto(view[got:])
                if not read:
                    raise ModelError(f"{path}: ends early; it was cut while it was read, run again")
                got += read
            yield buffer[:size].view(kind)
            left -= size


def _first(file: Path, count: int) -> bytes:
    with file.open("rb") as stream:
        return stream.read(count)
