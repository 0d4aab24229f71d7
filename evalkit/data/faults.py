"""All kinds of mistakes of a dataset in one go: of each kind the first, how many there are, and where the
next ones are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from evalkit.errors import DataError
from evalkit.types import Sample

S = TypeVar("S")
T = TypeVar("T")
_OWN = re.compile(r"\[[^\]]*\]|'[^']*'|-?\d[\w.+-]*")  # what differs between two mistakes of one kind
KINDS = 12  # that are told
NAMED = 3  # mistakes of a kind whose place is named


class Faulty(DataError):
    """A dataset with mistakes: `said` has a sentence for each kind, `samples` what is known of its images all
    the same."""

    def __init__(self, said: Sequence[str], samples: Sequence[Sample] = ()) -> None:
        self.said, self.samples = tuple(said), samples
        super().__init__(". Also: ".join(said))

    def __reduce__(self) -> Any:
        return type(self), (self.said, self.samples)

    @property
    def sentences(self) -> tuple[str, ...]:
        return self.said


class Faults:
    """Mistakes as they are found. Two are of one kind where their sentences differ in numbers and names
    alone; with `each_file` also where they are of files that each belong to one sample. `most`: the next one
    after so many is raised."""

    def __init__(self, each_file: bool = False, most: int | None = None) -> None:
        self._each_file, self._most = each_file, most
        self._found: dict[str, tuple[int, list[str]]] = {}  # kind -> how many, and the first sentences
        self._more = 0  # of other kinds than these

    def tried(self, *checks: Callable[[], object]) -> bool:
        """Whether none of the checks raises; each is made."""
        right = True
        for check in checks:
            right = self.made(lambda: (check(),)) is not None and right  # noqa: B023 – called at once
        return right

    def made(self, make: Callable[[], T]) -> T | None:
        """What is made; None where that raises."""
        try:
            return make()
        except DataError as error:
            self.add(str(error))
            return None

    def each(self, entries: Iterable[T], make: Callable[[T], Iterable[S]]) -> Iterator[S]:
        """All that is made of the entries that are right."""
        for entry in entries:
            yield from self.made(partial(_every, make, entry)) or ()

    def of_all(self, entries: Iterable[T], make: Callable[[T], Iterable[S]]) -> Iterator[S]:
        """The same of the last entries that there are. Raises Faulty in the end where some are wrong."""
        yield from self.each(entries, make)
        self.done()

    def add(self, said: str, kind: str = "") -> None:
        """Notes a mistake, `file: place: what is wrong; what would be right`; of which kind it is, where its
        words do not tell."""
        if self._most is not None:
            self._most -= 1
            if self._most < 0:
                raise DataError(said)
        kind = kind or _OWN.sub("", said.partition(": ")[2] if self._each_file else said)
        if kind not in self._found and len(self._found) >= KINDS:
            self._more += 1
            return
        n, first = self._found.get(kind, (0, list[str]()))
        self._found[kind] = n + 1, [*first, said] if n < NAMED else first

    def take(self, others: Faults) -> None:
        """Takes over what others have found."""
        self._more += others._more
        for kind, (n, first) in others._found.items():
            self._found[kind] = n, first

    def said(self) -> tuple[str, ...]:
        """A sentence for each kind."""
        told = [_sentence(n, first) for n, first in self._found.values()]
        return (*told, f"{self._more:,} mistakes of other kinds") if self._more else tuple(told)

    def done(self, samples: Callable[[], Sequence[Sample]] = tuple) -> None:
        """Raises Faulty where there are mistakes."""
        if said := self.said():
            raise Faulty(said, samples())


def _every(make: Callable[[T], Iterable[S]], entry: T) -> tuple[S, ...]:
    return tuple(make(entry))


def _sentence(n: int, first: Sequence[str]) -> str:
    """`d.jsonl: line 3: is no object (the first of 9 such; also line 4, line 7, ...)`."""
    if n == 1:
        return first[0]
    also = [where for other in first[1:] if (where := _place(first[0], other))]
    named = f"; also {', '.join(also)}{', ...' if n > len(first) else ''}" if also else ""
    return f"{first[0]} (the first of {n:,} such{named})"


def _place(first: str, other: str) -> str:
    """Where another mistake of the kind is: the first part of its sentence that differs."""
    pairs = zip(first.split(": "), other.split(": "), strict=False)
    where = next((theirs.partition(";")[0][:80] for mine, theirs in pairs if mine != theirs), "")
    return where.partition(".")[0] if where.startswith(("line ", "row ")) else where
