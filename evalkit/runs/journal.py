"""Journals: answers appended line by line, each with a checksum over itself and its run's digest.

Knows lines and their damage, not where they belong or what they are for.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import time
import weakref
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from evalkit.data.by_name import Named
from evalkit.errors import ResultsError
from evalkit.files import refusals
from evalkit.runs import content
from evalkit.runs.journal_lines import Entry, decode, encode
from evalkit.types import Prediction

SYNC_SECONDS = 2.0  # a power cut loses at most this much work
PART = re.compile(r"[0-9]+\.jsonl")  # a journal's name; other files beside it are none
IN_MEMORY = 32 << 20  # bytes of journals whose answers are kept in memory
AHEAD = 1 << 16  # bytes that are read at once where lines are asked for in their order


@dataclass(frozen=True)
class Answers:
    """A run's entries by sample id, and a sentence for each file that holds what is not the run's."""

    entries: Mapping[str, Entry]
    aside: tuple[str, ...] = ()


class Predictions(Mapping[str, Prediction]):
    """The predictions of entries: those of some samples."""

    def __init__(self, entries: Mapping[str, Entry], names: Sequence[str]) -> None:
        self._entries, self._names = entries, names
        self._length = sum(name in entries for name in names)
        self._all = set(names) if self._length < len(entries) else None  # None: no entry is of another sample

    def __getitem__(self, name: str) -> Prediction:
        if self._all is not None and name not in self._all:
            raise KeyError(name)
        return self._entries[name].prediction

    def __contains__(self, name: object) -> bool:
        return name in self._entries and (self._all is None or name in self._all)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names if name in self._entries)

    def __len__(self) -> int:
        return self._length

    def digest(self) -> str:
        """Of all that scores are computed from, however the answers came to be there."""
        entries = self._entries
        if isinstance(entries, _Filed):
            return content.together(map(entries.content, self))
        return content.together(content.of(entries[name].prediction) for name in self)


# --- reading -------------------------------------------------------------------------------------


def read(folder: Path, digest: str, unsealed: Mapping[str, int] | None) -> Answers:
    """The answers of the run with this digest in a folder of journals. Damaged lines are dropped; lines of
    other runs, and files that are no part, are left aside.

    `unsealed` says up to which byte of which part older lines stand, whose checksums name no run; None
    takes them wherever they are. Of large journals the answers stay in the files. Raises ResultsError for a
    file that cannot be read.
    """
    aside: list[str] = []
    files: list[_File] = []
    for path in sorted(folder.glob("*.jsonl"), key=lambda p: (len(p.name), p.name)):
        if not PART.fullmatch(path.name):
            aside.append(f"{path}: is no journal of evalkit's; left aside")
            continue
        files.append(_File(path, digest, None if unsealed is None else unsealed.get(path.name, 0)))
    entries, odd = _entries_of(files)
    for file in files:
        aside += [f"{file.path}: {_lines(n)} {why}; left aside" for why, n in odd[file.path].items()]
    return Answers(entries, tuple(aside))


@dataclass(frozen=True)
class _File:
    """A journal of the run with this digest; older lines, whose checksums name no run, stand up to byte
    `limit` (None: anywhere)."""

    path: Path
    digest: str
    limit: int | None

    def decoded(self) -> Iterator[tuple[int, int, Entry | str]]:
        """Each line's first byte, its length, and what `decode` reads of it."""
        at = 0
        try:
            with open(self.path, "rb") as file:
                for line in file:
                    yield at, len(line), self.decode(at, line)
                    at += len(line)
        except OSError as error:
            raise ResultsError(f"{self.path}: cannot be read ({error.strerror or error})") from None

    def decode(self, at: int, line: bytes) -> Entry | str:
        return decode(line, self.digest, self.limit is None or at < self.limit)


Odd = Mapping[Path, Mapping[str, int]]
"""By journal: how many lines are what else."""


def _entries_of(files: Sequence[_File]) -> tuple[Mapping[str, Entry], Odd]:
    """The entries of journals, the last one for each id; the first file has the last word, since it is the
    one that is written."""
    if sum(file.path.stat().st_size for file in files if file.path.exists()) > IN_MEMORY:
        packed, odd = _Filed(files), {}
        for number, file in enumerate(files):
            odd[file.path] = _odd(file, functools.partial(packed.add, number))
        if not packed.repeated:
            return packed, odd
    found: dict[str, Entry] = {}
    odd = {}
    for file in files:
        last: dict[str, Entry] = {}
        odd[file.path] = _odd(file, functools.partial(_keep, last))
        found = {**last, **found}
    return found, odd


def _keep(found: dict[str, Entry], at: int, length: int, entry: Entry) -> None:
    found[entry.prediction.id] = entry


def _odd(file: _File, take: Callable[[int, int, Entry], None]) -> Counter[str]:
    """Gives every entry of a journal to `take`, and returns how many lines are what else."""
    odd = Counter[str]()
    for at, length, entry in file.decoded():
        if isinstance(entry, Entry):
            take(at, length, entry)
        elif entry:
            odd[entry] += 1
    return odd


class _Filed(Named[Entry]):
    """Entries that stay in their journals, from which each is read when it is asked for: of a million, each
    there once, 60 MB are kept instead of a gigabyte."""

    def __init__(self, files: Sequence[_File]) -> None:
        super().__init__()
        self._files = files
        self._number, self._at, self._length = array("H"), array("Q"), array("Q")
        self._content = bytearray()
        self._block = (0, 0, b"")  # the last bytes read: of which file, from where
        self._next = (0, 0)  # where the line after the last one begins
        self._opened = [self._open(file.path) for file in files]

    def _open(self, path: Path) -> int:
        try:
            opened = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise ResultsError(f"{path}: cannot be read ({error.strerror or error})") from None
        weakref.finalize(self, os.close, opened)
        return opened

    def add(self, number: int, at: int, length: int, entry: Entry) -> None:
        self._add_name(entry.prediction.id)
        self._number.append(number)
        self._at.append(at)
        self._length.append(length)
        self._content += content.of(entry.prediction)

    def content(self, name: str) -> bytes:
        """As `content.of` the prediction, which is not read again."""
        at = self._place(name) * content.LENGTH
        return bytes(self._content[at : at + content.LENGTH])

    def __getitem__(self, name: str) -> Entry:
        place = self._place(name)
        number, at = self._number[place], self._at[place]
        file = self._files[number]
        try:
            entry = file.decode(at, self._line(number, at, self._length[place]))
        except OSError as error:
            raise ResultsError(f"{file.path}: cannot be read ({error.strerror or error})") from None
        if isinstance(entry, str) or entry.prediction.id != name:
            raise ResultsError(f"{file.path}: changed while it was read; run the same command again")
        return entry

    def _line(self, number: int, at: int, length: int) -> bytes:
        of, start, data = self._block
        if of != number or not start <= at <= start + len(data) - length:
            ahead = AHEAD if self._next == (number, at) else 0
            data, start = os.pread(self._opened[number], max(length, ahead), at), at
            self._block = number, start, data
        self._next = number, at + length
        return data[at - start : at - start + length]


def every_line(folder: Path, digest: str, unsealed: Mapping[str, int] | None) -> Iterator[Entry]:
    """The entries that `read` would give, line by line: the first part comes last, since it has the last
    word. Raises ResultsError as that does."""
    for path in sorted(parts(folder), key=lambda p: (len(p.name), p.name), reverse=True):
        limit = None if unsealed is None else unsealed.get(path.name, 0)
        for _, _, entry in _File(path, digest, limit).decoded():
            if isinstance(entry, Entry):
                yield entry


def any_of(folder: Path, digest: str, unsealed: Mapping[str, int] | None) -> bool:
    """Whether `read` would give an answer: it reads up to the first. Raises ResultsError as that does."""
    for path in parts(folder):
        limit = None if unsealed is None else unsealed.get(path.name, 0)
        if any(isinstance(entry, Entry) for _, _, entry in _File(path, digest, limit).decoded()):
            return True
    return False


def _lines(n: int) -> str:
    return f"{n:,} line{'' if n == 1 else 's'}"


# --- writing -------------------------------------------------------------------------------------


class Journal:
    """Append-only answers of the run with this digest; one writer at a time, synced every 2 s.

    Use as a context manager. Raises ResultsError when another process is writing the same part.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self.path, self._digest = path, digest
        self._file: FileIO | None = None
        self._synced = 0.0

    def __enter__(self) -> Journal:
        with refusals(self.path), contextlib.ExitStack() as opened:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = opened.enter_context(FileIO(self.path, "a+"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ResultsError(
                    f"{self.path}: another process is writing this run; wait for it, or use another "
                    "--output-path"
                ) from None
            self._end_last_line(file)
            opened.pop_all()
        self._file = file
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            with refusals(self.path):
                os.fsync(file.fileno())
        except ResultsError:
            if failed is None:  # else what came first is said
                raise
        finally:
            file.close()

    @staticmethod
    def _end_last_line(file: FileIO) -> None:
        """Ends a line that was cut off by a kill, so that the next entry starts on its own line."""
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                _write(file, b"\n")

    def write(self, entry: Entry) -> None:
        assert self._file is not None, "a journal is written inside `with`"
        with refusals(self.path):
            _write(self._file, encode(entry, self._digest))  # a killed process loses nothing
            if time.monotonic() - self._synced > SYNC_SECONDS:  # a power cut at most so much
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()


def _write(file: FileIO, data: bytes) -> None:
    """Writes all of it. Nothing stays in a buffer, which a full disk would refuse only when it is closed."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


# --- one line ------------------------------------------------------------------------------------


def parts(folder: Path) -> Iterable[Path]:
    """The journals in a folder."""
    try:
        there = os.listdir(folder)
    except OSError:
        return []
    return [folder / name for name in sorted(filter(PART.fullmatch, there))]
