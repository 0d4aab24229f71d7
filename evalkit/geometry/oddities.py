"""What is odd about boxes and masks that were read, whatever they are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.geometry import boxes, rle
from evalkit.text import labels
from evalkit.types import Box, Mask

WHOLE = "boxes around the whole image"
REPEATED = "boxes that the answer repeats"
EMPTY = "masks without a pixel"
_SHARE = 0.98  # of the image, to be all of it


def of_objects(
    answers: Sequence[Sequence[Box | Mask] | None], targets: Sequence[Mapping[str, Any]], lowercase: bool
) -> dict[str, int]:
    """How many boxes or masks have a label that is no category, the commonest of these with what is nearest;
    how many are of a category that was not asked for; and `of`."""
    names: dict[str, None] = {}
    lost: list[str] = []
    for answer, target in zip(answers, targets, strict=True):
        known = dict.fromkeys(target["categories"])
        names |= known
        lost += [t.label for t in answer or () if labels.meant(t.label, known, lowercase) is None]
    return {**labels.strange(lost, names, lowercase), **of(answers, targets)}


def of_first(
    answers: Sequence[Sequence[Box | Mask] | None], targets: Sequence[Mapping[str, Any]]
) -> dict[str, int]:
    """`of` where one box or mask is asked for and the answer's first one counts. A mask whose box has no
    whole pixel is none of these: its answer counts as unreadable."""
    found = dict.fromkeys((WHOLE, EMPTY), 0)
    for answer, target in zip(answers, targets, strict=True):
        for thing in (answer or ())[:1]:
            found[WHOLE] += boxes.area(_box(thing).coordinates) >= _SHARE and _share(target) < boxes.HIT
            if isinstance(thing, Mask):
                y0, x0, y1, x1 = boxes.pixels(thing.box.coordinates, thing.size)
                found[EMPTY] += y1 > y0 and x1 > x0 and _empty(thing)
    return {what: n for what, n in found.items() if n}


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


def _share(target: Mapping[str, Any]) -> float:
    """How much of the image the one target takes: its box, else its mask."""
    height, width = target["size"]
    if "box" in target:
        y0, x0, y1, x1 = target["box"]
        return float((y1 - y0) * (x1 - x0) / (height * width))
    from pycocotools import mask as cocomask

    return float(cocomask.area(rle.rle(target["segmentation"], target["size"])) / (height * width))


def _large(target: Mapping[str, Any]) -> bool:
    """Whether an object's box is half of the image or more."""
    height, width = target["size"]
    return any(o["box"][2] * o["box"][3] >= boxes.HIT * height * width for o in target["objects"])
