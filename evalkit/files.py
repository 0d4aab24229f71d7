"""Files: written completely or not at all, hashed once; where the cache and the shipped files are."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from evalkit import printing
from evalkit.errors import DataError, ResultsError

# --- writing safely ------------------------------------------------------------------------------


def atomic_write(path: Path, data: str | bytes, sync: bool = True) -> None:
    """Writes under a temporary name in the same folder, syncs and renames, so that no partial file is left.

    Without `sync` a power cut may leave one: use it for content with a checksum that can be made again.
    """
    with atomic_file(path, sync) as file:
        file.write(encoded(data) if isinstance(data, str) else data)


@contextlib.contextmanager
def atomic_file(path: Path, sync: bool = True) -> Iterator[IO[bytes]]:
    """A file to write piece by piece; it gets its name once all of it is on the disk, or never."""
    with refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def encoded(text: str) -> bytes:
    """Text in UTF-8. Half a character (a lone surrogate), which UTF-8 has not, is written as `\\udc80`: JSON
    reads it back as it was."""
    return text.encode("utf-8", "backslashreplace")


@contextlib.contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Turns errors of writing to a disk into one sentence: a ResultsError."""
    cached = path.absolute().is_relative_to(cache_folder().absolute())
    another = "choose another folder with " + ("EVALKIT_CACHE" if cached else "--output-path")
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            why = (
                "the disk is full; free some room and run the same command again, and it continues from here"
            )
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            why = f"may not be written; {another}"
        elif error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            why = f"there is a file where a folder is needed, or the reverse; {another}"
        else:
            why = f"cannot be written: {error.strerror or error}"
        raise ResultsError(f"{path}: {why}") from error


# --- reading lines -------------------------------------------------------------------------------


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text file as (number from 1, text without its end); a byte order mark is left out.

    Lines end with `\\n` or `\\r\\n` alone: U+2028, U+2029 and U+0085, at which `str.splitlines` breaks a line
    too, may stand in an answer. Raises OSError and UnicodeDecodeError.
    """
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            yield number, text.removesuffix("\n").removesuffix("\r")


def json_text(
    content: Any, indent: int | None = None, compact: bool = False, ascii_only: bool = False
) -> str:
    """JSON that every reader takes: a number that is none (NaN, infinite) is null, and characters that would
    not be seen, or steer a terminal, are escaped. `compact`: no blanks."""
    write = _encoder(indent, compact, ascii_only).encode
    try:
        text = write(content)
    except ValueError:
        text = write(_numbers(content))
    if text.isascii() and "\x7f" not in text:  # as nearly all are: it takes a tenth of the time
        return text
    return _UNSEEN.sub(lambda found: json.dumps(found[0])[1:-1], text)


@functools.lru_cache(maxsize=16)
def _encoder(indent: int | None, compact: bool, ascii_only: bool) -> json.JSONEncoder:
    """Made once: json.dumps makes one each time, which takes as long as a short line."""
    separators = (",", ":") if compact else None
    return json.JSONEncoder(ensure_ascii=ascii_only, indent=indent, separators=separators, allow_nan=False)


_UNSEEN = re.compile(f"[{printing.UNSEEN.removeprefix(printing.CONTROLS)}]")  # JSON escapes the controls


def _numbers(content: Any) -> Any:
    """The content with None for every number that is none."""
    if isinstance(content, Mapping):
        return {key: _numbers(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_numbers(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


# --- hashing -----------------------------------------------------------------------------------


SETTLED = 2_000_000_000  # ns after which a later write shows in a file's times
_trusted_from = 0  # ns since 1970: what was hashed before is hashed again


def distrust() -> None:
    """From now on this process takes no digest that was remembered before (`--rehash`)."""
    global _trusted_from
    _trusted_from = time.time_ns()


def file_digest(path: Path, progress: Callable[[int], None] | None = None, again: bool = False) -> str:
    """sha256 of a file, remembered by path, size, times and inode; `progress` gets counts of bytes read.
    `again` reads the file in any case."""
    path = path.resolve()
    try:
        known = None if again else remembered_digest(path)
        if known:
            return known
        before, digest = path.stat(), hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            while block := file.read(1 << 22):
                digest.update(block)
                if progress:
                    progress(len(block))
        after = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    # A file still being written, or so new that a later write could keep its mtime, isn't remembered.
    if _key(before) == _key(after) and time.time_ns() - max(after.st_mtime_ns, after.st_ctime_ns) > SETTLED:
        entry = {"path": str(path), "key": _key(after), "at": time.time_ns()}
        _remember(path, {**entry, "sha256": digest.hexdigest()})
    return digest.hexdigest()


def remembered_digest(path: Path) -> str | None:
    """The digest if this file was hashed before, else None; the file itself is not read."""
    path = path.resolve()
    try:
        entry = json.loads(_memory(path).read_bytes())
        same = entry["path"] == str(path) and entry["key"] == _key(path.stat())
        if same and entry.get("at", 0) >= _trusted_from:
            return str(entry["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # absent or damaged: hash again
        pass
    return None


def settled_state(path: str) -> tuple[int, ...] | None:
    """The state of a file: bytes, times of content and of inode in ns, inode; at least one changes whenever
    the file does. None where it is not there, or too young for its state to prove anything."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    state = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    return None if time.time_ns() - max(state[1], state[2]) < SETTLED else state


def forget(path: Path) -> None:
    """Drops the remembered digest of a file, because its content was found to be another."""
    with contextlib.suppress(OSError):
        _memory(path.resolve()).unlink()


def spool(data: bytes) -> Path:
    """Keeps bytes as a file in the cache, named by their digest: of an image from the network, or of a font
    that must stay the one that was hashed."""
    target = cache_folder() / "images" / hashlib.sha256(data).hexdigest()
    if not target.is_file():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".tmp", delete=False) as file:
                file.write(data)
            os.replace(file.name, target)
        except OSError as error:
            raise DataError(f"{target}: cannot be written ({error.strerror}); set EVALKIT_CACHE") from None
    return target


def shipped(name: str) -> Path:
    """A folder that ships with evalkit (`tasks`, `results`): next to the package in a checkout, inside it
    where it is installed."""
    here = Path(__file__).resolve().parent
    return here.parent / name if (here.parent / "pyproject.toml").is_file() else here / f"_{name}"


def cache_folder() -> Path:
    """$EVALKIT_CACHE, or evalkit's folder in the user's cache."""
    given = os.environ.get("EVALKIT_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evalkit"


def _key(stat: os.stat_result) -> list[int]:
    """Size, times and inode: the inode's own time changes whenever the file does, and cannot be set back."""
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _memory(path: Path) -> Path:
    """One small file for each remembered path, so that two processes never write to the same one."""
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
    return cache_folder() / "digests" / f"{name}.json"


def _remember(path: Path, entry: Mapping[str, Any]) -> None:
    """Writes under another name, then renames; a cache that can't be written is not an error."""
    with contextlib.suppress(ResultsError):
        atomic_write(_memory(path), json_text(entry), sync=False)
