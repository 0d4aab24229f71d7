"""Image bytes to the square array that a model gets, byte for byte as the reference does it.

Knows no dataset and no model. Arrays are (height, width, channels); 3 channels are RGB.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from evalkit import door
from evalkit.data.records import MAX_PIXELS, MAX_SIDE
from evalkit.data.sources import read_bytes
from evalkit.errors import ImageError, UserError
from evalkit.images import cache as image_cache
from evalkit.images import draw, resize
from evalkit.images.resize import Floats, Pixels
from evalkit.provenance import version
from evalkit.types import ImageRef, Preparation, Size

_PLUGINS = (
    BmpImagePlugin,
    GifImagePlugin,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)  # imported so that Image.open always knows these formats
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")  # none of these runs a program

# Pillow's own limit is below ours; larger images are refused here, after the header is read.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class Prepared:
    """One image as a model gets it, and what is recorded of the original."""

    pixels: Pixels | Floats  # (resolution, resolution, 3), 0 to 255
    digest: str  # sha256 of the bytes read
    size: Size  # (height, width) that the bytes decoded to


def prepare(ref: ImageRef, preparation: Preparation) -> Prepared:
    """Reads, decodes and resizes one image, or finds it in the cache. Raises ImageError with its path."""
    data = read_bytes(ref)
    digest = hashlib.sha256(data).hexdigest()
    cache = image_cache.current()
    if cache is None or any(mark.font for mark in ref.marks):  # the key does not cover a font file's content
        pixels, size = _prepared(data, ref, preparation)
        return Prepared(pixels, digest, size)
    key = image_cache.key(digest, preparation, replace(ref, path="", member=""), _code())
    found = cache.get(key)
    if found is None:
        found = _prepared(data, ref, preparation)
        cache.put(key, *found)
    return Prepared(found[0], digest, found[1])


@functools.lru_cache(maxsize=1)
def _code() -> tuple[str, ...]:
    """What the pixels depend on besides the image: the code in this package and its libraries."""
    sources = (__file__, draw.__file__, resize.__file__)
    digests = (hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in sources)
    return (*digests, *map(version, ("pillow", "simplejpeg", "numpy")))


def whole(ref: ImageRef, preparation: Preparation) -> Prepared:
    """One image at its own size, for a model that resizes by itself: turned and marked as in `prepare`,
    neither resized nor padded. Raises ImageError with its path."""
    data = read_bytes(ref)
    pixels = labelled(data, ref, preparation.jpeg, preparation.exif)
    size = pixels.shape[0], pixels.shape[1]
    outlined(pixels, ref, size)
    return Prepared(pixels, hashlib.sha256(data).hexdigest(), size)


def _prepared(data: bytes, ref: ImageRef, preparation: Preparation) -> tuple[Pixels | Floats, Size]:
    image = _upright_and_labelled(data, ref, preparation.jpeg, preparation.exif)
    size = image.shape[0], image.shape[1]
    if preparation.pad:
        image = draw.square(image)
    side, antialias = preparation.resolution, preparation.antialias
    if preparation.floats and preparation.resize == "bilinear":
        pixels: Pixels | Floats = _rgb(resize.bilinear(image, side, antialias))
    else:
        pixels = _rgb(resize.resize(image, side, preparation.resize, antialias))
    outlined(pixels, ref, size, padded=bool(preparation.pad))
    return pixels, size


def labelled(data: bytes, ref: ImageRef, jpeg: str, exif: str) -> Pixels:
    """RGB (h, w, 3), turned, with the labels of `ref` drawn. Raises ImageError with its path."""
    return _rgb(_upright_and_labelled(data, ref, jpeg, exif))


def _upright_and_labelled(data: bytes, ref: ImageRef, jpeg: str, exif: str) -> Pixels:
    image = _decode(data, jpeg, exif, str(ref))
    if ref.turn % 4:
        image = _turned(image, ref.turn, jpeg)
    for mark in ref.marks:
        if mark.kind == "label":
            smooth = _opened(data).mode not in ("1", "P")  # on these Pillow itself draws letters unsmoothed
            image = draw.label(_rgb(image), mark, smooth)
    return image


def outlined(pixels: Pixels | Floats, ref: ImageRef, size: Size, padded: bool = False) -> None:
    """Draws the outlines of `ref` into (h, w, 3) of any size; `size` is the original's."""
    for mark in ref.marks:
        if mark.kind == "outline":
            draw.outline(pixels, draw.fractions(mark, size, padded), mark.colour)


def _turned(image: Pixels, turn: int, jpeg: str) -> Pixels:
    """Turns the image counterclockwise by quarters. With the reference's fast JPEG decoding it is saved as
    JPEG once more, as the reference does (big_vision datasets/textvqa @ 0127fb6b, encode_jpeg)."""
    image = np.ascontiguousarray(np.rot90(image, turn))
    if jpeg != "fast":
        return image
    grey = image.shape[2] == 1
    saved = _simplejpeg().encode_jpeg(image, 100, "GRAY" if grey else "RGB", "Gray" if grey else "420", False)
    return _decode(saved, "fast", "ignore", "turned image")


def header_size(ref: ImageRef, exif: str = "ignore") -> Size:
    """(height, width) from the file's header; decodes no pixel. Raises ImageError with the file's path.

    `exif="apply"` gives the size of the image turned upright.
    """
    with _headed(ref) as image:
        width, height = image.size
        turned = exif == "apply" and _orientation(image, Image.Image.getexif) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def header_turn(ref: ImageRef) -> tuple[Size, int]:
    """(height, width) as stored and the EXIF orientation, 1 where there is none, from the file's header.
    Raises ImageError as `header_size`."""
    with _headed(ref) as image:
        turn = _orientation(image, Image.Image.getexif)
        return (image.size[1], image.size[0]), turn if type(turn) is int else 1


def header_channels(ref: ImageRef) -> int:
    """Channels from the file's header: 1 for grey and palettes. Raises ImageError as `header_size`."""
    with _headed(ref) as image:
        return len(image.getbands())


def _headed(ref: ImageRef) -> Image.Image:
    """The image with only its header read; of a file of its own no more than that is read from the disk."""
    data = read_bytes(ref) if ref.member else b""
    try:
        if ref.member:
            return _opened(data)
        return Image.open(door.opened(ref.path, ref.within or None), formats=_FORMATS)
    except Exception as error:  # decoders raise many kinds, as in `_decode`
        if isinstance(error, OSError) and error.strerror:
            raise ImageError(f"{ref}: cannot be read ({error.strerror})") from None
        raise ImageError(f"{ref}: is not an image of a known kind ({type(error).__name__})") from None


# --- decoding ----------------------------------------------------------------------------------


def decode(data: bytes, jpeg: str = "fast", exif: str = "ignore", where: str = "image") -> Pixels:
    """Any image file's bytes to RGB (h, w, 3). Raises ImageError that starts with `where`.

    As tf.io.decode_image: alpha is dropped, not blended; grey is repeated; of 16 bits the high
    byte is kept; an animation gives its first frame. `jpeg="fast"` is TensorFlow's default inverse
    DCT, "precise" is Pillow's. `exif="apply"` turns the image upright, "ignore" leaves it as stored.
    """
    return _rgb(_decode(data, jpeg, exif, where))


def decoded_size(data: bytes, exif: str = "ignore", where: str = "image") -> Size:
    """(height, width) of what `decode` gives. Of JPEG and PNG only the header is read, so a file that is cut
    off has a size too. Raises ImageError that starts with `where`."""
    with _refusals(data, where):
        image = opened(data, where)
        if image.format in ("JPEG", "MPO", "PNG"):
            width, height = image.size
            turned = exif == "apply" and _orientation(image) in (5, 6, 7, 8)
            return (width, height) if turned else (height, width)
    height, width = _decode(data, "precise", exif, where).shape[:2]
    return height, width


def opened(data: bytes, where: str = "image") -> Image.Image:
    """The image with only its header read, if it is of a kind and size that are decoded. Raises ImageError,
    and what Pillow raises."""
    image = _opened(data)
    _check_size(image.size, where)
    return image


def _opened(data: bytes) -> Image.Image:
    """The image with only its header read."""
    return Image.open(io.BytesIO(data), formats=_FORMATS)


def _rgb(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Three channels, contiguous and writable (Pillow's arrays are not, and torch would warn)."""
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    return np.require(image, requirements=("C", "W"))


def _decode(data: bytes, jpeg: str, exif: str, where: str) -> Pixels:
    """(h, w, 3), or (h, w, 1) for grey images, which saves two thirds of the work."""
    with _refusals(data, where):
        image = opened(data, where)
        turn = _orientation(image) if exif == "apply" else 1
        if image.format in ("JPEG", "MPO") and jpeg == "fast":
            pixels = _fast_jpeg(data, image)
        else:
            pixels = _pixels(image)
    return _upright(pixels, turn)


@contextlib.contextmanager
def _refusals(data: bytes, where: str) -> Iterator[None]:
    """Turns what Pillow raises inside the block into an ImageError."""
    if not data:
        raise ImageError(f"{where}: is empty; it must be an image file")
    try:
        yield
    except UserError:
        raise
    except Image.UnidentifiedImageError:
        raise ImageError(
            f"{where}: is not an image of a known kind; it must be PNG, JPEG, WebP, GIF, BMP, TIFF, PPM "
            "or JPEG 2000"
        ) from None
    except Image.DecompressionBombError:
        raise ImageError(f"{where}: has more than 512 megapixels; use a smaller image") from None
    except Exception as error:  # decoders raise dozens of kinds for damaged files
        raise ImageError(f"{where}: cannot be decoded ({type(error).__name__}: {error})") from None


def _check_size(size: tuple[int, int], where: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{where}: has no pixels ({width}×{height})")
    if width * height > MAX_PIXELS or max(size) > MAX_SIDE:
        raise ImageError(
            f"{where}: is {width}×{height} pixels; at most 512 megapixels and 1,048,576 per side are read"
        )


def _simplejpeg() -> Any:
    """The package. Raises UserError without it, and not ImageError: no image is at fault or left out."""
    try:
        import simplejpeg  # not at the top: the engine and the demo's PNG files do without it
    except ImportError:
        raise UserError(
            "simplejpeg: is not installed, and images are decoded as the reference does with it; pip install "
            "simplejpeg, or set image.jpeg=precise to decode with Pillow"
        ) from None
    return simplejpeg


def _fast_jpeg(data: bytes, image: Image.Image) -> Pixels:
    """libjpeg-turbo's fast inverse DCT with its full upsampling, TensorFlow's default."""
    simplejpeg = _simplejpeg()
    space = {"L": "GRAY", "CMYK": "CMYK"}.get(image.mode, "RGB")
    try:
        pixels = simplejpeg.decode_jpeg(data, colorspace=space, fastdct=True)
    except ValueError:
        image.load()  # raises for a truncated file, but not for harmless oddities (bytes between segments)
        pixels = simplejpeg.decode_jpeg(data, colorspace=space, fastdct=True, strict=False)
    if space != "CMYK":
        return np.asarray(pixels, dtype=np.uint8)
    wide = np.asarray(pixels, dtype=np.uint16)
    if "adobe" not in image.info:  # Adobe's files are stored inverted
        wide = 255 - wide
    blended: Pixels = (wide[..., :3] * wide[..., 3:] // 255).astype(np.uint8)
    return blended


def _pixels(image: Image.Image) -> Pixels:
    """Decodes with Pillow, and converts with Pillow where the reference does the same."""
    if image.format == "GIF":
        return _first_frame(image)
    image.load()
    image.info.pop("transparency", None)  # dropped like alpha; Pillow would warn about it
    if image.mode.startswith("I"):  # 16-bit grey: the high byte, where Pillow would clip
        high: Pixels = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return high[..., None]
    if image.mode in ("1", "L"):
        return _array(image, "L")[..., None]
    if image.mode == "LA":
        return np.asarray(image.getchannel(0), dtype=np.uint8)[..., None]
    return _array(image, "RGB")


def _array(image: Image.Image, mode: str) -> Pixels:
    return np.asarray(image if image.mode == mode else image.convert(mode), dtype=np.uint8)


def _first_frame(image: Image.Image) -> Pixels:
    """An animation's first frame; the canvas outside of it and transparent pixels are black."""
    left, upper, right, lower = image.tile[0][1]
    layers = np.asarray(image.convert("RGBA"), dtype=np.uint8)
    pixels = np.zeros((*layers.shape[:2], 3), np.uint8)
    shown = layers[upper:lower, left:right]
    pixels[upper:lower, left:right] = shown[..., :3] * (shown[..., 3:] > 0)
    return pixels


def _orientation(image: Image.Image, read: Callable[[Any], Any] = lambda image: image.getexif()) -> Any:
    """The EXIF orientation; 1, upright, where the tag is absent or damaged.

    A PNG without the tag is decoded for one that follows the pixels; not if `read` is Image.Image.getexif.
    """
    try:
        return read(image).get(0x0112, 1)
    except Exception:  # the pixels may be intact even if the metadata is not
        return 1


def _upright(pixels: Pixels, turn: Any) -> Pixels:
    """Undoes an EXIF orientation (1 to 8; anything else is taken as upright)."""
    if turn in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
