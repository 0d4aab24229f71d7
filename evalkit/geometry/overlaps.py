"""How much detections and objects of an image overlap, as pycocotools computes it, and who gets whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.geometry import rle
from evalkit.types import Box, Mask, Size

Floats = npt.NDArray[np.float64]
Things = Sequence[Box | Mask]
Objects = Sequence[Mapping[str, Any]]


def of(things: Things, objects: Objects, size: Size, region: str) -> tuple[Floats, Floats]:
    """(IoU of each thing with each object (n, m), area of each thing in pixels (n,)).

    `region`: boxes or masks. With a crowd (`iscrowd`) it is the share of the thing that lies in the crowd.
    """
    from pycocotools import mask

    crowd = [int(o.get("iscrowd", 0)) for o in objects]
    if not things:
        return np.zeros((0, len(objects))), np.zeros(0)
    given: Any = pixels(things, size)
    there: Any = np.array([o["box"] for o in objects], dtype=np.float64)
    areas = given[:, 2] * given[:, 3]
    if region == "masks":
        given = [rle.mask_rle(t) for t in things if isinstance(t, Mask)]
        there = [rle.rle(o["segmentation"], size) for o in objects]
        areas = np.asarray(mask.area(given), dtype=np.float64)
    if not objects:
        return np.zeros((len(things), 0)), areas
    return np.asarray(mask.iou(given, there, crowd), dtype=np.float64), areas


def pixels(things: Things, size: Size) -> Floats:
    """Boxes as (n, 4) of x, y, width, height in pixels; of a mask its box."""
    height, width = size
    boxes = [t.box if isinstance(t, Mask) else t for t in things]
    return np.array(
        [(b.x0 * width, b.y0 * height, (b.x1 - b.x0) * width, (b.y1 - b.y0) * height) for b in boxes],
        dtype=np.float64,
    )


def pairs(overlaps: Floats, least: float) -> list[tuple[int, int]]:
    """One to one, the largest overlap first: (row, column) of each pair that overlaps by `least` or more. Of
    equal overlaps the first row, then the first column goes first."""
    rows, columns = np.nonzero(overlaps >= least)
    found: list[tuple[int, int]] = []
    used: tuple[set[int], set[int]] = (set(), set())
    for k in np.argsort(-overlaps[rows, columns], kind="stable").tolist():
        i, j = int(rows[k]), int(columns[k])
        if i not in used[0] and j not in used[1]:
            found.append((i, j))
            used[0].add(i)
            used[1].add(j)
    return found
