"""Run-length-coded masks as pycocotools writes them: dicts of `size` (h, w) and `counts` (bytes)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.errors import DataError
from evalkit.types import Mask, Size

Rle = dict[str, Any]


def rle(segmentation: Any, size: Size) -> Rle:
    """A COCO segmentation (polygons, uncompressed or compressed run lengths) as one run-length-coded mask.

    Raises DataError if it is none of these or its size is not `size`.
    """
    from pycocotools import mask

    height, width = size
    try:
        if isinstance(segmentation, Mapping):
            if tuple(segmentation["size"]) != (height, width):
                raise DataError(
                    f"segmentation: size {list(segmentation['size'])} is not the image's {[height, width]}"
                )
            counts = segmentation["counts"]
            coded = counts.encode("ascii") if isinstance(counts, str) else counts
            runs = _runs(coded) if isinstance(coded, bytes) else [int(c) for c in coded]
            # pycocotools does not check these numbers, and would crash or never end on wrong ones.
            if min(runs, default=0) < 0 or sum(runs) != height * width:
                raise ValueError(f"the run lengths do not add up to {height} x {width}")
            if isinstance(coded, bytes):
                return {"size": [height, width], "counts": coded}
            return dict(mask.frPyObjects({"size": [height, width], "counts": runs}, height, width))
        polygons = [[float(v) for v in p] for p in segmentation]
        if not polygons:
            return empty(size)
        if min(map(len, polygons)) < 4:
            raise ValueError("a polygon has fewer than two points")
        return dict(mask.merge(mask.frPyObjects(polygons, height, width)))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"segmentation: neither polygons nor run lengths ({error}); "
            "COCO has lists of x, y, x, y, ... or {'size': [h, w], 'counts': ...}"
        ) from None


def _runs(coded: bytes) -> list[int]:
    """Decodes COCO's compressed run lengths: five bits per character, each run relative to the one before the
    last."""
    runs: list[int] = []
    value = shift = 0
    for byte in coded:
        piece = byte - 48
        value |= (piece & 0x1F) << shift
        shift += 5
        if piece & 0x20:
            continue
        if piece & 0x10:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("the run lengths are cut short")
    return runs


def mask_rle(mask: Mask) -> Rle:
    """A parser's mask in pycocotools' form."""
    return {"size": list(mask.size), "counts": mask.counts.encode("ascii")}


def empty(size: Size) -> Rle:
    """A mask without a pixel."""
    from pycocotools import mask

    height, width = size
    return dict(mask.frPyObjects({"size": [height, width], "counts": [height * width]}, height, width))


def overlap(first: Rle, second: Rle) -> tuple[int, int]:
    """(pixels in both, pixels in either) of two masks of the same size."""
    from pycocotools import mask

    shared = int(mask.area(mask.merge([first, second], intersect=True)))
    return shared, int(mask.area(first)) + int(mask.area(second)) - shared
