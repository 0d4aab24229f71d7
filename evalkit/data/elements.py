"""The objects of a JSON list, packed: each is made when it is asked for. Knows no file."""

from __future__ import annotations

from typing import Any

from evalkit.data.sequences import Made, Values

_KINDS = 1024  # of different keys; the keys of further ones are kept with each


class Elements(Made[Any]):
    """Plain data as JSON has it. The keys of objects are kept once, where many have the same."""

    __slots__ = ("_keys", "_known", "_values")

    def __init__(self) -> None:
        self._values = Values()
        self._keys: list[tuple[str, ...]] = []
        self._known: dict[tuple[str, ...], int] = {}

    def append(self, value: Any) -> None:
        if type(value) is dict:
            keys = tuple(value)
            number = self._known.get(keys)
            if number is None and len(self._keys) < _KINDS:
                number = self._known[keys] = len(self._keys)
                self._keys.append(keys)
            if number is not None:
                value = number, *value.values()
        self._values.append(value)

    def __len__(self) -> int:
        return len(self._values)

    def get(self, i: int) -> Any:
        """The element at a position from 0."""
        found = self._values.get(i)
        if type(found) is tuple:  # JSON has none
            return dict(zip(self._keys[found[0]], found[1:], strict=True))
        return found
