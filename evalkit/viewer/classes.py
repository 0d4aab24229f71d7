"""Which class was asked for and which was answered, pair by pair: what a confusion matrix is made of."""

from __future__ import annotations

import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

MOST = 2000  # different names; with more, answers are no classes
LONG = 60  # characters of a class's name
SHOWN = 40  # classes of a matrix, the commonest
OTHER = "(others)"


@dataclass
class Names:
    """The classes' names of a task, as numbers. `given_up` once there are too many."""

    codes: dict[str, int] = field(default_factory=dict)
    given_up: bool = False

    def code(self, name: str) -> int:
        if len(name) > LONG:
            name = OTHER
        found = self.codes.setdefault(name, len(self.codes))
        self.given_up = self.given_up or len(self.codes) > MOST
        return found


@dataclass
class Pairs:
    """The pairs of one run, sample by sample."""

    starts: array[int] = field(default_factory=lambda: array("I", [0]))
    true: array[int] = field(default_factory=lambda: array("I"))
    said: array[int] = field(default_factory=lambda: array("I"))

    def add(self, names: Names, pairs: Sequence[tuple[str, str]]) -> None:
        """Adds the pairs of the next sample."""
        if not names.given_up:
            for a, b in pairs:
                self.true.append(names.code(a))
                self.said.append(names.code(b))
        self.starts.append(len(self.true))


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix, `cells` (rows, columns); `of` are the places of each sample's pairs in it."""

    names: tuple[str, ...]
    cells: npt.NDArray[np.int64]
    flat: npt.NDArray[np.int64]  # of each pair: row * columns + column
    starts: npt.NDArray[np.int64]

    @property
    def labels(self) -> list[str]:
        return [f"{a} → {b}" for a in self.names for b in self.names]

    def lists(self) -> list[list[int]]:
        """The cells of each sample's pairs, each once."""
        flat, starts = self.flat.tolist(), self.starts.tolist()
        return [sorted(set(flat[a:b])) for a, b in itertools.pairwise(starts)]

    @cached_property
    def samples(self) -> npt.NDArray[np.int64]:
        """How many samples have each cell, (rows, columns)."""
        there = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        each = np.unique(there * self.cells.size + self.flat) % self.cells.size
        return np.bincount(each, minlength=self.cells.size).reshape(self.cells.shape)


@dataclass(frozen=True)
class Listed:
    """The names that samples have, by number; `of` are each sample's."""

    names: tuple[str, ...]
    of: list[list[int]]

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many samples have each name."""
        found = Counter(code for some in self.of for code in some)
        return {self.names[code]: n for code, n in found.items()}


def listed(names: Names, runs: Sequence[tuple[array[int], array[int]]], kept: Callable[[str], str]) -> Listed:
    """Of each sample the names that any of the runs has; a run's are codes and where a sample's begin. `kept`
    is what a name is shown as, '' where it is none."""
    shown = [kept(name) for name in names.codes]
    place = {name: i for i, name in enumerate(sorted({name for name in shown if name}))}
    to = [place.get(name, -1) for name in shown]
    found: list[set[int]] = [set() for _ in range(len(runs[0][1]) - 1)]
    for codes, starts in runs:
        for at, (a, b) in enumerate(itertools.pairwise(starts)):
            found[at].update(to[code] for code in codes[a:b])
    return Listed(tuple(place), [sorted(some - {-1}) for some in found])


def shown(names: Names, runs: Sequence[Pairs]) -> tuple[str, ...]:
    """The names of a task's matrices: the commonest, classes before what is none, the rest as `OTHER`."""
    counts = Counter[int]()
    for pairs in runs:
        counts.update(pairs.true)
        counts.update({code: n / 1000 for code, n in Counter(pairs.said).items()})  # targets come first
    every = list(names.codes)
    common = [every[code] for code, _ in counts.most_common(SHOWN) if every[code] != OTHER]
    rest = [OTHER] if len(counts) > len(common) or OTHER in names.codes else []
    return tuple(sorted(common, key=lambda name: (name.startswith("("), name)) + rest)


def matrix(names: Names, pairs: Pairs, kept: Sequence[str]) -> Matrix:
    """The matrix of one run over the names that are kept."""
    place = {name: i for i, name in enumerate(kept)}
    other = place.get(OTHER, 0)
    to = np.array([place.get(name, other) for name in names.codes] or [0], dtype=np.int64)
    true, said = (np.asarray(side, dtype=np.int64) for side in (pairs.true, pairs.said))
    flat = to[true] * len(kept) + to[said] if len(true) else np.zeros(0, dtype=np.int64)
    cells = np.bincount(flat, minlength=len(kept) ** 2).reshape(len(kept), len(kept))
    return Matrix(tuple(kept), cells, flat, np.asarray(pairs.starts, dtype=np.int64))
