"""The files that code of the user's own reads, with their digests: they decide its answers as its code does.

What a program or a native library opens by itself is known only where an option names it (`opened.py`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evalkit import imports, own_code
from evalkit.errors import DataError, UserError
from evalkit.files import cache_folder, file_digest
from evalkit.opened import Opened, state_of

FILES = 1000  # a folder that an option names is identified by its files, if it holds no more


class Reading:
    """Keeps account of the files that a class of own code reads: when it is imported, while it runs inside
    `watching`, and those that its `options` name. `where` names it in errors."""

    def __init__(self, thing: Any, where: str, options: Mapping[str, Any] | None = None) -> None:
        self._thing, self._where = thing, where
        self._named: list[str] | None = list(_named((options or {}).values()))
        self._opened = Opened()
        self._digests: dict[str, str] = {}
        self._known: dict[str, int] = {}  # files to the number of states that were looked at

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Inside the block the class may run."""
        for path in self._named or ():  # hashed before it is read, since a native reader is not heard of
            self._opened.read(path)
            self._look(path)
        self._named = None
        with own_code.running(self._thing), self._opened.watching():
            yield

    def used(self, images: Collection[str] = ()) -> Mapping[str, str]:
        """Every file that was read so far, with its digest, but for code that the identity names, what is
        installed, what the class wrote itself, and `images`. Raises UserError where one has changed."""
        for path, states in own_code.opened(self._thing).items():
            self._opened.states.setdefault(path, set()).update(states)
        code = own_code.files(self._thing)
        known = {file for file, _ in code.files.values()} if code else set()
        for path in list(self._opened.states):
            if path in known or path in images or path.endswith(".pyc") or _not_ours(path):
                del self._opened.states[path]
            elif self._known.get(path) != len(self._opened.states[path]):
                self._look(path)
                self._known[path] = len(self._opened.states[path])
        return {path: self._digests[path] for path in self._opened.states} | own_code.late(self._thing)

    def _look(self, path: str) -> None:
        """Hashes a file. Raises UserError unless it is as it was whenever it was opened."""
        self._digests[path] = _digest(path)
        if self._digests[path] and self._opened.states.get(path) != {state_of(path)}:
            raise UserError(f"{self._where}: {path}: changed while it was read; run the same command again")


def now(files: Iterable[str]) -> dict[str, str]:
    """The digests of files as they are now, '' where one cannot be read."""
    return {path: _digest(path) for path in files}


def unchanged(used: Mapping[str, str]) -> bool:
    """Whether all files are still those of the digests, and it is certain that they were."""
    return "" not in used.values() and now(used) == used


def _digest(path: str) -> str:
    try:
        return file_digest(Path(path))
    except DataError:
        return ""


def _named(values: Collection[Any]) -> Iterator[str]:
    """The files that options name, and those in a folder that one names."""
    for value in values:
        if not isinstance(value, (str, os.PathLike)) or not str(value):
            continue
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # it may be no path at all
            path = Path(value).expanduser().absolute()
            if path.is_file():
                yield str(path)
            elif path.is_dir():
                inside = [str(p) for p in sorted(path.iterdir()) if p.is_file()]
                yield from inside if len(inside) <= FILES else []


def _not_ours(path: str) -> bool:
    return imports.installed(path) or path.startswith(str(cache_folder()) + os.sep)
