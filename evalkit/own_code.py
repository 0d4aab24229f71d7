"""A class or function of the user's own file or package: `FILE.py:NAME` or `PACKAGE.MODULE:NAME`.

Executes that code, so only where a person asked for it: `--model module:...` and `--on-scores` ask by
themselves, a task's file needs `allowed`. Knows nothing of what the code is for.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from evalkit.errors import UserError, nearest

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


def load(spec: str, shown: str, what: str = "class", kind: Kind = UserError, fresh: bool = False) -> Any:
    """The `what` (class, function) that `FILE.py:NAME` or `PACKAGE.MODULE:NAME` names. A file is executed
    once as long as it does not change, or, where it is to be `fresh`, again.

    Raises `kind` (`shown: what is wrong`) when there is no such thing, or the code fails.
    """
    place, mark, name = spec.rpartition(":")
    if not mark or not place or not name.isidentifier():
        prefix = shown.removesuffix(spec) if shown.startswith("module:") else ""
        name = what.upper()
        raise kind(f"{shown}: write {prefix}FILE.py:{name} or {prefix}PACKAGE.MODULE:{name}")
    try:
        module = _from_file(_find(place), shown, kind, fresh) if place.endswith(".py") else _package(place)
    except UserError:
        raise
    except Exception as error:
        raise _failed(shown, spec, error, kind) from error
    found = getattr(module, name, None)
    if not (isinstance(found, type) if what == "class" else callable(found)):
        own = [v for v in vars(module).values() if getattr(v, "__module__", "") == module.__name__]
        names = [v.__name__ for v in own if isinstance(v, type) == (what == "class")]
        raise kind(f"{shown}: {place} has no {what} '{name}'{nearest(name, names)}")
    return found


def load_entry_point(point: metadata.EntryPoint) -> Any:
    """What an installed package's entry point names. Raises UserError when it cannot be imported."""
    try:
        return point.load()
    except Exception as error:
        raise _failed(f"entry point {point.name}", point.value, error, UserError) from error


def _find(file: str) -> Path:
    """Where a file is: below the first folder that has it, else as it stands."""
    return next((folder / file for folder in _FOLDERS.get() or () if (folder / file).is_file()), Path(file))


def digest(thing: Any) -> str:
    """sha256 of the file that defines a class or function; '' where it has none."""
    file = getattr(sys.modules.get(thing.__module__), "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file and Path(file).is_file() else ""


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


def _from_file(file: Path, shown: str, kind: Kind, fresh: bool) -> ModuleType:
    """The file as a module; its folder can be imported from, as when it is run."""
    if not file.is_file():
        raise kind(f"{shown}: {file}: no such file")
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    content = file.read_bytes()
    key = hashlib.sha256(str(file.resolve()).encode() + content).hexdigest()[:8]
    name = f"evalkit_module_{key}_{file.stem}"
    if name in sys.modules and not fresh:
        return sys.modules[name]
    found = importlib.util.spec_from_file_location(name, file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses and pickles of the file look themselves up here
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _package(name: str) -> ModuleType:
    """An installed module, or one below the working folder."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    return importlib.import_module(name)
