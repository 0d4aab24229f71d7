"""`anls(threshold=0.5)` to an object and back: the directory is the registry, literals only.

A spelling names what ships with evalkit, or code of the user's own, where `own_code.allowed` lets it run:
`module:FILE.py:CLASS(...)`, or an installed package's entry point in the group `evalkit.metrics` (or
`.parsers`, `.formats`, `.models`, `.forms`).
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re
import typing
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from evalkit import hints, own_code
from evalkit.errors import UserError, nearest
from evalkit.types import Format, Metric, Model, Parser

ROOMS: dict[str, type] = {
    "formats": Format,
    "parsers": Parser,
    "metrics": Metric,
    "models": Model,
}
ADDED = {"added": True}  # metadata of a parameter that a class got later
OWN = "module:"  # how a spelling of the user's own file or package begins
_SPELLED = "_evalkit_spelling"  # set on a class of own code: what `spell` calls it
_OWN_SPELLING = re.compile(r"(module:[^()#]+)(\(.*\))?(?:#([0-9a-f]{12}))?", re.S)
_SPELLING = re.compile(r"(.*?)(?:#([0-9a-f]{12}))?", re.S)


def names(room: str) -> list[str]:
    """What ships in a room, from its file names alone (nothing is imported)."""
    return list(_names(room))


@functools.cache
def _names(room: str) -> tuple[str, ...]:
    folder = Path(__file__).parent / room
    return tuple(sorted(m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith("_")))


@functools.cache
def entry_points(room: str) -> Mapping[str, metadata.EntryPoint]:
    """What installed packages add to a room, by name; nothing of them is imported."""
    return {point.name: point for point in metadata.entry_points(group=f"evalkit.{room}")}


def has(room: str, name: str) -> bool:
    """Whether a room has something of that name, be it an installed package's."""
    return name in names(room) or name in entry_points(room)


def parse(spelling: str) -> tuple[str, dict[str, Any]]:
    """`name` or `name(key=literal, ...)` to the name and its parameters; nothing is evaluated."""
    return _parse(spelling)[:2]


def _parse(spelling: str) -> tuple[str, dict[str, Any], str]:
    """The name, the parameters, and the digest of the code where the spelling has one, else ''."""
    text, name = spelling.strip(), ""
    if own := _OWN_SPELLING.fullmatch(text):
        name, text, digest = own[1].strip(), f"own{own[2] or ''}", own[3]
    else:
        plain = _SPELLING.fullmatch(text)
        assert plain is not None
        text, digest = plain[1], plain[2]
    try:
        node = ast.parse(text, mode="eval").body
        if isinstance(node, ast.Name):
            return name or node.id, {}, digest or ""
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)) or node.args:
            raise ValueError
        parameters = {}
        for keyword in node.keywords:
            if keyword.arg is None or keyword.arg in parameters:
                raise ValueError
            parameters[keyword.arg] = ast.literal_eval(keyword.value)
        return name or node.func.id, parameters, digest or ""
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise UserError(
            f"'{spelling}' cannot be read; write name or name(key=value, ...), e.g. anls(threshold=0.5)"
        ) from None


def find(room: str, name: str) -> type[Any]:
    """The one class that `evalkit/<room>/<name>.py` defines, or that the user's own code has by that name.

    Raises UserError when there is none, or it is the user's own and may not run.
    """
    if name in names(room):
        return _shipped(room, name)
    if not name.startswith(OWN) and name not in entry_points(room):
        raise UserError(f"no '{name}'{nearest(name, [*names(room), *entry_points(room)])}")
    return _own(room, name)


def _shipped(room: str, name: str) -> type[Any]:
    module = importlib.import_module(f"evalkit.{room}.{name}")
    base = ROOMS[room]
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, base)
        and value.__module__.startswith(module.__name__)
    ]
    if len(found) != 1:
        raise TypeError(
            f"evalkit/{room}/{name}.py must define exactly one {base.__name__}, it has {len(found)}"
        )
    return found[0]


def _own(room: str, name: str) -> type[Any]:
    """A class of the user's own, checked: a dataclass of the room's kind."""
    if room != "models" and not own_code.is_allowed():
        raise UserError(f"'{name}' is code of your own; --allow-code lets it run")
    if name.startswith(OWN):
        cls = own_code.load(name.removeprefix(OWN), name)
    else:
        cls = own_code.load_entry_point(entry_points(room)[name])
    base = ROOMS[room]
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise UserError(f"{name}: is no {base.__name__}; derive it from evalkit.types.{base.__name__}")
    if room != "models" and not dataclasses.is_dataclass(cls):
        raise UserError(f"{name}: is no dataclass; put @dataclass(frozen=True) on it")
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise UserError(
            f"{name}: lacks {missing}; evalkit/types/{base.__name__.lower()}.py says what it must have"
        )
    setattr(cls, _SPELLED, name)
    return cls


def make(room: str, spelling: str) -> Any:
    """The object that a spelling names: `make("metrics", "anls(threshold=0.5)")`.

    Raises UserError for what cannot be made, and for own code that is not the one whose digest is spelled.
    """
    name, parameters, digest = _parse(spelling)
    cls = find(room, name)
    if digest and digest != _code(cls):
        raise UserError(
            f"{name}: its code is not the one of this run ({_code(cls)}, the run's was {digest}); "
            "`evalkit score --allow-code RUN` scores it with today's"
        )
    annotated = typing.get_type_hints(cls)
    known = {f.name: annotated[f.name] for f in dataclasses.fields(cls) if f.init}
    for key, value in parameters.items():
        if key not in known:
            raise UserError(f"{name}: no parameter '{key}'{nearest(key, known)}")
        if not hints.fits(value, known[key]):
            raise UserError(f"{name}: {key}={value!r}: must be {hints.shown(known[key], quoted=True)}")
    try:
        return cls(**parameters)
    except TypeError:
        raise UserError(f"{name}: parameters missing; it takes {inspect.signature(cls)}") from None
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None


def spell(thing: Any) -> str:
    """The full spelling of an object, every parameter said, defaults too; `make` reads it back.

    A parameter that was `ADDED` after runs were scored is said where it is not at its default, so that older
    signatures still mean what they meant. Own code is followed by `#` and the beginning of its file's digest.
    """
    name = getattr(type(thing), _SPELLED, "") or type(thing).__module__.split(".")[2]
    values = ((f, getattr(thing, f.name)) for f in dataclasses.fields(thing) if f.init)
    said = [f"{f.name}={v!r}" for f, v in values if not f.metadata.get("added") or v != f.default]
    shown = ", ".join(said)
    code = _code(type(thing))
    return (f"{name}({shown})" if shown else name) + (f"#{code}" if code else "")


def declares(thing: Any, name: str) -> bool:
    """Whether a class attribute was stated for this very class; own code does not inherit what it says."""
    cls = type(thing)
    return bool(getattr(thing, name, ())) and (not getattr(cls, _SPELLED, "") or name in vars(cls))


def identified(room: str, spelling: str) -> str:
    """A spelling as it stands, with the digest of its code where that is the user's own."""
    name, _, digest = _parse(spelling)
    if digest or name in names(room):
        return spelling
    return f"{spelling}#{_code(find(room, name))}"


def _code(cls: type[Any]) -> str:
    """The beginning of the digest of own code; '' for what ships with evalkit."""
    return own_code.digest(cls)[:12] if getattr(cls, _SPELLED, "") else ""
