"""Areas of polygons and of their intersections, by shapely; knows no image and no unit.

HierText's evaluator uses shapely too. A polygon that crosses itself is made valid as there: its area
follows the even-odd rule, except where edges lie on each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Points = Sequence[Sequence[float]]
"""(x, y) corners in order, clockwise or not; the last is joined to the first."""

Shapes = npt.NDArray[Any]
"""Shapely's geometries, (n,)."""

Floats = npt.NDArray[np.float64]


def shapes(polygons: Sequence[Points]) -> Shapes:
    """The polygons as shapely geometries; one of fewer than three corners is empty."""
    import shapely  # not at the top, here and below: `evalkit list` imports the metrics

    result = np.full(len(polygons), shapely.Polygon(), dtype=object)
    whole = [i for i, points in enumerate(polygons) if len(points) > 2]
    if whole:
        corners = [np.asarray(polygons[i], dtype=np.float64) for i in whole]
        owner = np.repeat(np.arange(len(whole)), [len(each) for each in corners])
        result[whole] = shapely.polygons(shapely.linearrings(np.concatenate(corners), indices=owner))
    broken = ~shapely.is_valid(result)
    if broken.any():
        result[broken] = shapely.make_valid(result[broken])
    return result


def areas(polygons: Shapes) -> Floats:
    """The area of each, (n,)."""
    import shapely

    result: Floats = shapely.area(polygons)
    return result


def bounds(polygons: Shapes) -> Floats:
    """(x0, y0, x1, y1) of the upright box around each, (n, 4)."""
    import shapely

    result: Floats = shapely.bounds(polygons)
    return result


def shared(first: Shapes, second: Shapes) -> Floats:
    """The area that `first[i]` and `second[i]` share, (n,)."""
    import shapely

    return areas(shapely.intersection(first, second))
