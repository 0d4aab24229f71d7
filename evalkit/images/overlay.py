"""Pictures for people: an image with the boxes and masks of an answer, and those of the target in green."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from pycocotools import mask as native

from evalkit.geometry import rle
from evalkit.types import Box, Mask, Size

Pixels = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

COLOURS: tuple[Colour, ...] = (
    (230, 57, 70), (29, 120, 200), (244, 162, 30), (131, 56, 236), (0, 150, 160), (200, 60, 160),
)  # fmt: skip
TARGET: Colour = (42, 157, 80)


def drawn(pixels: Pixels, answer: Sequence[Box | Mask], target: Sequence[Box | Mask] = ()) -> Pixels:
    """A copy of (h, w, 3) with every box outlined and labelled and every mask tinted."""
    things = [(thing, TARGET) for thing in target]
    things += [(thing, COLOURS[i % len(COLOURS)]) for i, thing in enumerate(answer)]
    found = pixels.copy()
    for thing, colour in things:
        if isinstance(thing, Mask) and tuple(thing.size) == found.shape[:2]:
            inside = native.decode(rle.mask_rle(thing)).astype(bool)
            found[inside] = (0.5 * found[inside] + 0.5 * np.array(colour)).astype(np.uint8)
    picture = Image.fromarray(found)
    draw = ImageDraw.Draw(picture)
    w, h = picture.size
    for thing, colour in things:
        box = thing.box if isinstance(thing, Mask) else thing
        x0, x1 = sorted((box.x0 * w, box.x1 * w))
        y0, y1 = sorted((box.y0 * h, box.y1 * h))
        draw.rectangle((x0, y0, x1, y1), outline=colour, width=max(2, min(w, h) // 150))
        if box.label:
            draw.text((x0 + 4, y0 + 3), box.label, fill=colour)
    return np.asarray(picture, dtype=np.uint8)


def png(pixels: Pixels) -> bytes:
    """(h, w, 3) as the bytes of a PNG file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def of_target(target: Any) -> tuple[Box | Mask, ...]:
    """The boxes and masks of a target as formats give it: one object with its size, or an image's objects.
    Other targets, and crowds, have none. Raises DataError for a segmentation that cannot be read."""
    if not isinstance(target, Mapping) or "size" not in target:
        return ()
    size: Size = tuple(target["size"])
    if "objects" in target:
        objects = [each for each in target["objects"] if not each.get("iscrowd")]
        boxes = [Box.of_pixels(each["box"], size, str(each["category"])) for each in objects]
        return tuple(_with_mask(each, box, size) for each, box in zip(objects, boxes, strict=True))
    if "box" not in target:
        return ()
    y0, x0, y1, x1 = target["box"]
    return (_with_mask(target, Box.of_pixels((x0, y0, x1 - x0, y1 - y0), size), size),)


def _with_mask(entry: Mapping[str, Any], box: Box, size: Size) -> Box | Mask:
    if not entry.get("segmentation"):
        return box
    counts = rle.rle(entry["segmentation"], size)["counts"]
    return Mask(size, counts.decode("ascii"), box, box.label)
