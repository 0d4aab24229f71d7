"""Areas of polygons and of what two polygons share, any shape; knows no image and no unit.

A polygon that crosses itself counts by the even-odd rule.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

Points = Sequence[Sequence[float]]
"""(x, y) corners in order, either way round; the last is joined to the first."""

_Edge = tuple[float, float, float, float]  # x and y of the upper, x and y of the lower end


def bounds(points: Points) -> tuple[float, float, float, float]:
    """(y0, x0, y1, x1) of the upright box around the corners."""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    return min(ys), min(xs), max(ys), max(xs)


def area(points: Points) -> float:
    """The polygon's area."""
    edges = _edges(points)
    return sum(height * _length(_inside(edges, y)) for y, height in _slabs(edges))


def shared(first: Points, second: Points) -> float:
    """The area of what both polygons cover.

    The plane is cut into level slabs at every corner and every crossing: within a slab no edges cross,
    so widths change linearly and the width at half height, times the height, is exact. The cost is
    the square of the number of corners for the cuts, times a logarithm for the slabs.
    """
    ours, theirs = _edges(first), _edges(second)
    total = 0.0
    for y, height in _slabs(ours + theirs):
        here = _inside(ours, y)
        if here:
            total += height * _overlap(here, _inside(theirs, y))
    return total


def _edges(points: Points) -> list[_Edge]:
    """Edges from top to bottom; level ones bound nothing that the others do not."""
    result = []
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        if y0 < y1:
            result.append((float(x0), float(y0), float(x1), float(y1)))
        elif y1 < y0:
            result.append((float(x1), float(y1), float(x0), float(y0)))
    return result


def _slabs(edges: list[_Edge]) -> list[tuple[float, float]]:
    """(y at half height, height) between neighbouring corners and crossings."""
    cuts = {y for edge in edges for y in (edge[1], edge[3])}
    for i, edge in enumerate(edges):
        for other in edges[:i]:
            y = _crossing(edge, other)
            if y is not None:
                cuts.add(y)
    ordered = sorted(cuts)
    return [((top + bottom) / 2, bottom - top) for top, bottom in itertools.pairwise(ordered)]


def _crossing(first: _Edge, second: _Edge) -> float | None:
    """The y at which two edges cross, strictly between their ends."""
    top, bottom = max(first[1], second[1]), min(first[3], second[3])
    if bottom <= top:
        return None
    above = _x(first, top) - _x(second, top)
    below = _x(first, bottom) - _x(second, bottom)
    if above * below >= 0:
        return None
    return top + (bottom - top) * (above / (above - below))


def _x(edge: _Edge, y: float) -> float:
    x0, y0, x1, y1 = edge
    return x0 + (x1 - x0) * ((y - y0) / (y1 - y0))


def _inside(edges: list[_Edge], y: float) -> list[tuple[float, float]]:
    """The stretches of the level line at y inside the polygon, left to right."""
    xs = sorted(_x(edge, y) for edge in edges if edge[1] <= y <= edge[3])
    return list(zip(xs[::2], xs[1::2], strict=False))


def _length(stretches: list[tuple[float, float]]) -> float:
    return sum(right - left for left, right in stretches)


def _overlap(ours: list[tuple[float, float]], theirs: list[tuple[float, float]]) -> float:
    return sum(max(0.0, min(b, d) - max(a, c)) for a, b in ours for c, d in theirs)
