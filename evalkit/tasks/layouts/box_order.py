"""Whether four numbers of a box are x, y, width, height or two corners: told by what they would mean in their
images. Where both could be, none is taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalkit.errors import DataError
from evalkit.types import Size

ORDERS = {"xywh": "x, y, width, height, as COCO's", "xyxy": "corners, as Pascal VOC's"}
EDGE = 1.0  # pixels over the edge that are rounding
CLEAR = 20  # times as many boxes must be impossible in the one order as in the other


@dataclass(frozen=True)
class Seen:
    """A box as it stands, where that is, its image's size and its area, where these are stated."""

    place: str
    box: Sequence[float]
    size: Size | None
    area: float | None


@dataclass
class _Order:
    """How many boxes cannot be of an order, the first of them, and how many areas are those of it."""

    wrong: int = 0
    first: str = ""
    areas: int = field(default=0)


def orders(boxes: Iterable[Seen], where: str) -> list[tuple[str, str]]:
    """The orders that are possible, each with what told it. Raises DataError for boxes of neither, and for
    shares of the image in place of pixels."""
    found, largest, n = {order: _Order() for order in ORDERS}, 0.0, 0
    for each in boxes:
        n, largest = n + 1, max(largest, *each.box)
        both = {order: _area(each.box, order) for order in ORDERS}
        for order, known in found.items():
            if problem := _impossible(each, order):
                known.wrong += 1
                known.first = known.first or f"{each.place}: {list(each.box)} {problem}"
            elif each.area and both["xywh"] != both["xyxy"]:
                known.areas += abs(each.area - both[order]) <= 0.01 * each.area
    if n and largest <= 1:
        raise DataError(
            f"{where}: boxes are shares of the image (the largest of their numbers is {largest:g}); "
            "write pixels: multiplied by width and height"
        )
    return _told(found, n, where)


def _told(found: dict[str, _Order], n: int, where: str) -> list[tuple[str, str]]:
    one, other = sorted(found, key=lambda order: found[order].wrong)
    if found[one].wrong * CLEAR < found[other].wrong:
        also = f" and {found[other].wrong - 1:,} more" if found[other].wrong > 1 else ""
        return [(one, f"{found[other].first}{also}")]
    if found[one].wrong:
        raise DataError(
            f"{where}: boxes are neither {' nor '.join(ORDERS.values())}: {found[one].first}; "
            f"{found[other].first}"
        )
    by_area = [order for order, known in found.items() if known.areas * 2 > n]
    if len(by_area) == 1:
        return [(by_area[0], f"{found[by_area[0]].areas:,} of {n:,} stated areas are those of such boxes")]
    return [(order, "") for order in ORDERS]


def _impossible(seen: Seen, order: str) -> str:
    """Why a box cannot be of an order, or ''."""
    a, b, c, d = seen.box
    if order == "xyxy" and (c < a or d < b):
        return "would be corners from right to left" if c < a else "would be corners from bottom to top"
    right, bottom = (a + c, b + d) if order == "xywh" else (c, d)
    if seen.size and (right > seen.size[1] + EDGE or bottom > seen.size[0] + EDGE):
        what = "with that width and height" if order == "xywh" else "with these corners"
        return f"{what} would leave the image, {seen.size[1]} × {seen.size[0]}"
    return ""


def _area(box: Sequence[float], order: str) -> float:
    a, b, c, d = box
    return c * d if order == "xywh" else (c - a) * (d - b)


def as_box(value: Any) -> list[float] | None:
    """Four numbers; None for anything else."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    return list(value) if all(type(side) in (int, float) for side in value) else None
