"""Reads single members of containers: zip and tar archives, tables (Arrow, Parquet), videos.

Knows no dataset. Memory stays bounded: archives are indexed and read by offset, Arrow files are mapped; of a
Parquet file one row group of one column is held, of a video the frames of one request.
"""

from __future__ import annotations

import bisect
import functools
import json
import os
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from evalkit import door
from evalkit.errors import DataError, ImageError, UserError

ARCHIVES = (".zip", ".tar")
TABLES = (".arrow", ".parquet")
VIDEOS = (".mp4", ".avi", ".webm", ".mkv", ".mov", ".mpg", ".mpeg", ".flv", ".wmv", ".m4v", ".3gp")
# What FFmpeg may take a file for, whatever its name: a playlist or a script names further files.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,asf,ogg,m4v,h264,hevc"
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
    with door.guarded(path):
        door.check(path)
        return _names(path, _state(path))


def read(path: str, member: str, limit: int, allowed: door.Places | None = None) -> bytes:
    """The bytes of one member. Raises ImageError above `limit` bytes and if there is no such member, OSError
    outside of the places `allowed` (default: those in force).

    member: a name (archives), `row/column` or `row.element/column` (tables, rows from 0), or
    `i/NxS` or `i/NxS@a-b` (videos: the i-th of N frames taken every S frames, between seconds a and b).
    """
    door.check(path, allowed)
    try:
        return _read(path, member, limit, allowed)
    except (KeyError, IndexError):
        raise ImageError(f"{path}::{member}: the archive holds no such member") from None


def _read(path: str, member: str, limit: int, allowed: door.Places | None) -> bytes:
    lower = path.lower()
    if lower.endswith(".tar"):
        return _tar_member(path, member, limit)
    if lower.endswith(TABLES):
        return _cell(path, member, limit, allowed)
    if lower.endswith(VIDEOS):
        return _frame(path, member)
    archive = _zip(path, _state(path))
    if archive.getinfo(member).file_size > limit:
        raise ImageError(f"{path}::{member}: is larger than 1 GiB; use a smaller image")
    return archive.read(member)


def beside(path: str, member: str) -> str | None:
    """What the bytes of a member depend on beside its file: a video's decoder with its version (`av 18.1.0,
    libavcodec ...`), '' for nothing, None for a table whose cells name files that hold the images."""
    if path.lower().endswith(VIDEOS):
        return _decoder()
    door.check(path)
    if path.lower().endswith(TABLES) and not _holds_bytes(path, _state(path), member.partition("/")[2]):
        return None
    return ""


# --- archives ------------------------------------------------------------------------------------


def _state(path: str) -> tuple[int, ...]:
    """The process and the file's state: an archive that is written again is opened again, and one is opened
    in each process, since a forked child would share the file's position. Raises OSError."""
    found = os.stat(path)
    return os.getpid(), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


@functools.lru_cache(maxsize=8)
def _zip(path: str, state: tuple[int, ...]) -> zipfile.ZipFile:
    """An opened archive."""
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: is not a zip archive ({error})") from None


@functools.lru_cache(maxsize=64)
def _tar(path: str, state: tuple[int, ...]) -> tuple[int, dict[str, tuple[int, int]]]:
    """A file descriptor, and name -> (offset, size) of every regular member."""
    try:
        with tarfile.open(path, "r:") as archive:
            index = {m.name.removeprefix("./"): (m.offset_data, m.size) for m in archive if m.isreg()}
    except tarfile.TarError as error:
        raise DataError(f"{path}: is not a tar archive ({error})") from None
    return os.open(path, os.O_RDONLY), index


@functools.lru_cache(maxsize=64)
def _names(path: str, state: tuple[int, ...]) -> frozenset[str]:
    if path.lower().endswith(".tar"):
        return frozenset(_tar(path, state)[1])
    return frozenset(_zip(path, state).namelist())


def _tar_member(path: str, member: str, limit: int) -> bytes:
    descriptor, index = _tar(path, _state(path))
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


def _cell(path: str, member: str, limit: int, allowed: door.Places | None) -> bytes:
    """The image of one cell: bytes, or the struct {bytes, path} that `datasets` stores; a relative path
    begins at the table's folder."""
    place, _, column = member.partition("/")
    row, _, element = place.partition(".")
    with _lock:
        value = _value(path, int(row), column)
    if element:
        value = value[int(element)]
    if isinstance(value, dict):
        if value.get("bytes") is None and isinstance(value.get("path"), str) and value["path"]:
            return _beside_table(path, member, value["path"], limit, allowed)
        value = value.get("bytes")
    if not isinstance(value, bytes):
        raise ImageError(f"{path}::{member}: holds no image; the cell must hold bytes or {{bytes, path}}")
    if len(value) > limit:
        raise ImageError(f"{path}::{member}: is larger than 1 GiB; use a smaller image")
    return value


def _beside_table(path: str, member: str, name: str, limit: int, allowed: door.Places | None) -> bytes:
    """The file that a table's cell names. Where nothing else is said, it must be in the table's folder."""
    folder = os.path.dirname(os.path.abspath(path))
    if allowed is None:
        allowed = door.current() or door.places([folder])
    with door.guarded(f"{path}::{member}: {name[:300]}", kind=ImageError):
        return door.read(os.path.join(folder, name), limit, allowed)


def _value(path: str, row: int, column: str) -> Any:
    if path.lower().endswith(".arrow"):
        table = _mapped(path, _state(path))
        if row >= table.num_rows:
            raise KeyError(row)
        return table.column(column)[row].as_py()
    file, starts = _parquet(path, _state(path))
    group = bisect.bisect_right(starts, row) - 1
    if group >= file.num_row_groups:
        raise KeyError(row)
    return _group(path, _state(path), group, column)[row - starts[group]].as_py()


@functools.lru_cache(maxsize=64)
def _mapped(path: str, state: tuple[int, ...]) -> Any:
    """An Arrow file (stream or file format) as a table that stays on disk until a cell is read."""
    import pyarrow as pa

    source = pa.memory_map(path)
    try:
        return pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_file(source).read_all()


@functools.lru_cache(maxsize=64)
def _parquet(path: str, state: tuple[int, ...]) -> tuple[Any, list[int]]:
    """An opened Parquet file, and the first row of each of its row groups (and the row after the last)."""
    import pyarrow.parquet as pq

    file, starts = pq.ParquetFile(path, memory_map=True), [0]
    for group in range(file.num_row_groups):
        starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
    return file, starts


@functools.lru_cache(maxsize=2)
def _group(path: str, state: tuple[int, ...], group: int, column: str) -> Any:
    return _parquet(path, state)[0].read_row_group(group, columns=[column]).column(column)


@functools.lru_cache(maxsize=64)
def _holds_bytes(path: str, state: tuple[int, ...], column: str) -> bool:
    """Whether no cell of a column of images is without `bytes`."""
    if path.lower().endswith(".arrow"):
        for cells in _mapped(path, state).column(column).chunks:
            while hasattr(cells.type, "value_type"):
                cells = cells.flatten()
            if (cells.field("bytes") if hasattr(cells, "field") else cells).null_count:
                return False
        return True
    groups = _parquet(path, state)[0].metadata
    for number in range(groups.num_row_groups):
        group = groups.row_group(number)
        for part in (group.column(i) for i in range(group.num_columns)):
            name = part.path_in_schema
            if name == column or (name.startswith(f"{column}.") and name.endswith("bytes")):
                known = part.statistics
                if known is None or not known.has_null_count or known.null_count:
                    return False
    return True


def row_count(path: str) -> int:
    """How many rows a table holds."""
    if path.lower().endswith(".arrow"):
        return int(_mapped(path, _state(path)).num_rows)
    return int(_parquet(path, _state(path))[1][-1])


def columns(path: str) -> tuple[list[str], dict[str, Any]]:
    """The names of a table's columns, and what `datasets` wrote of them (ClassLabel names...), {} for
    nothing. Raises DataError for a file that is no table."""
    with door.guarded(path):
        door.check(path)
        schema = _schema(path)
        stated = (schema.metadata or {}).get(b"huggingface", b"{}")
        found = json.loads(stated).get("info", {}).get("features", {})
        return list(schema.names), found if isinstance(found, dict) else {}


def _schema(path: str) -> Any:
    if path.lower().endswith(".arrow"):
        return _mapped(path, _state(path)).schema
    return _parquet(path, _state(path))[0].schema_arrow


def rows(path: str, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a table, only these columns. Raises DataError."""
    with door.guarded(path):
        door.check(path)
        if path.lower().endswith(".arrow"):
            parts = _mapped(path, _state(path)).select(list(wanted)).to_batches()
        else:
            parts = _parquet(path, _state(path))[0].iter_batches(columns=list(wanted))
        for part in parts:
            yield from part.to_pylist() if wanted else ({} for _ in range(part.num_rows))


def cell_sizes(path: str, column: str) -> Iterator[tuple[int, int]]:
    """(row, bytes) of each cell of a column of images that holds one. Of an Arrow file no image is read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with door.guarded(path):
        door.check(path)
        if path.lower().endswith(".arrow"):
            parts = _mapped(path, _state(path)).column(column).chunks
        else:
            parts = (
                part.column(0) for part in _parquet(path, _state(path))[0].iter_batches(64, columns=[column])
            )
        row = 0
        for part in parts:
            cells = part.field("bytes") if pa.types.is_struct(part.type) else part
            for length in pc.binary_length(cells).to_pylist():
                if length:
                    yield row, length
                row += 1


# --- videos --------------------------------------------------------------------------------------


def frame_order(there: int, count: int) -> list[int]:
    """Which of the `there` frames to take for `count`: the first ones, repeated if there are too few."""
    return [i % there for i in range(count)]


@functools.cache
def _decoder() -> str:
    try:
        import av
    except ImportError:
        return "absent"
    names = ("libavcodec", "libswscale")
    versions = {name: ".".join(map(str, av.library_versions.get(name, ()))) for name in names}
    return f"av {av.__version__}" + "".join(f", {name} {version}" for name, version in versions.items())


def _frame(path: str, member: str) -> bytes:
    """One frame as a PPM file, so that it is decoded, hashed and resized as any image."""
    spelled = _FRAME.fullmatch(member)
    if not spelled:
        raise KeyError(member)
    number, count, stride = (int(part) for part in spelled.groups()[:3])
    start, end = (float(part or 0) for part in spelled.groups()[3:])
    with _lock:  # so that the frames of a video are decoded once, not by several threads at the same time
        frames = _frames(path, _state(path), count, stride, start, end)
    if not frames:
        raise ImageError(f"{path}: no frame between {start:g} s and {end:g} s can be decoded")
    return frames[frame_order(len(frames), count)[number]]


@functools.lru_cache(maxsize=4)
def _frames(
    path: str, state: tuple[int, ...], count: int, stride: int, start: float, end: float
) -> list[bytes]:
    """Every stride-th frame from `start`, at most `count`. Raises UserError without PyAV."""
    try:
        import av
    except ImportError:
        raise UserError(
            f"{path}: videos need PyAV; pip install 'evalkit[video]', or give folders of frames"
        ) from None
    found: list[bytes] = []
    try:
        with av.open(path, container_options={"format_whitelist": _CONTAINERS}) as container:
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
