"""Run-length-coded masks as pycocotools writes them: dicts of `size` (h, w) and `counts` (bytes)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.errors import DataError
from evalkit.geometry import segmentations
from evalkit.types import Mask, Size

Rle = dict[str, Any]


def rle(segmentation: Any, size: Size) -> Rle:
    """A COCO segmentation (polygons, uncompressed or compressed run lengths) as one run-length-coded mask.

    Polygons without a point, as converters write them, are a mask without a pixel. Raises DataError if it is
    none of these or its size is not `size`; nothing else reaches pycocotools.
    """
    from pycocotools import mask

    height, width = size
    if isinstance(segmentation, (list, tuple)) and not segmentation:
        return empty(size)
    if wrong := segmentations.problem(segmentation, size):
        raise DataError(f"segmentation{wrong[0]}: {wrong[1]}")
    if not isinstance(segmentation, Mapping):
        return dict(mask.merge(mask.frPyObjects([list(map(float, p)) for p in segmentation], height, width)))
    counts = segmentation["counts"]
    if isinstance(counts, (str, bytes)):
        coded = counts.encode("ascii") if isinstance(counts, str) else counts
        return {"size": [height, width], "counts": coded}
    return dict(mask.frPyObjects({"size": [height, width], "counts": list(map(int, counts))}, height, width))


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
