"""How many rows a batch starts with: by a budget of tokens, and on a GPU by the measured memory per row and
by what did not fit, remembered between runs in the cache. Does not affect the text."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from evalkit.errors import UserError
from evalkit.files import atomic_write, cache_folder, json_text
from evalkit.models.paligemma.batching.batches import Planned
from evalkit.models.paligemma.interface import Limit

TOKENS = {"cpu": (8192, 32)}  # image tokens, and rows, of a batch at most; a GPU's below
GPU_TOKENS = (65536, 256)  # the host needs as long for a batch of any size: small ones leave a GPU idle
SHARE = 0.9  # of the free memory that a batch is planned to take
GUESSED = 0.5  # the same, where the memory of a row is an estimate
SAME = 1.1  # with this much more free memory than when a batch did not fit, it is tried again


class Probe(Protocol):
    """A device's memory."""

    def free(self) -> int:
        """Bytes available to a batch now."""
        ...

    def mark(self) -> None:
        """Starts measuring the peak."""
        ...

    def peak(self) -> int:
        """The most bytes held at once since the mark, beyond what was held then."""
        ...


class CudaProbe:
    """`Probe` of a CUDA device; what torch holds without using it counts as free."""

    def __init__(self, home: Any) -> None:
        self._home, self._held = home, 0

    def free(self) -> int:
        """See `Probe.free`."""
        import torch

        free, _ = torch.cuda.mem_get_info(self._home)
        unused = torch.cuda.memory_reserved(self._home) - torch.cuda.memory_allocated(self._home)
        return int(free + unused)

    def mark(self) -> None:
        """See `Probe.mark`."""
        import torch

        torch.cuda.reset_peak_memory_stats(self._home)
        self._held = torch.cuda.memory_allocated(self._home)

    def peak(self) -> int:
        """See `Probe.peak`."""
        import torch

        return int(torch.cuda.max_memory_allocated(self._home) - self._held)


def by_tokens(image_tokens: int, device: str, plain: bool = False) -> int:
    """Rows of a batch, by image tokens alone: more would not make the device faster."""
    budget, most = TOKENS.get(device, GPU_TOKENS)
    if plain:  # its activations are larger
        parts = 2 if device == "cpu" else 4
        budget, most = budget // parts, most // parts
    return max(1, min(most, budget // image_tokens))


class BatchSize:
    """Learns batch sizes from a run's first batch and from batches that did not fit; `file` stores them.
    `row` estimates the bytes of a row until the first batch shows them; 0 for no estimate."""

    def __init__(self, most: int, probe: Probe | None = None, file: Path | None = None, row: int = 0) -> None:
        self._most, self._probe, self._file, self._row = most, probe, file, row
        self._known = _read(file) if probe is not None else {}
        self._rows = self._images = self._began = self._free = 0
        self._watching = False

    def first(self) -> int:
        """Rows to start with, a power of two if memory is the limit."""
        rows = self._most
        if self._probe is None:
            return rows
        free, fits = self._probe.free(), [rows]
        if self._known.get("bytes_per_row"):
            fits.append(int(free * SHARE) // self._known["bytes_per_row"])
        elif self._row:
            fits.append(int(free * GUESSED) // self._row)
        failed = self._known.get("failed")
        if failed and free < failed["free"] * SAME:
            fits.append(failed["left"])
        return rows if min(fits) >= rows else 1 << (max(1, min(fits)).bit_length() - 1)

    def watch(self, batches: Iterator[list[Planned]], limit: Limit) -> Iterator[list[Planned]]:
        """The same batches; starts measuring the memory that they take."""
        if self._probe is None:
            return batches
        self._rows = self._images = 0
        self._began, self._free, self._watching = limit.rows, self._probe.free(), True
        self._probe.mark()
        return self._counted(batches)

    def _counted(self, batches: Iterator[list[Planned]]) -> Iterator[list[Planned]]:
        for batch in batches:
            # Lengths are read one after the other: the largest group takes the most memory.
            self._rows = self._rows or max(Counter(len(p.ids) for p in batch).values())
            self._images = max(self._images, len(batch[0].request.images))
            yield batch

    def answered(self, limit: Limit) -> None:
        """Called for every answer. The first shows that the first batch fits and how much memory it took.
        Only batches at least half full count: in smaller ones most memory does not belong to a row."""
        if not self._watching:
            return
        self._watching = False
        assert self._probe is not None
        if limit.rows == self._began and 2 * self._rows >= self._began:
            self._known["bytes_per_row"] = max(1, self._probe.peak() // (self._rows * self._images))
            self._keep()

    def ended(self, limit: Limit) -> None:
        """Called at the end of a run: a lowered limit shows what fits. Rows with several images are ignored,
        since they say nothing about other tasks."""
        self._watching = False
        if self._probe is not None and limit.rows < self._began and self._images == 1:
            self._known["failed"] = {"left": limit.rows, "free": self._free}
            self._keep()

    def _keep(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError, UserError):  # failing to write a cache is not an error
                atomic_write(self._file, json_text(self._known) + "\n")


def remembered(*what: object) -> Path:
    """The file that stores what was learned about `what` (device, resolution, precision...)."""
    name = hashlib.sha256("|".join(map(str, what)).encode()).hexdigest()[:32]
    return cache_folder() / "batches" / f"{name}.json"


def _read(file: Path | None) -> dict[str, Any]:
    """The stored values; {} if there are none or they cannot be read."""
    try:
        found = json.loads(file.read_bytes()) if file is not None else {}
        kept: dict[str, Any] = {k: int(found[k]) for k in ("bytes_per_row",) if k in found}
        if "failed" in found:
            kept["failed"] = {key: int(found["failed"][key]) for key in ("left", "free")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return kept
