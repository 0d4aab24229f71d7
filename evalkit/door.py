"""The one door through which files of other people are read: regular files only, up to a bound, and, while
data is read, only those in the places that it may name. Turns what a parser raises into one sentence.

Knows no format.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from evalkit.errors import DataError, UserError

WHOLE = 4 << 30  # bytes of a file of data that is read as a whole
LINE = 256 << 20  # bytes of one line of JSON lines
HEAD = 1 << 16  # bytes at the beginning of a file
SMALL = 16 << 20  # bytes of a file that people write by hand: YAML, TOML, lists of ids

Places = tuple[str, ...]
"""Files and folders without symbolic links: what is inside of one may be opened."""

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_PLACES: ContextVar[Places | None] = ContextVar("places", default=None)


class Refused(OSError):
    """A file that is not opened; `strerror` says why."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EPERM, why)


# --- where -------------------------------------------------------------------------------------


def places(paths: Iterable[Path | str]) -> Places:
    """The files and folders themselves, where the paths are symbolic links to them."""
    return tuple(dict.fromkeys(os.path.realpath(path) for path in paths))


def current() -> Places | None:
    """The places in force; None where any file may be opened."""
    return _PLACES.get()


def also(path: Path | str, *otherwise: Path | str) -> Places:
    """The places in force, or where none are those given otherwise, and one more."""
    now = _PLACES.get()
    return (*(places(otherwise) if now is None else now), *places([path]))


@contextlib.contextmanager
def within(allowed: Places) -> Iterator[None]:
    """Inside the block only files in these places are opened, for reading what is named by data."""
    before = _PLACES.set(allowed)
    try:
        yield
    finally:
        _PLACES.reset(before)


def check(path: Path | str, allowed: Places | None = None) -> None:
    """Raises OSError unless there is a regular file in the places (default: those in force)."""
    allowed = _PLACES.get() if allowed is None else allowed
    try:
        if allowed is not None:
            _check_place(os.fspath(path), allowed)
        found = os.stat(path)
    except ValueError:  # a NUL, half a character
        raise Refused("is no file name") from None
    _check_kind(found)


def _check_place(path: str, allowed: Places) -> None:
    real = _real(path)
    if not any(real == place or real.startswith(place.rstrip(os.sep) + os.sep) for place in allowed):
        if not os.path.lexists(path):  # a root for it would not help
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        leads = "" if real == os.path.abspath(path) else f"leads to {real[:300]}, which "
        raise Refused(
            f"{leads}is outside of the data roots and of what the task names; "
            "give its folder as --data-root too, or as `images` of the task"
        )


def _real(path: str) -> str:
    """The path without symbolic links. A folder with thousands of images is resolved once."""
    folder, name = os.path.split(path)
    if name in ("", ".", "..") or os.path.islink(path):
        return os.path.realpath(path)
    try:
        found = os.stat(folder or ".")
    except OSError:
        return os.path.realpath(path)
    return os.path.join(_real_folder(folder or os.getcwd(), found.st_dev, found.st_ino), name)


@functools.lru_cache(maxsize=4096)
def _real_folder(folder: str, device: int, inode: int) -> str:
    return os.path.realpath(folder)


def _check_kind(found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise Refused(f"is {_KINDS.get(stat.S_IFMT(found.st_mode), 'no file')}; only regular files are read")


# --- reading -----------------------------------------------------------------------------------


def opened(path: Path | str, allowed: Places | None = None) -> BinaryIO:
    """A regular file, opened to read bytes. Raises OSError, `Refused` among them; never waits for a pipe."""
    check(path, allowed)
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | _AT_ONCE))  # noqa: SIM115
    try:
        _check_kind(os.fstat(file.fileno()))  # it may have been exchanged since
    except BaseException:
        file.close()
        raise
    return file


_AT_ONCE = getattr(os, "O_NONBLOCK", 0)


def read(path: Path | str, limit: int = WHOLE, allowed: Places | None = None) -> bytes:
    """The bytes of a regular file. Raises OSError; `Refused` for one larger than `limit`."""
    with opened(path, allowed) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(size + 1) if size <= limit else b""
        if len(data) > size:  # it grows, or states no size, as files of /proc
            data += file.read(limit + 1 - len(data))
    if size > limit or len(data) > limit:
        raise Refused(f"is larger than {_said(limit)}")
    return data


def text(path: Path | str, limit: int = SMALL) -> str:
    """A UTF-8 text, a byte order mark left out. Raises OSError, UnicodeDecodeError."""
    return read(path, limit).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def head(path: Path | str) -> bytes:
    """The beginning of a regular file, by which it is told what it is: without a byte order mark and blanks.
    Raises OSError."""
    with opened(path) as file:
        return file.read(HEAD).removeprefix(b"\xef\xbb\xbf").lstrip()


def block(path: Path | str, length: int) -> bytes:
    """Bytes from the middle of a regular file; of thousands of files, so it asks for nothing twice. Raises
    OSError."""
    allowed = _PLACES.get()
    if allowed is not None:
        _check_place(os.fspath(path), allowed)
    file = os.open(path, os.O_RDONLY | _AT_ONCE)
    try:
        found = os.fstat(file)
        _check_kind(found)
        os.lseek(file, max(0, (found.st_size - length) // 2), os.SEEK_SET)
        return os.read(file, length)
    finally:
        os.close(file)


def home(path: Path | str) -> Path:
    """The path with `~` for a home. Raises UserError where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: {str(error).rstrip('.')}; write the whole path") from None


def is_there(path: Path | str) -> bool:
    """Whether there is a file or folder; no error for what can be no name, as one of 300 letters."""
    try:
        os.stat(path)
    except (OSError, ValueError):
        return False
    return True


def _said(limit: int) -> str:
    return f"{limit >> 30} GiB" if limit >= 1 << 30 else f"{limit >> 20} MiB"


@contextlib.contextmanager
def guarded(
    where: object, right: str = "", kind: type[UserError] = DataError, text: str = ""
) -> Iterator[None]:
    """Inside the block one file is read. Whatever is raised becomes a `kind`: `where: what is wrong; right`,
    a UserError stays as it is. `text`: what is right where the file is no UTF-8, and only there."""
    try:
        yield
        return
    except UserError:
        raise
    except RecursionError:
        why = "is nested too deeply"
    except MemoryError:
        why = "needs more memory than there is"
    except UnicodeDecodeError as error:
        wide = error.object[:2] in (b"\xff\xfe", b"\xfe\xff")
        why, right = "is UTF-16" if wide else f"byte {error.start}: is not UTF-8", text or right
    except Refused as error:
        why = str(error.strerror)
    except OSError as error:
        why = f"cannot be read ({error.strerror or _short(error)})"
    except Exception as error:  # of a damaged file parsers raise many kinds
        why = f"cannot be read ({type(error).__name__}: {_short(error)})"
    raise kind(f"{where}: {why}{'; ' if right else ''}{right}") from None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
