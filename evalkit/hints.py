"""Type annotations as checks: does a value fit, what does a text mean, how is the type said to a person.

Knows the annotations that options and plug-ins' parameters use, nothing of either.
"""

from __future__ import annotations

import collections.abc
import types
import typing
from pathlib import Path
from typing import Any

_WORDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number such as 100 or 0.1",
    str: "text",
    Path: "a path",
    dict: "a mapping",
    collections.abc.Mapping: "a mapping",
    collections.abc.Callable: "a function",
}

_annotated = dict[type, collections.abc.Mapping[str, Any]]()


def members(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the hint alone."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def choices(hint: Any) -> tuple[str, ...]:
    """The words to choose from, where the hint knows nothing else but None; else ()."""
    some = [member for member in members(hint) if member is not type(None)]
    if not all(typing.get_origin(member) is typing.Literal for member in some):
        return ()
    return tuple(str(word) for member in some for word in typing.get_args(member))


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the annotated type. A whole number is a number; True is no whole number."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if len(members(hint)) > 1:
        return any(fits(value, member) for member in members(hint))
    if hint is None or hint is type(None):
        return value is None
    if origin is typing.Literal:
        return any(value == known and type(value) is type(known) for known in inner)
    if origin in (tuple, list, collections.abc.Sequence):
        return isinstance(value, (tuple, list)) and all(fits(v, inner[0]) for v in value)
    if origin is collections.abc.Callable:
        return callable(value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def annotated(cls: type) -> collections.abc.Mapping[str, Any]:
    """The annotation of every field of a class; kept, since reading them takes long."""
    if cls not in _annotated:
        _annotated[cls] = typing.get_type_hints(cls)
    return _annotated[cls]


def misfit(cls: type, values: collections.abc.Mapping[str, Any]) -> str:
    """`key: is ...; it must be ...` for the first value that is none of its field of a dataclass, or ''."""
    for name, hint in annotated(cls).items():
        if name in values and not fits(values[name], hint):
            kind = type(values[name])
            return f"{name}: is {_WORDS.get(kind, kind.__name__)}, must be {shown(hint)}"
    return ""


def read(text: str, hint: Any) -> Any:
    """The value that a word of a command line means. Raises ValueError, its text what would be right."""
    for member in members(hint):
        try:
            return _read(text, member)
        except ValueError:
            continue
    raise ValueError(f"must be {shown(hint)}")


def _read(text: str, hint: Any) -> Any:
    if typing.get_origin(hint) is typing.Literal:
        if text in typing.get_args(hint):
            return text
    elif hint is bool:
        if text.lower() in ("true", "false", "1", "0"):
            return text.lower() in ("true", "1")
    elif hint in (int, float):
        return hint(text)
    elif hint in (str, Path, Any):
        return text if hint is Any else hint(text)
    raise ValueError


def shown(hint: Any, quoted: bool = False) -> str:
    """`a whole number or 'auto'`; of several ways to give one thing only the first is said."""
    named: dict[str, None] = {}
    for member in members(hint):
        if member is type(None):
            continue
        if typing.get_origin(member) is typing.Literal:
            named |= dict.fromkeys(repr(v) if quoted else str(v) for v in typing.get_args(member))
        elif typing.get_origin(member) is not collections.abc.Sequence:
            kind = typing.get_origin(member) or member
            name = "text in quotes" if quoted and kind is str else _WORDS.get(kind)
            named[name or str(getattr(member, "__name__", member))] = None
    return " or ".join(named)
