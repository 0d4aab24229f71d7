"""Sequences whose values are made when they are asked for, and texts and plain data one after the other in
bytes. Knows what a request is; no sample, no file and no format."""

from __future__ import annotations

import abc
import pickle
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

from evalkit.types import Request

T = TypeVar("T")


class Made(Sequence[T], Generic[T]):
    """Values that `get` makes by their position from 0."""

    __slots__ = ()

    @abc.abstractmethod
    def get(self, i: int) -> T: ...

    def __iter__(self) -> Iterator[T]:
        return map(self.get, range(len(self)))

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        at = range(len(self))[index]
        return self.get(at) if isinstance(at, int) else list(map(self.get, at))


class Column(Sequence[T], Generic[T]):
    """One value of each sample, which `get` makes of its place (a number or a name) when it is asked for."""

    __slots__ = ("_get", "_places")

    def __init__(self, get: Callable[[Any], T], places: Sequence[Any]) -> None:
        self._get, self._places = get, places

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[T]:
        return map(self._get, self._places)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return list(map(self._get, self._places[index]))
        return self._get(self._places[index])


class Requests(Column[Request]):
    """What a model is asked, each request made when it is asked for; the `ids` are there without."""

    __slots__ = ("ids",)

    def __init__(self, get: Callable[[int], Request], ids: Sequence[str]) -> None:
        super().__init__(get, range(len(ids)))
        self.ids = ids


class Texts(Made[str]):
    """Texts one after the other, with 9 bytes more for each."""

    __slots__ = ("_data", "_ends")

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._data, self._ends = bytearray(), array("Q", [0])
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        self._data += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._data))

    def get(self, i: int) -> str:
        """The text at a position from 0."""
        return self._data[self._ends[i] : self._ends[i + 1]].decode("utf-8", "surrogatepass")

    def __len__(self) -> int:
        return len(self._ends) - 1


class Values(Made[Any]):
    """Plain data, one piece after the other, made again when it is asked for."""

    __slots__ = ("_at", "_data")

    def __init__(self) -> None:
        self._at, self._data = array("Q"), bytearray()

    def append(self, value: Any) -> None:
        self._at.append(len(self._data))
        self._data += pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def __len__(self) -> int:
        return len(self._at)

    def get(self, i: int) -> Any:
        """The piece at a position from 0."""
        with memoryview(self._data) as whole, whole[self._at[i] :] as data:
            return pickle.loads(data)  # what `append` wrote, in this process
