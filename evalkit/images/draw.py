"""Draws on images before a model sees them: edges of boxes, labels, padding. Reads no file but fonts."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from evalkit.errors import ImageError
from evalkit.types import Mark, Size

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def outline(pixels: Pixels | Floats, box: tuple[float, ...], colour: tuple[int, int, int]) -> None:
    """Draws a box's edge, one pixel wide, into (h, w, 3); `box` (y0, x0, y1, x1) as fractions.

    As tf.image.draw_bounding_boxes: edges at trunc(coordinate · (side - 1)) in float32; what is outside of
    the image isn't drawn.
    """
    height, width = pixels.shape[:2]
    rows, columns = np.float32(height - 1), np.float32(width - 1)
    y0, x0, y1, x1 = (int(np.float32(c) * s) for c, s in zip(box, (rows, columns) * 2, strict=True))
    if y0 > y1 or x0 > x1 or y0 >= height or x0 >= width or y1 < 0 or x1 < 0:
        return
    inner_rows = slice(max(y0, 0), min(y1, height - 1) + 1)
    inner_columns = slice(max(x0, 0), min(x1, width - 1) + 1)
    for row in (y0, y1):
        if 0 <= row < height:
            pixels[row, inner_columns] = colour
    for column in (x0, x1):
        if 0 <= column < width:
            pixels[inner_rows, column] = colour


def fractions(mark: Mark, size: Size, padded: bool = False) -> tuple[float, ...]:
    """The mark's box as fractions of the image's sides (of the padded image's if `padded`)."""
    sides = ((max(size),) * 2 if padded else size) * 2
    if mark.unit == "fractions":
        return tuple(c * whole / side for c, whole, side in zip(mark.box, size * 2, sides, strict=True))
    if mark.unit == "canvas":
        return tuple(c * size[0] / mark.canvas / side for c, side in zip(mark.box, sides, strict=True))
    return tuple(c / side for c, side in zip(mark.box, sides, strict=True))


def label(image: Pixels, mark: Mark, smooth: bool = True) -> Pixels:
    """Draws a white box on (h, w, 3) with the text in the largest font size up to 100 that fits.

    As big_vision's AI2D builder: the text is centred horizontally and starts at the top of the box. `smooth`
    is off for images on which Pillow draws letters in black and white only.
    """
    sides = (image.shape[0], image.shape[1]) * 2
    box = zip(fractions(mark, (sides[0], sides[1])), sides, strict=True)
    y0, x0, y1, x1 = mark.box if mark.unit == "pixels" else (c * side for c, side in box)
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    draw.fontmode = "L" if smooth else "1"
    draw.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), fill="white")
    for points in range(100, 0, -1):
        font = _font(mark.font, points)
        right, bottom = font.getbbox(mark.text)[2:]
        if right <= x1 - x0 and bottom <= y1 - y0:
            break
    draw.text((x0 + (x1 - x0 - right) // 2, y0), mark.text, fill="black", font=font)
    return np.asarray(canvas, dtype=np.uint8)


@functools.lru_cache(maxsize=512)
def _font(path: str, points: int) -> Any:
    if not path:
        return ImageFont.load_default(points)
    try:
        return ImageFont.truetype(path, points)
    except OSError as error:
        raise ImageError(f"{path}: is not a TrueType font ({error}); labels of images need one") from None


def square(image: Pixels) -> Pixels:
    """The image padded to a square with white, on the right or at the bottom."""
    height, width, channels = image.shape
    side = max(height, width)
    if height == width:
        return image
    padded = np.full((side, side, channels), 255, np.uint8)
    padded[:height, :width] = image
    return padded
