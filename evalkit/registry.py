"""`anls(threshold=0.5)` to an object and back: the directory is the registry, literals only."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import typing
from pathlib import Path
from typing import Any

from evalkit.errors import UserError, nearest
from evalkit.types import Format, Metric, Model, Parser

ROOMS: dict[str, type] = {
    "formats": Format,
    "parsers": Parser,
    "metrics": Metric,
    "models": Model,
}


def names(room: str) -> list[str]:
    """What the room holds, from its file names alone (nothing is imported)."""
    folder = Path(__file__).parent / room
    return sorted(m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith("_"))


def parse(spelling: str) -> tuple[str, dict[str, Any]]:
    """`name` or `name(key=literal, ...)` to the name and its parameters; nothing is evaluated."""
    try:
        node = ast.parse(spelling.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, {}
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)) or node.args:
            raise ValueError
        parameters = {}
        for keyword in node.keywords:
            if keyword.arg is None or keyword.arg in parameters:
                raise ValueError
            parameters[keyword.arg] = ast.literal_eval(keyword.value)
        return node.func.id, parameters
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise UserError(
            f"'{spelling}' cannot be read; write name or name(key=value, ...), e.g. anls(threshold=0.5)"
        ) from None


def find(room: str, name: str) -> type[Any]:
    """The one class that `evalkit/<room>/<name>.py` defines."""
    if name not in names(room):
        raise UserError(f"no '{name}'{nearest(name, names(room))}")
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


def make(room: str, spelling: str) -> Any:
    """The object that a spelling names: `make("metrics", "anls(threshold=0.5)")`."""
    name, parameters = parse(spelling)
    cls = find(room, name)
    hints = typing.get_type_hints(cls)
    known = {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}
    for key, value in parameters.items():
        if key not in known:
            raise UserError(f"{name}: no parameter '{key}'{nearest(key, known)}")
        if not _fits(value, known[key]):
            raise UserError(f"{name}: {key}={value!r}: must be {_shown(known[key])}")
    try:
        return cls(**parameters)
    except TypeError:
        raise UserError(f"{name}: parameters missing; it takes {inspect.signature(cls)}") from None
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None


def spell(thing: Any) -> str:
    """The full spelling of an object, every parameter said, defaults too; `make` reads it back."""
    name = type(thing).__module__.split(".")[2]
    shown = ", ".join(f"{f.name}={getattr(thing, f.name)!r}" for f in dataclasses.fields(thing) if f.init)
    return f"{name}({shown})" if shown else name


def _fits(value: Any, hint: Any) -> bool:
    """Whether a literal is of the annotated type (int passes for float, never bool for int)."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin is typing.Literal:
        return value in inner
    if origin is tuple:
        return isinstance(value, (tuple, list)) and all(_fits(v, inner[0]) for v in value)
    if inner and origin is not dict:  # a union
        return any(_fits(value, h) for h in inner)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def _shown(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(repr(v) for v in typing.get_args(hint))
    words = {bool: "True or False", int: "a whole number", float: "a number", str: "text in quotes"}
    return words.get(hint) or (hint.__name__ if isinstance(hint, type) else str(hint))
