"""Values and positions found by name, in a fraction of a dictionary's memory. Knows no sample and no file."""

from __future__ import annotations

import functools
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from evalkit.data.sequences import Texts, Values

T = TypeVar("T")


class Index:
    """Positions by name: sorted hashes, of which a million need 12 MB; a dictionary needs 200."""

    def __init__(self, names: Sequence[str]) -> None:
        hashes = np.fromiter(map(hash, names), np.int64, len(names))
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        self._hashes = array("q", hashes.tobytes())
        self._order = array("I", order.astype(np.uint32).tobytes())
        self._names = names
        self._last: tuple[str | None, int] = (None, -1)  # what was found last, and where
        self._guessed = len(names) if (hashes[1:] != hashes[:-1]).all() else 0  # none where a name may repeat

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def get(self, name: str) -> int | None:
        """The position of a name, the first where there are several; None where it has none. Names are mostly
        asked for in their order: the one found last and the one after it are found without a search."""
        last, place = self._last
        if name == last:
            return place
        place += 1
        if not (place < self._guessed and self._names[place] == name):
            found = self._search(name)
            if found is None:
                return None
            place = found
        self._last = name, place
        return place

    def _search(self, name: str) -> int | None:
        wanted = hash(name)
        at = bisect_left(self._hashes, wanted)
        while at < len(self._hashes) and self._hashes[at] == wanted:
            place = self._order[at]
            if self._names[place] == name:
                return place
            at += 1
        return None

    @functools.cached_property
    def repeated(self) -> str:
        """The first name that is there for the second time, or ''."""
        hashes = np.frombuffer(self._hashes, np.int64)
        if not len(hashes):
            return ""
        again = hashes[1:][hashes[1:] == hashes[:-1]]
        seen, suspects = set[str](), set(again.tolist())
        for name in self._names if suspects else ():
            if hash(name) in suspects:
                if name in seen:
                    return name
                seen.add(name)
        return ""


class Named(Mapping[str, T], Generic[T]):
    """Values by name: the names are packed, and `__getitem__` finds its value by their place."""

    def __init__(self) -> None:
        self._names = Texts()
        self._index: Index | None = None

    def _add_name(self, name: str) -> None:
        self._names.append(name)
        self._index = None

    @property
    def repeated(self) -> str:
        """The first name that was added twice, or ''."""
        return self._by_name().repeated

    def _place(self, name: str) -> int:
        """Raises KeyError."""
        place = self._by_name().get(name)
        if place is None:
            raise KeyError(name)
        return place

    def __contains__(self, name: object) -> bool:
        return name in self._by_name()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _by_name(self) -> Index:
        if self._index is None:
            self._index = Index(self._names)
        return self._index


class Mapped(Named[T]):
    """Values by name, as plain data of which `make` makes them when they are asked for."""

    def __init__(self, make: Callable[[str, Any], T]) -> None:
        super().__init__()
        self._make, self._values = make, Values()

    def add(self, name: str, plain: Any) -> None:
        """Adds a value under a name that is there once."""
        self._add_name(name)
        self._values.append(plain)

    def plain(self, name: str) -> Any:
        """The plain data of a name. Raises KeyError."""
        return self._values[self._place(name)]

    def __getitem__(self, name: str) -> T:
        return self._make(name, self.plain(name))
