"""A checkpoint's tensors from their files to where they stay, piece by piece: no second copy of the weights
is held, neither in the host's memory nor in mapped pages that count as this process's. What is read is hashed
while it is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint import contents, finite
from evalkit.models.paligemma.checkpoint.planned import Planned
from evalkit.models.paligemma.checkpoint.safetensors import DTYPES, Header, canonical, headers

PIECE = 1 << 20  # bytes read at once: few enough to stay in a core's cache until they are copied and hashed


@dataclass(frozen=True, slots=True)
class Shard:
    """One file, and which of its tensors goes to which of the model's parameters."""

    header: Header
    places: Mapping[str, Any]  # by the tensor's name in the file


@dataclass(frozen=True, slots=True)
class Places:
    """Where a model's parameters are in files. `tied`: embedding and output table are one if equal."""

    shards: tuple[Shard, ...]
    tied: bool


def places(files: tuple[Path, ...], model: Any, where: Path) -> Places:
    """Where every parameter of transformers' `model` is in safetensors files.

    The output table is the embedding table where the model ties them: a file may hold either, or both with
    different numbers, which then stay different, as in transformers. Raises ModelError for a parameter that
    is missing or has another shape, and for a weight of PaliGemma that the model has no place for.
    """
    found = headers(files)
    shapes = {canonical(name): tensor.shape for one in found for name, tensor in one.tensors.items()}
    wanted = {canonical(name): parameter for name, parameter in model.named_parameters()}
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    if tied and contents.HEAD in shapes:
        _tables(model, wanted, shapes)
    contents.check_shapes(where, shapes, {name: tuple(p.shape) for name, p in wanted.items()})
    each = (Shard(one, {n: wanted[c] for n in one.tensors if (c := canonical(n)) in wanted}) for one in found)
    return Places(tuple(each), tied)


def _tables(model: Any, wanted: dict[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Has the files fill the output table: alone, or beside the embedding table."""
    head, table = model.lm_head, model.get_input_embeddings()
    if contents.TABLE in shapes:
        head.weight = torch.nn.Parameter(torch.empty_like(table.weight), requires_grad=False)
        wanted[contents.HEAD] = head.weight
    else:
        wanted[contents.HEAD] = wanted.pop(contents.TABLE)


def fill(model: Any, found: Places, planned: Planned) -> None:
    """Reads every parameter into its place, in the order of the files; converts precisions.

    Raises ModelError if a file ends early, is not the one of the plan, or holds numbers that are not finite.
    """
    with torch.no_grad(), ThreadPoolExecutor(1, "hashing") as hashing:
        for shard in found.shards:
            path = shard.header.file
            with path.open("rb", buffering=0) as file:
                reading = _Reading(path, file, hashing if planned.names(path) else None)
                wrong = _fill(shard, reading)
            planned.check(path, reading.digest())
            if wrong:  # said only now: a file that was replaced is not a training that diverged
                raise ModelError(wrong)
        head, table = model.lm_head, model.get_input_embeddings()
        if found.tied and head.weight is not table.weight and torch.equal(head.weight, table.weight):
            head.weight = table.weight


def _fill(shard: Shard, reading: _Reading) -> str:
    """Reads one file; returns what is wrong with its numbers, or ''."""
    path, wrong = shard.header.file, ""
    if b"".join(bytes(piece.numpy()) for piece in reading.pieces(len(shard.header.raw))) != shard.header.raw:
        raise ModelError(f"{path}: changed while it was read; run the same command again")
    for name, tensor in shard.header.tensors.items():
        size = tensor.end - tensor.begin
        if name not in shard.places:
            reading.skip(size)
            continue
        flat, at = shard.places[name].view(-1), 0
        for piece in reading.pieces(size):
            values = piece.view(getattr(torch, DTYPES[tensor.dtype]))
            wrong = wrong or finite.problem(path, name, values)
            flat[at : at + len(values)].copy_(values)
            at += len(values)
    return wrong


class _Reading:
    """A file, read once from its beginning; a second thread hashes each piece while it is used."""

    def __init__(self, path: Path, file: IO[bytes], hashing: ThreadPoolExecutor | None) -> None:
        self._path, self._file, self._hashing = path, file, hashing
        self._sha = hashlib.sha256()
        self._buffers = [torch.empty(PIECE, dtype=torch.uint8, device="cpu") for _ in range(2)]
        self._hashed: list[Future[None] | None] = [None, None]
        self._turn = 0

    def pieces(self, size: int) -> Iterator[torch.Tensor]:
        """The next bytes, uint8, in pieces; each is valid until the one after it."""
        while size:
            self._turn = 1 - self._turn
            buffer, before = self._buffers[self._turn], self._hashed[self._turn]
            if before is not None:
                before.result()
            view = memoryview(buffer.numpy())[: min(size, PIECE)]
            self._read(view)
            if self._hashing is not None:
                self._hashed[self._turn] = self._hashing.submit(self._sha.update, view)
            yield buffer[: len(view)]
            size -= len(view)

    def skip(self, size: int) -> None:
        """Passes over the next bytes; they are hashed."""
        if self._hashing is None:
            self._file.seek(size, 1)
            return
        for _ in self.pieces(size):
            pass

    def digest(self) -> str:
        """sha256 of what was read so far; '' where it is not hashed."""
        for last in self._hashed:
            if last is not None:
                last.result()
        return self._sha.hexdigest() if self._hashing is not None else ""

    def _read(self, view: memoryview) -> None:
        got = 0
        while got < len(view):
            read = self._file.readinto(view[got:])  # type: ignore[attr-defined]
            if not read:
                raise ModelError(f"{self._path}: ends early; it was cut while it was read, run again")
            got += read
