"""How much detections and objects of an image overlap, as pycocotools computes it, and who gets whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.geometry import rle
from evalkit.geometry.boxes import coco
from evalkit.types import Box, Mask, Metric, Size

_IMAGES = 1024  # compared at once
Floats = npt.NDArray[np.float64]
Things = Sequence[Box | Mask]
Objects = Sequence[Mapping[str, Any]]


def declare(metric: Metric, region: str) -> None:
    """A metric that compares masks reads masks alone, and scores objects that have them."""
    if region == "masks":
        object.__setattr__(metric, "wants", ("masks",))
        object.__setattr__(metric, "takes", ("object masks",))


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


def candidates(
    things: Sequence[Things], objects: Sequence[Objects], sizes: Sequence[Size], region: str, least: float
) -> Iterator[list[list[tuple[int, float]]]]:
    """For each image, for each thing: the (object, overlap) pairs of `least` (above 0) or more, as `of`
    computes them. Boxes of many images are compared at once."""
    for start in range(0, len(things), _IMAGES):
        part = slice(start, start + _IMAGES)
        if region == "boxes":
            yield from _boxes(things[part], objects[part], sizes[part], least)
            continue
        for some, there, size in zip(things[part], objects[part], sizes[part], strict=True):
            near = of(some, there, size, region)[0]
            found: list[list[tuple[int, float]]] = [[] for _ in some]
            for i, j in np.argwhere(near >= least).tolist():
                found[i].append((j, float(near[i, j])))
            yield found


def _boxes(
    things: Sequence[Things], objects: Sequence[Objects], sizes: Sequence[Size], least: float
) -> Iterator[list[list[tuple[int, float]]]]:
    """`candidates` of boxes, in pycocotools' arithmetic (bbIou of maskApi.c)."""
    given = np.array([row for t, size in zip(things, sizes, strict=True) for row in _corners(t, size)])
    there = np.array([o["box"] for some in objects for o in some], dtype=np.float64).reshape(-1, 4)
    crowd = np.array([bool(o.get("iscrowd", 0)) for some in objects for o in some], dtype=bool)
    given = given.reshape(-1, 4)
    many, counts = np.array([len(t) for t in things]), np.array([len(some) for some in objects])
    image = np.repeat(np.arange(len(things)), many)
    first = (np.cumsum(counts) - counts)[image]  # of each thing's objects
    ends = np.cumsum(counts[image])
    thing = np.repeat(np.arange(len(given)), counts[image])
    place = np.arange(len(thing)) - (ends - counts[image])[thing]
    d, g = given[thing], there[first[thing] + place]
    width = np.minimum(d[:, 0] + d[:, 2], g[:, 0] + g[:, 2]) - np.maximum(d[:, 0], g[:, 0])
    height = np.minimum(d[:, 1] + d[:, 3], g[:, 1] + g[:, 3]) - np.maximum(d[:, 1], g[:, 1])
    shared = np.where((width > 0) & (height > 0), width * height, 0.0)
    own = d[:, 2] * d[:, 3]
    union = np.where(crowd[first[thing] + place], own, own + g[:, 2] * g[:, 3] - shared)
    share = np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
    kept = np.flatnonzero(share >= least)
    found: list[list[tuple[int, float]]] = [[] for _ in given]
    for i, j, value in zip(thing[kept].tolist(), place[kept].tolist(), share[kept].tolist(), strict=True):
        found[i].append((j, value))
    end = 0
    for n in many.tolist():
        yield found[end : end + n]
        end += n


def pixels(things: Things, size: Size) -> Floats:
    """Boxes as (n, 4) of x, y, width, height in pixels; of a mask its box."""
    return np.array(_corners(things, size), dtype=np.float64)


def _corners(things: Things, size: Size) -> list[tuple[float, ...]]:
    return [coco(t.box if isinstance(t, Mask) else t, size) for t in things]


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
