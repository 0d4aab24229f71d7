"""Levenshtein distance and longest common subsequence of strings or tokens; knows no metric."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


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
