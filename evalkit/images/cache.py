"""A cache of prepared images on disk, by content. Knows no image format and no model.

EVALKIT_IMAGE_CACHE=20 turns it on with a limit of 20 GiB, in `images` of evalkit's cache folder.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import os
import struct
import threading
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.errors import UserError
from evalkit.files import atomic_write, cache_folder
from evalkit.types import Size

ENVIRONMENT = "EVALKIT_IMAGE_CACHE"
STEP = 20  # a process checks the folder's size each time it has written one twentieth of the limit
LEFT = 3600  # seconds after which a temporary file must be from a process that was killed

# Checksum of what follows; original size; array's shape and type. 32 bytes, so that floats are aligned.
_HEAD = struct.Struct("<I2I3Ic7x")

log = logging.getLogger("evalkit")


@dataclass(eq=False)
class ImageCache:
    """A folder of prepared images, at most about `limit` bytes (each process may exceed it by a twentieth).

    Files appear by renaming and contain a checksum, so several processes may share the folder, and a damaged
    file counts as missing. Beyond the limit the least recently used files are removed.
    """

    folder: Path
    limit: int
    _fresh: int = field(default=0, init=False)  # bytes written since the folder's size was checked
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def get(self, key: str) -> tuple[npt.NDArray[Any], Size] | None:
        """The pixels (writable) and the size of the original image, or None."""
        path = self._path(key)
        try:
            data = bytearray(path.read_bytes())
            check, height, width, *shape, kind = _HEAD.unpack_from(data)
            if zlib.crc32(memoryview(data)[4:]) != check:
                return None
            pixels = np.frombuffer(data, np.dtype(kind.decode()), offset=_HEAD.size).reshape(shape)
            os.utime(path)  # marks the file as used now
        except (OSError, ValueError, TypeError, struct.error):
            return None
        return pixels, (height, width)

    def put(self, key: str, pixels: npt.NDArray[Any], size: Size) -> None:
        """Stores the pixels. If that fails, warns once and continues without the cache."""
        head = _HEAD.pack(0, *size, *pixels.shape, pixels.dtype.char.encode())
        data = head[4:] + pixels.tobytes()
        try:
            atomic_write(self._path(key), struct.pack("<I", zlib.crc32(data)) + data, sync=False)
            with self._lock:
                due = self._fresh == 0 or self._fresh + len(data) > self.limit // STEP
                self._fresh = len(data) if due else self._fresh + len(data)
            if due:
                self._make_room()
        except (UserError, OSError) as error:
            _warn(str(error))

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key[2:]

    def _make_room(self) -> None:
        """Removes the least recently used files until nine tenths of the limit are left."""
        now, held, found = time.time(), 0, []
        for folder in (f for f in os.scandir(self.folder) if f.is_dir()):
            for entry in os.scandir(folder.path):
                try:
                    status = entry.stat()
                    if entry.name.startswith(".") and now - status.st_mtime > LEFT:
                        os.unlink(entry.path)
                        continue
                except FileNotFoundError:  # another process has removed it
                    continue
                held += status.st_size
                found.append((status.st_mtime, status.st_size, entry.path))
        if held <= self.limit:
            return
        for _, size, path in sorted(found):
            if held <= self.limit * 9 // 10:
                return
            Path(path).unlink(missing_ok=True)
            held -= size


def current() -> ImageCache | None:
    """The cache that EVALKIT_IMAGE_CACHE sets up, or None. Raises UserError for an invalid value."""
    limit = os.environ.get(ENVIRONMENT)
    return _opened(limit, cache_folder() / "images") if limit else None


def key(*parts: object) -> str:
    """The cache key: a digest of everything that the pixels depend on."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=20).hexdigest()


@functools.lru_cache(maxsize=4)
def _opened(spelled: str, folder: Path) -> ImageCache:
    try:
        limit = float(spelled)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise UserError(
            f"{ENVIRONMENT}={spelled}: must be a limit in GiB, e.g. 20; unset it to turn the cache off"
        )
    return ImageCache(folder, int(limit * 2**30))


@functools.lru_cache(maxsize=1)
def _warn(reason: str) -> None:
    log.warning("%s: continuing without the cache: %s", ENVIRONMENT, reason)
