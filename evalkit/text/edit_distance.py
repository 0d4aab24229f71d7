"""Levenshtein distance and longest common subsequence of strings or tokens; knows no metric."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

SHORT = 64  # symbols up to which many sequences are compared at once


def distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """The least number of insertions, deletions and substitutions that turn one into the other.

    Bit-parallel (Myers 1999 in the form of Hyyrö 2003): one column of the table is two integers of
    len(shorter) bits, so the cost is about len(longer) integer operations.
    """
    if first == second:
        return 0
    if len(first) < len(second):
        first, second = second, first
    if not second:
        return len(first)
    where: dict[Hashable, int] = {}
    for i, symbol in enumerate(second):
        where[symbol] = where.get(symbol, 0) | 1 << i
    size = len(second)
    ones, last = (1 << size) - 1, 1 << size - 1
    up, down, result = ones, 0, size  # vertical steps of +1 and -1 in the current column
    for symbol in first:
        equal = where.get(symbol, 0)
        vertical = equal | down
        horizontal = (((equal & up) + up) ^ up) | equal
        plus = down | ~(horizontal | up) & ones
        minus = up & horizontal
        if plus & last:
            result += 1
        elif minus & last:
            result -= 1
        plus = plus << 1 & ones | 1
        minus = minus << 1 & ones
        up = minus | ~(vertical | plus) & ones
        down = plus & vertical
    return result


def distances(
    first: Sequence[Sequence[Hashable]], second: Sequence[Sequence[Hashable]]
) -> npt.NDArray[np.int64]:
    """The distance of each of `first` to each of `second`, as (first, second); many short ones at once."""
    result = np.zeros((len(first), len(second)), dtype=np.int64)
    ours, theirs = _alike(first), _alike(second)
    for size, rows in ours.items():
        for other, columns in theirs.items():
            if min(size, other) > SHORT:
                for i in rows:
                    result[i, columns] = [distance(first[i], second[j]) for j in columns]
            elif size <= other:
                result[np.ix_(rows, columns)] = _table([first[i] for i in rows], [second[j] for j in columns])
            else:
                found = _table([second[j] for j in columns], [first[i] for i in rows])
                result[np.ix_(rows, columns)] = found.T
    return result


def _alike(sequences: Sequence[Sequence[Hashable]]) -> dict[int, list[int]]:
    """Places by length, rounded up to a power of two."""
    groups: dict[int, list[int]] = {}
    for place, sequence in enumerate(sequences):
        groups.setdefault(1 << max(len(sequence) - 1, 0).bit_length(), []).append(place)
    return groups


def _table(few: Sequence[Sequence[Hashable]], many: Sequence[Sequence[Hashable]]) -> npt.NDArray[np.int64]:
    """Wagner and Fischer's table, a line of it for all of `many` in one step."""
    codes: dict[Hashable, int] = {}
    lengths = np.array([len(sequence) for sequence in many])
    padded = np.full((len(many), int(lengths.max())), -1, dtype=np.int32)
    for line, sequence in zip(padded, many, strict=True):
        line[: len(sequence)] = [codes.setdefault(symbol, len(codes)) for symbol in sequence]
    steps = np.arange(padded.shape[1] + 1, dtype=np.int32)
    result = np.zeros((len(few), len(many)), dtype=np.int64)
    for i, sequence in enumerate(few):
        line = np.broadcast_to(steps, (len(many), len(steps)))
        for n, symbol in enumerate(sequence, 1):
            below = np.empty_like(line)
            below[:, 0] = n
            below[:, 1:] = np.minimum(line[:, :-1] + (padded != codes.get(symbol, -2)), line[:, 1:] + 1)
            line = np.minimum.accumulate(below - steps, axis=1) + steps
        result[i] = line[np.arange(len(many)), lengths]
    return result


def common_subsequence(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """The length of the longest common subsequence, bit-parallel (Hyyrö 2004)."""
    where: dict[Hashable, int] = {}
    for i, symbol in enumerate(second):
        where[symbol] = where.get(symbol, 0) | 1 << i
    ones = (1 << len(second)) - 1
    rest = ones  # a zero bit ends one more common symbol
    for symbol in first:
        hit = rest & where.get(symbol, 0)
        rest = (rest + hit | rest - hit) & ones
    return len(second) - rest.bit_count()
