"""Masks as SVG paths: run lengths as rows.jsonl has them, or a dataset's segmentation, traced on a grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.geometry import segmentations

CELLS = 160  # of the grid along the longer side
Grid = npt.NDArray[np.bool_]


def path(rle: Any) -> str:
    """The outline of compressed run lengths {size: (h, w), counts} in pixels of the image, '' for none.

    Run lengths that are not sound, which a file may hold, have no outline."""
    try:
        height, width = (int(side) for side in rle["size"])
        coded = rle["counts"]
    except (TypeError, KeyError, ValueError):
        return ""
    if (
        height < 1
        or width < 1
        or segmentations.problem({"size": [height, width], "counts": coded}, (height, width))
    ):
        return ""
    runs = segmentations.runs(coded.encode("ascii") if isinstance(coded, str) else coded) or []
    return traced(_sampled(runs, height, width), height, width)


def polygons(segmentation: Any, size: tuple[int, int]) -> str:
    """The outline of a COCO segmentation of an image of `size`: polygons as they are, run lengths traced."""
    if segmentations.problem(segmentation, size):
        return ""
    if isinstance(segmentation, Mapping):
        counts = segmentation["counts"]
        if isinstance(counts, (str, bytes)):
            text = counts.decode("ascii") if isinstance(counts, bytes) else counts
            return path({"size": size, "counts": text})
        return traced(_sampled([int(run) for run in counts], *size), *size)
    parts = []
    for points in segmentation:
        corners = [f"{_short(x)} {_short(y)}" for x, y in zip(points[::2], points[1::2], strict=True)]
        parts.append(f"M{'L'.join(corners)}Z")
    return "".join(parts)


def _sampled(runs: list[int], height: int, width: int) -> Grid:
    """The mask at the middle of each cell; run lengths go down the columns, and begin with zeros."""
    scale = max(1.0, max(height, width) / CELLS)
    down = _middles(height, scale)
    right = _middles(width, scale)
    ends = np.cumsum(np.asarray(runs, dtype=np.int64))
    places = right[None, :] * height + down[:, None]
    return np.asarray(np.searchsorted(ends, places, side="right") % 2 == 1)


def _middles(side: int, scale: float) -> npt.NDArray[np.int64]:
    cells = max(1, round(side / scale))
    return np.minimum(((np.arange(cells) + 0.5) * side / cells).astype(np.int64), side - 1)


def traced(grid: Grid, height: int, width: int) -> str:
    """The edges between cells inside and outside as closed lines, stretched over (height, width)."""
    rows, columns = grid.shape
    inside = np.zeros((rows + 2, columns + 2), dtype=bool)
    inside[1:-1, 1:-1] = grid
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # each edge has the inside on its right: along the top to the right, down the right side, and back
    for y, x in np.argwhere(inside[1:-1, 1:-1] & ~inside[:-2, 1:-1]).tolist():
        steps.setdefault((x, y), []).append((x + 1, y))
    for y, x in np.argwhere(inside[1:-1, 1:-1] & ~inside[1:-1, 2:]).tolist():
        steps.setdefault((x + 1, y), []).append((x + 1, y + 1))
    for y, x in np.argwhere(inside[1:-1, 1:-1] & ~inside[2:, 1:-1]).tolist():
        steps.setdefault((x + 1, y + 1), []).append((x, y + 1))
    for y, x in np.argwhere(inside[1:-1, 1:-1] & ~inside[1:-1, :-2]).tolist():
        steps.setdefault((x, y + 1), []).append((x, y))
    parts = []
    while steps:
        parts.append(_loop(steps, width / columns, height / rows))
    return "".join(parts)


def _loop(steps: dict[tuple[int, int], list[tuple[int, int]]], across: float, down: float) -> str:
    """Takes one closed line out of the steps: `M10 20H30V40H10Z`."""
    start = next(iter(steps))
    text, at, along = f"M{_short(start[0] * across)} {_short(start[1] * down)}", start, ""
    while True:
        ways = steps[at]
        to = ways.pop()
        if not ways:
            del steps[at]
        kind = "H" if to[1] == at[1] else "V"
        if kind != along and along:
            text += _line(along, at, across, down)
        along, at = kind, to
        if at == start:
            return text + "Z"


def _line(kind: str, at: tuple[int, int], across: float, down: float) -> str:
    return f"{kind}{_short(at[0] * across if kind == 'H' else at[1] * down)}"


def _short(value: float) -> str:
    """A number with at most one digit behind the point."""
    return f"{value:.1f}".removesuffix(".0")
