"""Which files code opens to read while it runs, and in which state they were.

Sees what is opened through Python, by safetensors, SQLite and `ctypes`, and, on Linux, what a native library
still holds mapped when a block ends (GGUF, ONNX' external weights, Arrow). What a program or a native library
reads and closes is not seen.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

State = tuple[int, ...]
"""Bytes, times of content and of inode in ns, inode: at least one changes whenever the file does."""

_SYSTEM = tuple(f"/{name}/" for name in ("proc", "sys", "dev", "run", "etc"))
_MAPPED = "/proc/self/maps"
_MAPPING_BLOCKS = 2  # of one `Opened` that are looked at: weights are mapped when loaded or first used
_WRITING = os.O_WRONLY | os.O_TRUNC | os.O_APPEND | os.O_CREAT


@dataclass
class Opened:
    """The files that were opened inside the blocks of `watching`, by absolute path.

    Those that the code wrote itself are none of them; a file that was in two states has both.
    """

    states: dict[str, set[State]] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    _databases: dict[str, object] = field(default_factory=dict)  # of SQLite, as they were
    _blocks: int = 0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watches this process, all of its threads, inside the block."""
        _install()
        self._blocks += 1
        before = _mapped() if self._blocks <= _MAPPING_BLOCKS else None
        self._databases = {path: _database(path) for path in self._databases}
        _WATCHING.append(self)
        try:
            yield
        finally:
            _WATCHING.remove(self)
            for path, was in list(self._databases.items()):
                if _database(path) != was:  # nothing else tells reading from writing
                    self.wrote(path)
            for path in _mapped() - before if before is not None else ():
                self.read(path)

    def unchanged(self) -> bool:
        """Whether all files still are in the state in which they were opened."""
        return all({state_of(path)} == states for path, states in self.states.items())

    def read(self, path: str) -> None:
        if path in self.written or path.startswith(_SYSTEM):
            return
        state = state_of(path)
        if state is not None:
            self.states.setdefault(path, set()).add(state)

    def connected(self, path: str) -> None:
        self._databases.setdefault(path, _database(path))
        self.read(path)

    def wrote(self, path: str) -> None:
        self.written.add(path)
        self.states.pop(path, None)


def state_of(path: str) -> State | None:
    """A file's state; None where there is no ordinary file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _database(path: str) -> object:
    """The state of a database: of its file, and how much is written that is not in it yet."""
    log = state_of(f"{path}-wal")
    return state_of(path), log[0] if log else 0


_WATCHING: list[Opened] = []


@functools.cache
def _install() -> None:
    """An audit hook stays for as long as the process lives; it does nothing while nobody watches."""
    sys.addaudithook(_heard)
    with contextlib.suppress(ImportError):
        _watch_safetensors()


def _heard(event: str, given: tuple[Any, ...]) -> None:
    if not _WATCHING:
        return
    if event == "open":
        path, mode, flags = given
        writes = any(c in mode for c in "wax") if isinstance(mode, str) else bool((flags or 0) & _WRITING)
        _note(path, Opened.wrote if writes else Opened.read)
    elif event == "os.rename":
        _note(given[1], Opened.wrote)
    elif event == "sqlite3.connect":
        name = given[0]
        if isinstance(name, str) and name.startswith("file:"):  # an address, as for what is only read
            name = unquote(urlsplit(name).path)
        _note(name, Opened.connected)
    elif event == "ctypes.dlopen":
        _note(given[0], Opened.read)


def _note(path: Any, what: Callable[[Opened, str], None]) -> None:
    if not isinstance(path, (str, bytes, os.PathLike)):
        return
    whole = os.path.abspath(os.fsdecode(path))
    for watch in tuple(_WATCHING):
        what(watch, whole)


def _mapped() -> set[str]:
    """The files that this process has mapped into its memory to read them; none where the system does not
    tell. Not programs' libraries: those of the system and of a GPU's driver come and go with a machine; and
    not what is written through its mapping, as an index of SQLite is."""
    found: dict[str, bool] = {}
    with contextlib.suppress(OSError), open(_MAPPED, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            if "/" in line:
                path = line[line.index("/") :].rstrip("\n")
                may = line.split(maxsplit=2)[1]  # such as r-xp; s: shared
                found[path] = found.get(path, False) or "x" in may or ("w" in may and "s" in may)
    return {path for path, other in found.items() if not other}


def _watch_safetensors() -> None:
    """Its reader opens files in native code, which raises no audit event: its class is stood in for."""
    import safetensors

    original = safetensors.safe_open

    class Kind(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, original)

    class safe_open(metaclass=Kind):
        def __new__(cls, filename: Any, *more: Any, **named: Any) -> Any:
            if _WATCHING:
                _note(filename, Opened.read)
            return original(filename, *more, **named)

    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get("safe_open") is original:
            module.__dict__["safe_open"] = safe_open
