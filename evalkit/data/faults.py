"""All kinds of mistakes of a file in one go: of each kind the first, and how many there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from evalkit.errors import DataError
from evalkit.types import Remarks, Sample

T = TypeVar("T")
_OWN = re.compile(r"\[[^\]]*\]|'[^']*'|-?\d[\w.+-]*")  # what differs between two mistakes of one kind


class Faulty(DataError):
    """A file with mistakes: `said` has a sentence for each kind, `samples` what is known of its images all
    the same."""

    def __init__(self, said: Sequence[str], samples: Sequence[Sample] = ()) -> None:
        self.said, self.samples = tuple(said), tuple(samples)
        more = len(said) - 1
        others = (
            f"; {more} other kind{'s' if more > 1 else ''} of mistake too, `evalkit data --check` has all"
        )
        super().__init__(said[0] + (others if more else ""))

    def __reduce__(self) -> Any:
        return type(self), (self.said, self.samples)


class Faults:
    """Mistakes as they are found. Two are of one kind where their sentences differ in numbers and names
    alone."""

    def __init__(self) -> None:
        self._found = Remarks()

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
            self._found.add(_OWN.sub("", str(error)), str(error))
            return None

    def done(self, samples: Callable[[], Sequence[Sample]] = tuple) -> None:
        """Raises Faulty where there are mistakes."""
        if said := self._found.said():
            raise Faulty(said, samples())
