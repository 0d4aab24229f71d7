"""What is odd about boxes and masks that were read, whatever they are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.geometry import boxes, rle
from evalkit.types import Box, Mask

WHOLE = "boxes around the whole image"
REPEATED = "boxes that the answer repeats"
EMPTY = "masks without a pixel"
_SHARE = 0.98  # of the image, to be all of it


def of(
    answers: Sequence[Sequence[Box | Mask] | None], targets: Sequence[Mapping[str, Any]]
) -> dict[str, int]:
    """How many of each kind; a box around the whole image is odd where no object is about as large."""
    found = dict.fromkeys((WHOLE, REPEATED, EMPTY), 0)
    for answer, target in zip(answers, targets, strict=True):
        things = answer or ()
        plain = [(_box(thing).coordinates, thing.label) for thing in things]
        found[REPEATED] += len(plain) - len(set(plain))
        found[WHOLE] += sum(boxes.area(c) >= _SHARE and not _large(target) for c, _ in plain)
        found[EMPTY] += sum(isinstance(t, Mask) and _empty(t) for t in things)
    return {what: n for what, n in found.items() if n}


def _box(thing: Box | Mask) -> Box:
    return thing.box if isinstance(thing, Mask) else thing


def _empty(mask: Mask) -> bool:
    from pycocotools import mask as cocomask

    return int(cocomask.area(rle.mask_rle(mask))) == 0


def _large(target: Mapping[str, Any]) -> bool:
    """Whether an object's box is half of the image or more."""
    height, width = target["size"]
    return any(o["box"][2] * o["box"][3] >= boxes.HIT * height * width for o in target["objects"])
