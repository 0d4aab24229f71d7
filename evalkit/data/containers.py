"""Reads single members of containers: zip and tar archives, tables (Arrow, Parquet), videos.

Knows no dataset. Memory stays bounded: archives are indexed and read by offset, Arrow files are mapped; of a
Parquet file one row group of one column is held, of a video the frames of one request.
"""

from __future__ import annotations

import bisect
import functools
import os
import re
import tarfile
import threading
import zipfile
from typing import Any

import numpy as np

from evalkit.errors import DataError, ImageError, UserError

ARCHIVES = (".zip", ".tar")
TABLES = (".arrow", ".parquet")
VIDEOS = (".mp4", ".avi", ".webm", ".mkv", ".mov", ".mpg", ".mpeg", ".flv", ".wmv", ".m4v", ".3gp")
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_FRAME = re.compile(r"(\d+)/(\d+)x(\d+)(?:@(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?))?")
_lock = threading.Lock()


def is_archive(path: str) -> bool:
    """Whether a path is a zip or tar archive. Raises DataError if it can't be read by offset."""
    lower = path.lower()
    if lower.endswith(_PACKED):
        raise DataError(f"{path}: is compressed as a whole, so single members cannot be read; unpack it")
    return lower.endswith(ARCHIVES)


def names(path: str) -> frozenset[str]:
    """The names of an archive's members. Raises DataError if it is not an archive."""
    try:
        return _names(path, os.getpid())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def read(path: str, member: str, limit: int) -> bytes:
    """The bytes of one member. Raises ImageError above `limit` bytes, KeyError if there is no such member.

    member: a name (archives), `row/column` or `row.element/column` (tables, rows from 0), or
    `i/NxS` or `i/NxS@a-b` (videos: the i-th of N frames taken every S frames, between seconds a and b).
    """
    lower = path.lower()
    if lower.endswith(".tar"):
        return _tar_member(path, member, limit)
    if lower.endswith(TABLES):
        return _cell(path, member, limit)
    if lower.endswith(VIDEOS):
        return _frame(path, member)
    archive = _zip(path, os.getpid())
    if archive.getinfo(member).file_size > limit:
        raise ImageError(f"{path}::{member}: is larger than 1 GiB; use a smaller image")
    return archive.read(member)


# --- archives ------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def _zip(path: str, process: int) -> zipfile.ZipFile:
    """An opened archive, one per process, since a forked child would share the file's position."""
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: is not a zip archive ({error})") from None


@functools.lru_cache(maxsize=64)
def _tar(path: str, process: int) -> tuple[int, dict[str, tuple[int, int]]]:
    """A file descriptor, and name -> (offset, size) of every regular member."""
    try:
        with tarfile.open(path, "r:") as archive:
            index = {m.name.removeprefix("./"): (m.offset_data, m.size) for m in archive if m.isreg()}
    except tarfile.TarError as error:
        raise DataError(f"{path}: is not a tar archive ({error})") from None
    return os.open(path, os.O_RDONLY), index


@functools.lru_cache(maxsize=64)
def _names(path: str, process: int) -> frozenset[str]:
    if path.lower().endswith(".tar"):
        return frozenset(_tar(path, process)[1])
    return frozenset(_zip(path, process).namelist())


def _tar_member(path: str, member: str, limit: int) -> bytes:
    descriptor, index = _tar(path, os.getpid())
    offset, size = index[member]
    if size > limit:
        raise ImageError(f"{path}::{member}: is larger than 1 GiB; use a smaller image")
    found = b""
    while len(found) < size and (part := os.pread(descriptor, size - len(found), offset + len(found))):
        found += part
    if len(found) < size:
        raise EOFError("the archive ends inside this member")
    return found


# --- tables --------------------------------------------------------------------------------------


def _cell(path: str, member: str, limit: int) -> bytes:
    """The image of one cell: bytes, or the struct {bytes, path} that `datasets` stores."""
    place, _, column = member.partition("/")
    row, _, element = place.partition(".")
    with _lock:
        value = _value(path, int(row), column)
    if element:
        value = value[int(element)]
    if isinstance(value, dict):
        if value.get("bytes") is None and value.get("path"):
            with open(value["path"], "rb") as file:
                return file.read(limit)
        value = value.get("bytes")
    if not isinstance(value, bytes):
        raise ImageError(f"{path}::{member}: holds no image; the cell must hold bytes or {{bytes, path}}")
    return value


def _value(path: str, row: int, column: str) -> Any:
    if path.lower().endswith(".arrow"):
        table = _mapped(path, os.getpid())
        if row >= table.num_rows:
            raise KeyError(row)
        return table.column(column)[row].as_py()
    file, starts = _parquet(path, os.getpid())
    group = bisect.bisect_right(starts, row) - 1
    if group >= file.num_row_groups:
        raise KeyError(row)
    return _group(path, os.getpid(), group, column)[row - starts[group]].as_py()


@functools.lru_cache(maxsize=64)
def _mapped(path: str, process: int) -> Any:
    """An Arrow file (stream or file format) as a table that stays on disk until a cell is read."""
    import pyarrow as pa

    source = pa.memory_map(path)
    try:
        return pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_file(source).read_all()


@functools.lru_cache(maxsize=64)
def _parquet(path: str, process: int) -> tuple[Any, list[int]]:
    """An opened Parquet file, and the first row of each of its row groups (and the row after the last)."""
    import pyarrow.parquet as pq

    file, starts = pq.ParquetFile(path, memory_map=True), [0]
    for group in range(file.num_row_groups):
        starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
    return file, starts


@functools.lru_cache(maxsize=2)
def _group(path: str, process: int, group: int, column: str) -> Any:
    return _parquet(path, process)[0].read_row_group(group, columns=[column]).column(column)


def row_count(path: str) -> int:
    """How many rows an Arrow file holds."""
    return int(_mapped(path, os.getpid()).num_rows)


# --- videos --------------------------------------------------------------------------------------


def frame_order(there: int, count: int) -> list[int]:
    """Which of the `there` frames to take for `count`: the first ones, repeated if there are too few."""
    return [i % there for i in range(count)]


def _frame(path: str, member: str) -> bytes:
    """One frame as a PPM file, so that it is decoded, hashed and resized as any image."""
    spelled = _FRAME.fullmatch(member)
    if not spelled:
        raise KeyError(member)
    number, count, stride = (int(part) for part in spelled.groups()[:3])
    start, end = (float(part or 0) for part in spelled.groups()[3:])
    with _lock:  # so that the frames of a video are decoded once, not by several threads at the same time
        frames = _frames(path, os.getpid(), count, stride, start, end)
    if not frames:
        raise ImageError(f"{path}: no frame between {start:g} s and {end:g} s can be decoded")
    return frames[frame_order(len(frames), count)[number]]


@functools.lru_cache(maxsize=4)
def _frames(path: str, process: int, count: int, stride: int, start: float, end: float) -> list[bytes]:
    """Every stride-th frame from `start`, at most `count`. Raises UserError without PyAV."""
    try:
        import av
    except ImportError:
        raise UserError(
            f"{path}: videos need PyAV; pip install 'evalkit[video]', or give folders of frames"
        ) from None
    found: list[bytes] = []
    try:
        with av.open(path) as container:
            stream = container.streams.video[0]
            if start:
                container.seek(int(start * 1_000_000))
            seen = 0
            for frame in container.decode(stream):
                time = frame.time or 0.0
                if time < start - 1e-6:
                    continue
                if len(found) == count or (end and time > end):
                    break
                if seen % stride == 0:
                    found.append(_ppm(frame.to_ndarray(format="rgb24")))
                seen += 1
    except (av.FFmpegError, IndexError) as error:
        raise ImageError(f"{path}: is not a video that can be decoded ({error})") from None
    return found


def _ppm(pixels: np.ndarray[Any, Any]) -> bytes:
    height, width = pixels.shape[:2]
    return b"P6 %d %d 255\n" % (width, height) + np.ascontiguousarray(pixels).tobytes()
