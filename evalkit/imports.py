"""The files that own code is made of: a module's file and all that it imports, found without running them.

While `executing`, modules of these files are executed from the bytes that were hashed, so what is named is
what runs. Knows nothing of what the code is for.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib
import importlib.machinery
import json
import os
import site
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from evalkit.errors import UserError
from evalkit.opened import Opened

_STARTED_NS = time.time_ns()
# Known by their versions, wherever they are.
_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "PIL")


@dataclass(frozen=True)
class Code:
    """What a module is made of: names of modules, '' for the file itself, with their files and sha256; and
    what these files held."""

    files: Mapping[str, tuple[str, str]]
    sources: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def digest(self) -> str:
        """sha256: of the file where it imports none of its own, else of all names and digests."""
        digests = {name: digest for name, (_, digest) in self.files.items()}
        if len(digests) == 1:
            return next(iter(digests.values()))
        return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


# --- what a module is made of ---------------------------------------------------------------------


def of_file(file: Path) -> Code:
    """The code of a file. Raises UserError for what cannot be read."""
    return _Search().code("", str(file.resolve()))


def of_module(name: str) -> Code | None:
    """The code of a module, with the packages around it; None where it has no file of its own."""
    search, package = _Search(), name.partition(".")[0]
    top, spec = search.found(package), search.found(name)
    if top is None or spec is None or not spec.origin or not os.path.isfile(spec.origin):
        return None
    if package != "evalkit":
        search.places = [str(place) for place in top.submodule_search_locations or ()]
    return search.code(name, spec.origin, around=_around(name))


class _Search:
    """Finds a module and what it imports, again and again. Own code is what lies below `places`, or outside
    of Python itself, installed packages and evalkit."""

    def __init__(self) -> None:
        self.places: Sequence[str] = ()
        self._known: dict[str, ModuleSpec | None] = {}
        importlib.invalidate_caches()

    def code(self, name: str, file: str, around: Iterable[str] = ()) -> Code:
        """The code of the module `name` in `file`, which the packages `around` it are imported for."""
        files: dict[str, tuple[str, str]] = {}
        sources: dict[str, bytes] = {}
        waiting = [(name, file), *self._files(around)]
        while waiting:
            name, file = waiting.pop()
            if name in files:
                continue
            try:
                data = Path(file).read_bytes()
            except OSError as error:
                raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None
            files[name] = (file, hashlib.sha256(data).hexdigest())
            if file.endswith(".py"):
                sources[file] = data
                package = name if os.path.basename(file) == "__init__.py" else name.rpartition(".")[0]
                waiting += self._files(_imported(data, package))
        return Code(dict(sorted(files.items())), sources)

    def _files(self, names: Iterable[str]) -> Iterator[tuple[str, str]]:
        """The names that are own modules, with their files."""
        for name in names:
            if name.partition(".")[0] in _LIBRARIES:
                continue
            loaded = getattr(sys.modules.get(name), "__file__", None)
            if loaded and not self.own(loaded):  # Python's module counts, not a file of its name
                continue
            spec = self.found(name)
            file = (spec and spec.origin) or ""
            if not os.path.isfile(file):  # in a zip file, or no file at all
                file = getattr(spec and spec.loader, "archive", "")
            if file and self.own(file):
                yield name, file

    def found(self, name: str) -> ModuleSpec | None:
        """Where a module is, as an import would find it; no package around it is run."""
        if name not in self._known:
            parent, above = name.rpartition(".")[0], None
            if parent:
                above = self.found(parent)
            places = above.submodule_search_locations if above is not None else None
            self._known[name] = None if parent and places is None else _found(name, places)
        return self._known[name]

    def own(self, file: str) -> bool:
        path = os.path.abspath(file)
        return not installed(path) or any(path.startswith(f"{place}{os.sep}") for place in self.places)


def installed(path: str) -> bool:
    """Whether an absolute path is below Python itself, installed packages or evalkit."""
    return path.startswith(_installed())


@functools.cache
def _installed() -> tuple[str, ...]:
    known = sysconfig.get_paths()
    places = [known[k] for k in ("stdlib", "platstdlib", "purelib", "platlib")]
    places += [*site.getsitepackages(), site.getusersitepackages(), str(Path(__file__).parent)]
    return tuple(f"{os.path.abspath(p)}{os.sep}" for p in {*places, *map(os.path.realpath, places)})


def _around(name: str) -> list[str]:
    """`a.b.c` to `a`, `a.b`."""
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


@functools.lru_cache(maxsize=1024)
def _imported(source: bytes, package: str) -> tuple[str, ...]:
    """Every name that a source may import, at any depth, with the packages around each; () for what is no
    Python. Some are no modules."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return ()
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            names += [str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant)]
    return tuple(dict.fromkeys(n for name in names for n in (*_around(name), name) if n.strip(".")))


def _called(node: ast.Call) -> str:
    return str(getattr(node.func, "attr", "") or getattr(node.func, "id", ""))


def _found(name: str, path: Iterable[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find is None or finder is _FINDER:
            continue
        with contextlib.suppress(Exception):  # a finder of someone else's
            spec: ModuleSpec | None = find(name, None if path is None else list(path))
            if spec is not None:
                return spec
    return None


# --- execution ------------------------------------------------------------------------------------


class _Loader(importlib.machinery.SourceFileLoader):
    """Executes the bytes that were hashed. Bytecode is not read: it counts as that of any source of equal
    size and time."""

    def exec_module(self, module: ModuleType) -> None:
        running = _RUNNING[-1] if _RUNNING else _Running({}, {})  # of a thread that outlives the block
        data = running.sources.get(self.path)
        if data is None:
            data = self.get_data(self.path)
        opened = Opened()
        module.__dict__.update({_SOURCE: (self.path, hashlib.sha256(data).hexdigest()), _OPENED: opened})
        running.modules[module.__name__] = module
        with opened.watching():
            exec(self.source_to_code(data, self.path), module.__dict__)


class _Finder:
    """Gives own modules this loader."""

    def find_spec(
        self, name: str, path: Iterable[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = _found(name, path)
        if spec is None or type(spec.loader) is not importlib.machinery.SourceFileLoader:
            return None
        file = spec.loader.path
        if not _RUNNING or (file not in _RUNNING[-1].sources and installed(os.path.abspath(file))):
            return None
        spec.loader = _Loader(name, file)
        return spec


@dataclass(frozen=True)
class _Running:
    sources: Mapping[str, bytes]
    modules: dict[str, ModuleType]


_FINDER = _Finder()
_SOURCE = "__evalkit_source__"  # of a module: its file and sha256 as it was executed
_OPENED = "__evalkit_opened__"  # and the files that this opened
_RUNNING: list[_Running] = []


@contextlib.contextmanager
def executing(code: Code | None, modules: dict[str, ModuleType]) -> Iterator[None]:
    """Own modules that are imported inside the block are executed as the code has them, and put into
    `modules` by name."""
    sys.meta_path.insert(0, _FINDER)
    _RUNNING.append(_Running(code.sources if code else {}, modules))
    try:
        yield
    finally:
        _RUNNING.pop()
        sys.meta_path.remove(_FINDER)


def loader(name: str, file: Path) -> importlib.machinery.SourceFileLoader:
    """Executes the file inside `executing`."""
    return _Loader(name, str(file))


def source(module: ModuleType) -> tuple[str, str] | None:
    """The file and sha256 that a module was executed from, if that was inside `executing`."""
    found: tuple[str, str] | None = module.__dict__.get(_SOURCE)
    return found


def opened(module: ModuleType) -> Opened:
    """The files that a module opened when it was executed inside `executing`."""
    found: Opened = module.__dict__.get(_OPENED) or Opened()
    return found


def digest(file: str) -> str:
    """sha256 of a file as it is now, '' where it cannot be read."""
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:
        return ""


def is_current(module: ModuleType, file: str, digest: str) -> bool:
    """Whether a loaded module was executed from this content of this file, and what it opened is the same."""
    executed = source(module)
    if executed is not None:
        return executed == (file, digest) and opened(module).unchanged()
    try:  # loaded by someone else: only time tells what was executed
        loaded = str(getattr(module, "__file__", None))
        return os.path.samefile(loaded, file) and os.stat(file).st_ctime_ns < _STARTED_NS
    except OSError:
        return False
