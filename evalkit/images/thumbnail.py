"""Small pictures for people to look at; no model sees one."""

from __future__ import annotations

import io

from PIL import Image

from evalkit.errors import ImageError, UserError
from evalkit.images import prepare
from evalkit.types import Size

QUALITY = 74  # of JPEG; at 384 pixels a photo has about 12 kB


def thumbnail(data: bytes, longest: int, exif: str = "ignore", where: str = "image") -> tuple[bytes, Size]:
    """A JPEG whose longer side is at most `longest`, and the original's (height, width).

    `exif` as in `prepare.decode`: with "apply" both are of the image turned upright. Raises ImageError.
    """
    image, size = _shrunk(data, longest, exif, where)
    image.thumbnail((longest, longest), Image.Resampling.BILINEAR, reducing_gap=2.0)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue(), size


def _shrunk(data: bytes, longest: int, exif: str, where: str) -> tuple[Image.Image, Size]:
    """The image, if it is a JPEG decoded at the first size of its own that is large enough: an eighth of the
    work."""
    try:
        image = prepare.opened(data, where)
        if image.format == "JPEG" and image.mode in ("RGB", "L") and exif != "apply":
            width, height = image.size
            image.draft(image.mode, (longest, longest))
            image.load()
            return image, (height, width)
    except UserError:
        raise
    except Exception as error:  # decoders raise dozens of kinds for damaged files
        raise ImageError(f"{where}: cannot be decoded ({type(error).__name__}: {error})") from None
    pixels = prepare.decode(data, "precise", exif, where)
    return Image.fromarray(pixels), (pixels.shape[0], pixels.shape[1])
