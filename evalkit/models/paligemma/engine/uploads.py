"""Prepared pictures on their way to the device: their bytes cross on a stream of their own, sent by the
threads that read them, while the model works on others."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch

from evalkit.models.paligemma.interface import Pixels
from evalkit.models.paligemma.memory import is_out_of_memory

LIMIT = 256 << 20  # bytes on the device that nobody has taken yet

Cross = Callable[[Pixels], Callable[[], torch.Tensor]]
"""Begins to copy an image (R, R, 3) uint8; what it gives is called where the copy is used, once."""


class Uploads:
    """Images by key, sent by any thread and taken by the one that runs the model; beyond `limit` bytes the
    oldest are dropped, and cross again when they are wanted."""

    def __init__(self, cross: Cross, limit: int = LIMIT) -> None:
        self._cross, self._limit = cross, limit
        self._waiting: OrderedDict[str, tuple[int, Callable[[], torch.Tensor]]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self.taken = 0

    def send(self, key: str, pixels: Pixels) -> None:
        """Begins to copy an image. Where the device has no room the image is not sent."""
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
        """The image on the device, for work queued from now on; None: it was not sent, or dropped."""
        with self._lock:
            found = self._drop(key)
            self.taken += found is not None
        return found() if found is not None else None

    def clear(self) -> None:
        """Lets everything go, as when the device runs out of memory."""
        with self._lock:
            self._waiting.clear()
            self._bytes = 0

    def _drop(self, key: str) -> Callable[[], torch.Tensor] | None:
        size, arrival = self._waiting.pop(key, (0, None))
        self._bytes -= size
        return arrival


class CudaCross:
    """`Cross` through pinned memory on a stream of its own."""

    def __init__(self, home: torch.device) -> None:
        self._home = home
        self._stream = torch.cuda.Stream(home)

    def __call__(self, pixels: Pixels) -> Callable[[], torch.Tensor]:
        """The pinned copy may go as soon as this returns: torch keeps its memory until it has been read."""
        pinned = torch.from_numpy(np.require(pixels, requirements=("C", "W"))).pin_memory()
        with torch.cuda.stream(self._stream):
            near = pinned.to(self._home, non_blocking=True)
            arrived = self._stream.record_event()

        def take() -> torch.Tensor:
            using = torch.cuda.current_stream(self._home)
            using.wait_event(arrived)
            near.record_stream(using)  # its memory is the side stream's: not to be given out again before
            return near

        return take
