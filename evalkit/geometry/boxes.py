"""Boxes: area, overlap, offset from a target, truncation to pixels. Boxes are (y0, x0, y1, x1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.types import Box, Mask, Rows, Size

Floats = npt.NDArray[np.float64]
Coordinates = tuple[float, float, float, float]
STEPS = 1024  # of location tokens across an image
HIT = 0.5  # from this IoU on, a box has found its target


def area(box: Sequence[float]) -> float:
    """The box's area in its own unit; 0 when it is inverted."""
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes in the same unit; 0 if the union is empty.

    As google-research/big_vision transfers/segmentation.py @ 0127fb6b, except for its 0/0.
    """
    shared = area(
        (
            max(first[0], second[0]),
            max(first[1], second[1]),
            min(first[2], second[2]),
            min(first[3], second[3]),
        )
    )
    union = area(first) + area(second) - shared
    return shared / union if union > 0 else 0.0


def fractions(box: Sequence[float], size: Size) -> Coordinates:
    """A box in pixels as fractions of an image of `size` (height, width)."""
    height, width = size
    return box[0] / height, box[1] / width, box[2] / height, box[3] / width


def coco(box: Box, size: Size) -> Coordinates:
    """(x, y, width, height) in pixels: as given, else of the fractions, without the last digits that dividing
    by the image's sides and multiplying again leave (a billionth of a pixel)."""
    if box.pixels is not None:
        return box.pixels
    height, width = size
    x, y = box.x0 * width, box.y0 * height
    sides = (x, y, (box.x1 - box.x0) * width, (box.y1 - box.y0) * height)
    return tuple(round(side, 9) for side in sides)  # type: ignore[return-value]


def first_boxes(
    answers: Sequence[Sequence[Box | Mask] | None], targets: Sequence[Mapping[str, Any]]
) -> Floats:
    """Compares the answers' first boxes (of a mask: its box) with `target["box"]`, in pixels of
    `target["size"]`.

    Rows (n, 5): IoU, 1, then for a box that found its target (IoU >= `HIT`) `shift` down, `shift` right and
    1; otherwise three zeros.
    """
    result = np.zeros((len(targets), 5))
    result[:, 1] = 1.0
    for row, answer, target in zip(result, answers, targets, strict=True):
        if answer:
            first = answer[0]
            box = (first.box if isinstance(first, Mask) else first).coordinates
            wanted = fractions(target["box"], target["size"])
            row[0] = iou(box, wanted)
            if row[0] >= HIT:
                row[2:] = (*shift(box, wanted), 1.0)
    return result


def shift(box: Sequence[float], target: Sequence[float]) -> tuple[float, float]:
    """How far down and right of the target a box is, in steps of location tokens (1/1024 of the image): the
    mean of the two edges on each axis. Both boxes are fractions."""
    down = (box[0] - target[0] + box[2] - target[2]) / 2
    right = (box[1] - target[1] + box[3] - target[3]) / 2
    return STEPS * down, STEPS * right


def offsets(rows: Rows) -> Floats | None:
    """The last three columns of `first_boxes`; None for rows written by an older evalkit."""
    array = np.asarray(rows, dtype=np.float64)
    return array[:, 2:] if array.ndim == 2 and array.shape[1] == 5 else None


def pixels(box: Sequence[float], size: Size) -> tuple[int, int, int, int]:
    """A box in fractions cut down (never rounded) to whole pixels, as big_vision's evaluator does."""
    height, width = size
    return int(box[0] * height), int(box[1] * width), int(box[2] * height), int(box[3] * width)
