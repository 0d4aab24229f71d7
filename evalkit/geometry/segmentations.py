"""What is wrong with a COCO segmentation: everything that native code must not see. Draws nothing.

pycocotools checks no number: a polygon's coordinate of 4e7 ends the process, one of 1e7 takes gigabytes,
and run lengths that are too long are read past their end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np

from evalkit.types import Size

FAR = 10  # a coordinate may be so many times the image's longer side away from its origin
LENGTH = 1_000_000  # pixels, of all edges of a polygon; pycocotools takes 100 bytes for each
PIXELS = 1 << 31  # of an image: run lengths are 32-bit numbers
_LETTERS = 7  # that one run length of 32 bits can have, five bits each

Problem = tuple[str, str]
"""The place inside the segmentation (`[0]`, `.counts`), and what is wrong there."""


def problem(segmentation: Any, size: Size) -> Problem | None:
    """What is wrong with polygons [[x, y, ...], ...] or run lengths {size, counts} of an image of `size`."""
    height, width = size
    if height * width >= PIXELS:
        return "", f"is of an image of {height} x {width}; a mask may have {PIXELS - 1:,} pixels"
    if isinstance(segmentation, Mapping):
        return _run_lengths(segmentation, size)
    if not _is_list(segmentation):
        return (
            "",
            f"is {str(segmentation)[:60]!r}; it must be a list of polygons or run lengths {{size, counts}}",
        )
    if not len(segmentation):
        return "", "is empty; it must hold at least one polygon"
    for index, polygon in enumerate(segmentation):
        if wrong := _polygon(polygon, FAR * max(size)):
            return f"[{index}]", wrong
    return None


def _polygon(polygon: Any, far: float) -> str:
    if not _is_list(polygon) or not all(_finite(part) for part in polygon):
        return "is not a polygon; it must be a flat list of finite numbers x, y, x, y, ..."
    if len(polygon) % 2:
        return f"holds {len(polygon)} numbers; a polygon must have pairs x, y"
    if len(polygon) < 6:
        return f"holds {len(polygon)} numbers; a polygon has at least three points"
    if outside := [part for part in polygon if abs(part) > far]:
        return f"holds {outside[0]:g}, far outside the image; coordinates are pixels, here up to ±{far:g}"
    xs, ys = polygon[::2], polygon[1::2]
    length = sum(max(abs(xs[i] - xs[i - 1]), abs(ys[i] - ys[i - 1])) for i in range(len(xs)))
    if length > LENGTH:
        return f"has edges of {length:,.0f} pixels in all; a polygon may have {LENGTH:,}"
    return ""


def _run_lengths(value: Mapping[str, Any], size: Size) -> Problem | None:
    pixels = size[0] * size[1]
    for key in ("size", "counts"):
        if key not in value:
            return f".{key}", "is missing; run lengths are {size, counts}"
    stated, counts = value["size"], value["counts"]
    if not _is_list(stated) or list(stated) != list(size):
        return ".size", f"is {str(stated)[:60]}; it must be the image's [height, width], {list(size)}"
    if isinstance(counts, (str, bytes)):
        coded = counts.encode("utf-8", "replace") if isinstance(counts, str) else counts
        if not coded or not all(48 <= letter <= 111 for letter in coded):
            return ".counts", "is not compressed run lengths; it must have letters from 0 to o only"
        found = runs(coded)
        if found is None:
            return ".counts", "is not compressed run lengths; a run is cut short, or too long"
        counts = found
    elif not _is_list(counts) or not all(isinstance(run, Integral) and _finite(run) for run in counts):
        return ".counts", "must be a list of whole numbers, or a string as pycocotools writes it"
    if min(counts, default=0) < 0:
        return ".counts", f"holds {min(counts)}; run lengths are not negative"
    if (total := sum(counts)) != pixels:
        return ".counts", f"sums to {total}; it must be height × width, {pixels}"
    return None


def runs(coded: bytes) -> list[int] | None:
    """COCO's compressed run lengths as numbers: five bits a letter, each run relative to the one before the
    last. None where a run is cut short or has more letters than a 32-bit number; takes linear time."""
    found: list[int] = []
    value = letters = 0
    for byte in coded:
        piece = byte - 48
        value |= (piece & 0x1F) << 5 * letters
        letters += 1
        if piece & 0x20:
            if letters == _LETTERS:
                return None
            continue
        if piece & 0x10:
            value -= 1 << 5 * letters
        found.append(value + found[-2] if len(found) > 2 else value)
        if abs(found[-1]) >= PIXELS:
            return None
        value = letters = 0
    return None if letters else found


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray))


def _finite(value: Any) -> bool:
    number = type(value) in (int, float) or isinstance(value, (np.integer, np.floating))
    return bool(number and abs(value) < 1 << 53 and math.isfinite(value))
