"""Lists of alike records, such as the objects of an image, as one short tuple: a column for each key, numbers
as machine numbers, names as their number in a table. What comes out is what went in, to the last bit.

Knows how formats give objects; no samples and no files.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

_NAMES = 1 << 16  # at most so many names have a number
_MANY = 64  # numbers; of fewer, looking for a shorter form takes longer than it is worth
_BOX = struct.Struct("4d")
_OBJECT = ("category", "box", "area", "iscrowd")  # the keys of an object
_MASKED = (*_OBJECT, "segmentation")


class Columns:
    """Packs lists of objects and makes them again. Names are kept once for all lists."""

    __slots__ = ("_known", "names")

    def __init__(self) -> None:
        self.names: list[str] = []
        self._known: dict[str, int] = {}

    def pack(self, records: Sequence[Any]) -> tuple[Any, ...] | None:
        """Plain data from which `made` makes the list; None where its records are no objects, or of two
        kinds: names, boxes, areas (None: those of the boxes), crowds and segmentations (None: there is
        none)."""
        if not records or set(map(type, records)) != {dict}:
            return None
        keys = set(map(tuple, records))
        if keys != {_OBJECT} and keys != {_MASKED}:
            return None
        names, boxes, areas, crowds, *masks = zip(*[record.values() for record in records], strict=True)
        if set(map(type, boxes)) != {tuple} or set(map(len, boxes)) != {4}:
            return None
        flat = array("d")
        if set(map(type, chain(areas, chain.from_iterable(boxes)))) == {float}:
            flat.extend(chain.from_iterable(boxes))
        if not flat or set(map(type, crowds)) != {int} or not set(crowds) <= {0, 1}:
            return None
        numbers = self._numbers(names)
        if numbers is None:
            return None
        sizes = array("d", areas).tobytes()
        derived = sizes == array("d", [w * h for _, _, w, h in boxes]).tobytes()
        packed = numbers.tobytes(), flat.tobytes(), None if derived else sizes, any(crowds) and bytes(crowds)
        return (*packed, _polygons(masks[0])) if masks else packed

    def made(self, packed: tuple[Any, ...]) -> list[dict[str, Any]]:
        """The objects."""
        numbers, flat, sizes, crowds, *masks = packed
        names = self.names
        boxes = list(_BOX.iter_unpack(flat))
        areas = [w * h for _, _, w, h in boxes] if sizes is None else array("d", sizes)
        columns = array("H", numbers), boxes, areas, crowds or bytes(len(boxes))
        if not masks:
            return [
                {"category": names[n], "box": box, "area": area, "iscrowd": crowd}
                for n, box, area, crowd in zip(*columns, strict=True)
            ]
        return [
            {"category": names[n], "box": box, "area": area, "iscrowd": crowd, "segmentation": mask}
            for n, box, area, crowd, mask in zip(*columns, _made_polygons(masks[0]), strict=True)
        ]

    def _numbers(self, names: Sequence[Any]) -> array[int] | None:
        """The numbers of names; None where they are none, or too many."""
        known = self._known
        if set(map(type, names)) != {str}:
            return None
        for name in names:
            if name not in known:
                if len(known) == _NAMES:
                    return None
                known[name] = len(known)
                self.names.append(name)
        return array("H", [known[name] for name in names])


# --- polygons ----------------------------------------------------------------------------------------


def _polygons(masks: Sequence[Any]) -> Any:
    """Lists of polygons, each a list of floats, as bytes: how many there are of each and how long they are;
    and all numbers, as hundredths where that is what they are, as COCO's files have them. Anything else as it
    is."""
    if set(map(type, masks)) != {list}:
        return masks
    every = list(chain.from_iterable(masks))
    if set(map(type, every)) != {list}:
        return masks
    flat = list(chain.from_iterable(every))
    if len(flat) < _MANY or set(map(type, flat)) != {float}:
        return masks
    lengths = array("I", [len(masks), *map(len, masks), *map(len, every)])
    return lengths.tobytes(), *_hundredths(np.frombuffer(array("d", flat)))


def _hundredths(numbers: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[str, bytes]:
    """Numbers in two or four bytes each where hundredths are the very same, else in eight."""
    with np.errstate(over="ignore", invalid="ignore"):
        near = np.rint(numbers * 100)
        least, most = near.min(), near.max()
        kind = "H" if least >= 0 and most < 1 << 16 else "I" if least >= 0 and most < 1 << 32 else ""
        if kind:
            whole = near.astype(kind)
            if (whole / 100.0).tobytes() == numbers.tobytes():
                return kind, whole.tobytes()
    return "d", numbers.tobytes()


def _made_polygons(packed: Any) -> Sequence[Any]:
    head, *rest = packed
    if type(head) is not bytes:
        return packed  # type: ignore[no-any-return]
    kind, data = rest
    numbers = np.frombuffer(data, kind)
    flat: list[float] = (numbers if kind == "d" else numbers / 100.0).tolist()
    count, *lengths = array("I", head)
    polygons, at = [], 0
    for length in lengths[count:]:
        polygons.append(flat[at : at + length])
        at += length
    if len(polygons) == count and set(lengths[:count]) == {1}:
        return [[polygon] for polygon in polygons]
    rising = iter(polygons)
    return [[next(rising) for _ in range(n)] for n in lengths[:count]]
