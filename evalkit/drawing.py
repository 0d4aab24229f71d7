"""What is drawn on images before a model sees them: edges of boxes, labels, padding. Knows no file."""

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

    As tf.image.draw_bounding_boxes: edges at trunc(coordinate · (side - 1)) in float32; what lies
    outside isn't drawn.
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
    """The mark's box as float32 fractions of the image (of the padded one, where it is)."""
    height, width = (max(size),) * 2 if padded else size
    if mark.unit == "fractions":
        scale = (size[0] / height, size[1] / width)
    elif mark.unit == "heights":
        scale = (size[0] / height, size[0] / width)
    else:
        scale = (1 / height, 1 / width)
    return tuple(c * s for c, s in zip(mark.box, scale * 2, strict=True))


def label(image: Pixels, mark: Mark) -> Pixels:
    """A white box over a part of the image, with the text as large as fits in its middle."""
    height, width = image.shape[:2]
    y0, x0, y1, x1 = (
        c * s for c, s in zip(fractions(mark, (height, width)), (height, width) * 2, strict=True)
    )
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), fill=(255, 255, 255))
    for points in range(max(1, min(int(abs(y1 - y0)), 512)), 0, -1):
        font = _font(mark.font, points)
        left, top, right, bottom = draw.textbbox((0, 0), mark.text, font=font)
        if right - left <= abs(x1 - x0) and bottom - top <= abs(y1 - y0):
            break
    middle = ((x0 + x1 - left - right) / 2, (y0 + y1 - top - bottom) / 2)
    draw.text(middle, mark.text, fill=(0, 0, 0), font=font)
    return np.asarray(canvas, dtype=np.uint8)


@functools.lru_cache(maxsize=512)
def _font(path: str, points: int) -> Any:
    if not path:
        return ImageFont.load_default(points)
    try:
        return ImageFont.truetype(path, points)
    except OSError as error:
        raise ImageError(f"{path}: is no TrueType font ({error}); it writes the labels of images") from None


def square(image: Pixels) -> Pixels:
    """Padded with white to the right or below, until it is as high as wide."""
    height, width, channels = image.shape
    side = max(height, width)
    if height == width:
        return image
    padded = np.full((side, side, channels), 255, np.uint8)
    padded[:height, :width] = image
    return padded
