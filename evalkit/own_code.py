"""A class or function of the user's own file or package: `FILE.py:NAME` or `PACKAGE.MODULE:NAME`.

Executes that code, so only where a person asked for it: `--model module:...` and `--on-scores` ask by
themselves, a task's file needs `allowed`. Knows nothing of what the code is for.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from evalkit import imports
from evalkit.errors import UserError, nearest
from evalkit.opened import State

Kind = type[UserError]


_FOLDERS: ContextVar[list[Path] | None] = ContextVar("folders of own code", default=None)


@contextlib.contextmanager
def allowed(yes: bool, folders: Iterable[Path] = ()) -> Iterator[None]:
    """Lets task files and runs name code of the user's own inside the block; their files are looked for
    below `folders`, in the folders given by `look_beside`, and in the working folder."""
    token = _FOLDERS.set(list(folders) if yes else None)
    try:
        yield
    finally:
        _FOLDERS.reset(token)


def is_allowed() -> bool:
    """Whether a task's file may have code run here."""
    return _FOLDERS.get() is not None


def look_beside(file: str | Path) -> None:
    """Looks for own code in the folder of `file` (a task's file) too, until this block ends."""
    folders, folder = _FOLDERS.get(), Path(file).parent
    if folders is not None and folder not in folders:
        folders.append(folder)


@dataclass(eq=False)
class Own:
    """A module of own code with the modules that it imports, which others of the same names elsewhere never
    stand in for."""

    code: imports.Code | None  # None: it has no file
    folder: str = ""  # where its imports are looked for first
    module: ModuleType | None = None
    modules: dict[str, ModuleType] = field(default_factory=dict)

    def adopt(self) -> None:
        """Takes what is loaded already, if all of it was executed from the files as they are now; else
        everything is imported again, since one module may hold parts of another."""
        files = {} if self.code is None else {n: f for n, f in self.code.files.items() if n in sys.modules}
        if all(imports.is_current(sys.modules[name], *file) for name, file in files.items()):
            self.modules.update((name, sys.modules[name]) for name in files)

    @property
    def late(self) -> dict[str, str]:
        """The files, with their digests, of what was imported beyond what reading the code could tell."""
        named = self.code.files if self.code else {}
        found = [imports.source(m) for name, m in self.modules.items() if name not in named]
        return dict(source for source in found if source)

    @property
    def opened(self) -> dict[str, set[State]]:
        """The files, with their states, that its modules opened when they were imported."""
        modules = [*self.modules.values(), *([self.module] if self.module else [])]
        found: dict[str, set[State]] = {}
        for path, states in (item for m in modules for item in imports.opened(m).states.items()):
            found.setdefault(path, set()).update(states)
        return found

    def activate(self) -> None:
        """Lets imports find its own modules, and no others that go by their names."""
        if self.folder and sys.path[0] != self.folder:
            with contextlib.suppress(ValueError):
                sys.path.remove(self.folder)
            sys.path.insert(0, self.folder)
        others = (item for own in _LOADED.values() if own is not self for item in own.modules.items())
        hidden = [name for name, module in others if imports.source(module)]
        for name in (*hidden, *(self.code.files if self.code else ()), *self.modules):
            _put(name, self.modules.get(name))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Inside the block its code may run; what it imports there belongs to it."""
        self.activate()
        with imports.executing(self.code, self.modules):
            yield


def _put(name: str, module: ModuleType | None) -> None:
    """Makes a module the one of that name, also where the package around it holds it; None: none is."""
    parent, _, child = name.rpartition(".")
    package = sys.modules.get(parent)
    if module is not None:
        sys.modules[name] = module
        if package is not None:
            setattr(package, child, module)
    elif (old := sys.modules.pop(name, None)) is not None and getattr(package, child, None) is old:
        delattr(package, child)


_LOADED: dict[str, Own] = {}
_OF: WeakKeyDictionary[Any, Own] = WeakKeyDictionary()


def load(
    spec: str,
    shown: str,
    what: str = "class",
    kind: Kind = UserError,
    fresh: bool = False,
    typed: bool = False,
) -> Any:
    """The `what` (class, function) that `FILE.py:NAME` or `PACKAGE.MODULE:NAME` names. A file is executed
    once as long as neither it nor what it imports changes, or, where it is to be `fresh`, again. One that is
    `typed` as an argument is that of the working folder, if it is there, and not another of its name beside
    a task.

    Raises `kind` (`shown: what is wrong`) when there is no such thing, or the code fails.
    """
    place, mark, name = spec.rpartition(":")
    if not mark or not place or not name.isidentifier():
        prefix = shown.removesuffix(spec) if shown.startswith("module:") else ""
        name = what.upper()
        raise kind(f"{shown}: write {prefix}FILE.py:{name} or {prefix}PACKAGE.MODULE:{name}")
    try:
        own = (
            _from_file(_find(place, typed), shown, kind, fresh) if place.endswith(".py") else _package(place)
        )
    except UserError:
        raise
    except Exception as error:
        raise _failed(shown, spec, error, kind) from error
    found = getattr(own.module, name, None)
    if not (isinstance(found, type) if what == "class" else callable(found)):
        module: Any = own.module
        known = [v for v in vars(module).values() if getattr(v, "__module__", "") == module.__name__]
        names = [v.__name__ for v in known if isinstance(v, type) == (what == "class")]
        raise kind(f"{shown}: {place} has no {what} '{name}'{nearest(name, names)}")
    return _kept(found, own)


def load_entry_point(point: metadata.EntryPoint) -> Any:
    """What an installed package's entry point names. Raises UserError when it cannot be imported."""
    try:
        own = _package(point.module)
        return _kept(functools.reduce(getattr, filter(None, point.attr.split(".")), own.module), own)
    except UserError:
        raise
    except Exception as error:
        raise _failed(f"entry point {point.name}", point.value, error, UserError) from error


def _kept(found: Any, own: Own) -> Any:
    with contextlib.suppress(TypeError):  # an instance that is called may allow no reference
        _OF[found] = own
    return found


def _find(file: str, typed: bool) -> Path:
    """Where a file is: below the first folder that has it, else as it stands; if `typed`, the reverse."""
    if typed and Path(file).is_file():
        return Path(file)
    return next((folder / file for folder in _FOLDERS.get() or () if (folder / file).is_file()), Path(file))


def running(thing: Any) -> contextlib.AbstractContextManager[None]:
    """Inside the block a class or function of own code may run, and what it imports there is its own."""
    own = _OF.get(thing)
    return contextlib.nullcontext() if own is None else own.running()


def digest(thing: Any) -> str:
    """sha256 of the code that a class or function was loaded from: its file, and with it every file of one's
    own that it imports; '' where it has no file."""
    code = files(thing)
    return "" if code is None else code.digest


def files(thing: Any) -> imports.Code | None:
    """The files that a class or function was loaded from, None where it has none."""
    own = _OF.get(thing)
    return None if own is None else own.code


def opened(thing: Any) -> dict[str, set[State]]:
    """The files, with their states, that its code opened when it was imported."""
    own = _OF.get(thing)
    return {} if own is None else own.opened


def late(thing: Any) -> dict[str, str]:
    """The files, with their digests, of modules that its code has imported while it ran, by names that
    reading the code could not tell; `digest` does not cover them."""
    own = _OF.get(thing)
    return {} if own is None else own.late


def said(error: BaseException) -> str:
    """`ValueError: what it said`, in one line."""
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def where(error: BaseException) -> str:
    """`my_model.py, line 7`: the innermost place that an exception came from."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}, line {last.lineno}"


def _failed(shown: str, spec: str, error: Exception, kind: Kind) -> UserError:
    """One sentence for code that cannot be imported, with the line that failed."""
    place = spec.rpartition(":")[0]
    if isinstance(error, ModuleNotFoundError) and error.name == place.partition(".")[0]:
        return kind(
            f"{shown}: no package {error.name} can be imported; write "
            f"{shown.removesuffix(spec)}FILE.py:CLASS for a file"
        )
    place_of = where(error)
    if isinstance(error, SyntaxError):
        place_of = f"{Path(error.filename or place).name}, line {error.lineno}"
    return kind(f"{shown}: cannot be imported: {said(error)} ({place_of})")


def _from_file(file: Path, shown: str, kind: Kind, fresh: bool) -> Own:
    """The file as a module; its folder can be imported from, as when it is run."""
    if not file.is_file():
        raise kind(f"{shown}: {file}: no such file")
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    code = imports.of_file(file)
    key = hashlib.sha256((str(file.resolve()) + code.digest).encode()).hexdigest()[:8]
    name = f"evalkit_module_{key}_{file.stem}"
    own = _known(name)
    if own is not None and not fresh:
        own.activate()
        return own
    if own is None:
        own = Own(code, folder)
        own.adopt()
    loader = imports.loader(name, file.resolve())
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles of the file look themselves up here
    try:
        with own.running():
            loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    own.modules.pop(name)
    own.module, _LOADED[name] = module, own
    return own


def _known(name: str) -> Own | None:
    """What was loaded before, if all that it imported and opened is still what its files hold."""
    own = _LOADED.get(name)
    if own is None or not all(imports.digest(f) == digest for f, digest in own.late.items()):
        return None
    modules = [*own.modules.values(), *([own.module] if own.module else [])]
    return own if all(imports.opened(module).unchanged() for module in modules) else None


def _package(name: str) -> Own:
    """An installed module, or one below the working folder."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    code = imports.of_module(name)
    known = f"{name} {code.digest if code else ''}"
    own = _known(known)
    if own is None:
        own = Own(code)
        own.adopt()
        with own.running():
            own.module = importlib.import_module(name)
        _LOADED[known] = own
    own.activate()
    return own
