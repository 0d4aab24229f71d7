"""Areas of polygons and of what two of them share; knows no metric. Points are (x, y)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]
Polygon = list[Point]


@dataclass(frozen=True, slots=True)
class Word:
    """A piece of text in an image, its outline in pixels."""

    vertices: tuple[Point, ...]
    text: str = ""


def signed_area(polygon: Sequence[Point]) -> float:
    """Positive when the points turn from x towards y."""
    turns = zip(polygon, [*polygon[1:], *polygon[:1]], strict=True)
    return 0.5 * sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in turns)


def cleaned(vertices: Sequence[Sequence[float]]) -> Polygon:
    """The outline as a simple polygon that turns positively.

    One that crosses itself (corners given in a wrong order, mostly) is replaced by its convex hull.
    """
    points = [(float(x), float(y)) for x, y in vertices]
    if len(points) > 3 and _crosses_itself(points):
        points = _hull(points)
    return points if signed_area(points) >= 0 else points[::-1]


def shared_area(first: Polygon, second: Polygon) -> float:
    """The area in both of two cleaned polygons, convex or not."""
    if _apart(first, second):
        return 0.0
    if _convex(first) and _convex(second):
        return abs(signed_area(_clip(first, second)))
    # A polygon is the sum of the signed triangles from one corner to its edges; so is what is shared.
    total = 0.0
    for one in _fan(first):
        for other in _fan(second):
            signs = signed_area(one) * signed_area(other)
            if signs:
                common = abs(signed_area(_clip(_positive(one), _positive(other))))
                total += common if signs > 0 else -common
    return max(total, 0.0)


def _apart(first: Polygon, second: Polygon) -> bool:
    """Whether the upright boxes around them share no area."""
    for axis in (0, 1):
        one, other = [p[axis] for p in first], [p[axis] for p in second]
        if min(max(one), max(other)) <= max(min(one), min(other)):
            return True
    return False


def _cross(o: Point, a: Point, b: Point) -> float:
    return (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0])


def _convex(polygon: Polygon) -> bool:
    n = len(polygon)
    return all(_cross(polygon[i - 2], polygon[i - 1], polygon[i]) >= 0 for i in range(n))


def _fan(polygon: Polygon) -> list[Polygon]:
    return [[polygon[0], polygon[i], polygon[i + 1]] for i in range(1, len(polygon) - 1)]


def _positive(triangle: Polygon) -> Polygon:
    return triangle if signed_area(triangle) >= 0 else triangle[::-1]


def _clip(subject: Polygon, window: Polygon) -> Polygon:
    """The convex `subject` cut by each edge of the convex, positive `window` (Sutherland-Hodgman)."""
    for start, end in zip(window, [*window[1:], *window[:1]], strict=True):
        sides = [_cross(start, end, point) for point in subject]
        kept: Polygon = []
        for i, point in enumerate(subject):
            before, side, last = sides[i - 1], sides[i], subject[i - 1]
            if before * side < 0:
                t = before / (before - side)
                kept.append((last[0] + t * (point[0] - last[0]), last[1] + t * (point[1] - last[1])))
            if side >= 0:
                kept.append(point)
        subject = kept
        if not subject:
            break
    return subject


def _crosses_itself(points: Polygon) -> bool:
    n = len(points)
    edges = [(points[i], points[(i + 1) % n]) for i in range(n)]
    for i in range(n):
        for j in range(i + 2, n - (i == 0)):
            (a, b), (c, d) = edges[i], edges[j]
            apart = _cross(a, b, c) * _cross(a, b, d) < 0 and _cross(c, d, a) * _cross(c, d, b) < 0
            if apart:
                return True
    return False


def _hull(points: Polygon) -> Polygon:
    """The convex hull, turning positively (Andrew's monotone chain)."""
    ordered = sorted(set(points))
    if len(ordered) < 3:
        return ordered

    def chain(some: Sequence[Point]) -> Polygon:
        kept: Polygon = []
        for point in some:
            while len(kept) > 1 and _cross(kept[-2], kept[-1], point) <= 0:
                kept.pop()
            kept.append(point)
        return kept[:-1]

    return chain(ordered) + chain(ordered[::-1])
