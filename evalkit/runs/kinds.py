"""What the values of a file must be: small checks that read a value or raise TypeError with what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Kind = Callable[[Any], Any]
"""Reads a value of JSON. Raises TypeError (the key, where there is one) if it is of another kind."""


def of(*types: type) -> Kind:
    """The value as it is, of one of these types; a bool is no number."""

    def check(value: Any) -> Any:
        if type(value) not in types:
            raise TypeError
        return value

    return check


def each(kind: Kind) -> Kind:
    """A list as a tuple of what `kind` reads."""

    def check(values: Any) -> tuple[Any, ...]:
        if type(values) is not list:
            raise TypeError
        return tuple(map(kind, values))

    return check


def every(*types: type) -> Kind:
    """A list of such values as a tuple: what `each(of(...))` gives, in less time."""
    allowed = set(types)

    def check(values: Any) -> tuple[Any, ...]:
        if type(values) is not list or not allowed.issuperset(map(type, values)):
            raise TypeError
        return tuple(values)

    return check


def mapping(kind: Kind) -> Kind:
    """An object whose values `kind` reads, whatever its keys."""

    def check(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise TypeError
        return {key: kind(v) for key, v in value.items()}

    return check


def record(needed: Mapping[str, Kind], more: Mapping[str, Kind] | None = None) -> Kind:
    """An object with the `needed` keys, and perhaps some of `more`; others are left as they are."""
    kinds = {**needed, **(more or {})}

    def check(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise TypeError
        found = dict(value)
        for key, kind in kinds.items():
            if key in needed or key in value:
                try:
                    found[key] = kind(value[key])
                except (KeyError, TypeError, ValueError) as error:
                    inner = "" if isinstance(error, KeyError) else str(error)
                    raise TypeError(f"{key}: {inner}" if inner else key) from None
        return found

    return check


def optional(kind: Kind) -> Kind:
    """None, or what `kind` reads."""
    return lambda value: None if value is None else kind(value)


anything: Kind = lambda value: value  # noqa: E731
text = of(str)
whole = of(int)
number = of(int, float)
flag = of(bool)
