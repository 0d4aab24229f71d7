"""Small pictures for people to look at; no model sees one."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from evalkit.errors import ImageError, UserError
from evalkit.images import prepare
from evalkit.types import ImageRef, Size

QUALITY = 74  # of JPEG; at 384 pixels a photo has about 12 kB


def thumbnail(data: bytes, longest: int, exif: str, ref: ImageRef) -> tuple[bytes, Size]:
    """A JPEG whose longer side is at most `longest`, and the original's (height, width).

    `exif` as in `prepare.decode`: with "apply" both are of the image turned upright. With the marks and the
    turn of `ref`, as a model is shown it. Raises ImageError, which names `ref`.
    """
    image, size = _shrunk(data, longest, exif, ref)
    image.thumbnail((longest, longest), Image.Resampling.BILINEAR, reducing_gap=2.0)
    if ref.marks:
        pixels = np.array(image.convert("RGB"))
        for part in (pixels[:-1, :-1], pixels[1:, 1:]):  # two pixels wide: seen at any size
            prepare.outlined(part, ref, size)
        image = Image.fromarray(pixels)
    file, sharp = io.BytesIO(), {"subsampling": 0} if ref.marks else {}
    image.save(file, "JPEG", quality=QUALITY, optimize=True, **sharp)
    return file.getvalue(), size


def _shrunk(data: bytes, longest: int, exif: str, ref: ImageRef) -> tuple[Image.Image, Size]:
    """The image with its labels, if it is a plain JPEG decoded at the first size of its own that is large
    enough: an eighth of the work."""
    try:
        image = prepare.opened(data, str(ref))
        plain = exif != "apply" and not ref.marks and not ref.turn % 4
        if image.format == "JPEG" and image.mode in ("RGB", "L") and plain:
            width, height = image.size
            image.draft(image.mode, (longest, longest))
            image.load()
            return image, (height, width)
    except UserError:
        raise
    except Exception as error:  # decoders raise dozens of kinds for damaged files
        raise ImageError(f"{ref}: cannot be decoded ({type(error).__name__}: {error})") from None
    pixels = prepare.labelled(data, ref, "precise", exif)
    return Image.fromarray(pixels), (pixels.shape[0], pixels.shape[1])
