"""Copies prepared images to the device ahead of their batch: on a separate stream, by the threads that read
them, while the model works on other images."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch

from evalkit.models.paligemma.interface import Pixels
from evalkit.models.paligemma.memory import is_out_of_memory

LIMIT = 256 << 20  # bytes on the device that have not been taken yet

Cross = Callable[[Pixels], Callable[[], torch.Tensor]]
"""Starts copying an image (R, R, 3) uint8. Returns a function to call once, where the copy is used."""


class Uploads:
    """Images by key, sent by any thread and taken by the one that runs the model. Beyond `limit` bytes the
    oldest are dropped; they are copied again when needed."""

    def __init__(self, cross: Cross, limit: int = LIMIT) -> None:
        self._cross, self._limit = cross, limit
        self._waiting: OrderedDict[str, tuple[int, Callable[[], torch.Tensor]]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self.taken = 0

    def send(self, key: str, pixels: Pixels) -> None:
        """Starts copying an image, unless the device has no room for it."""
        try:
            arrival = self._cross(pixels)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return
        with self._lock:
            self._drop(key)
            self._waiting[key] = pixels.nbytes, arrival
            self._bytes += pixels.nbytes
            while self._bytes > self._limit:
                self._drop(next(iter(self._waiting)))

    def take(self, key: str) -> torch.Tensor | None:
        """The image on the device, for work queued from now on; None if it was not sent, or was dropped."""
        with self._lock:
            found = self._drop(key)
            self.taken += found is not None
        return found() if found is not None else None

    def clear(self) -> None:
        """Frees everything, when the device runs out of memory."""
        with self._lock:
            self._waiting.clear()
            self._bytes = 0

    def _drop(self, key: str) -> Callable[[], torch.Tensor] | None:
        size, arrival = self._waiting.pop(key, (0, None))
        self._bytes -= size
        return arrival


def as_tensor(pixels: Pixels) -> torch.Tensor:
    """The image as a tensor, which torch makes without a warning only of memory that may be written."""
    return torch.from_numpy(np.require(pixels, requirements=("C", "W")))


class CudaCross:
    """`Cross` through pinned memory on a separate stream."""

    def __init__(self, home: torch.device) -> None:
        self._home = home
        # Of high priority: torch gives out the same few streams of a priority again and again, and a copy on
        # the stream that records CUDA graphs would be recorded instead of made.
        self._stream = torch.cuda.Stream(home, priority=-1)

    def __call__(self, pixels: Pixels) -> Callable[[], torch.Tensor]:
        """See `Cross`. The pinned copy need not be kept: torch reuses its memory only after it was read."""
        # A thread begins on GPU 0, and leaving the stream would go back there and take memory of that GPU.
        torch.cuda.set_device(self._home)
        pinned = as_tensor(pixels).pin_memory()
        with torch.cuda.stream(self._stream):
            near = pinned.to(self._home, non_blocking=True)
            arrived = self._stream.record_event()

        def take() -> torch.Tensor:
            using = torch.cuda.current_stream(self._home)
            using.wait_event(arrived)
            near.record_stream(using)  # or the side stream could reuse the memory while `using` reads it
            return near

        return take
