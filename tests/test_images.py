"""Images of every kind, damaged ones, and the resize family against slow readings of its formulas."""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from evalkit.errors import ImageError, UserError
from evalkit.images import prepare, resize
from evalkit.types import ImageRef, Preparation

RNG = np.random.default_rng(5)
COLOUR = RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def same(array: npt.NDArray[Any], other: npt.NDArray[Any]) -> None:
    np.testing.assert_array_equal(array, other)
    assert array.dtype == np.uint8
    assert array.flags.c_contiguous
    assert array.flags.writeable


# --- decoding ----------------------------------------------------------------------------------


def test_lossless_kinds() -> None:
    picture, grey = Image.fromarray(COLOUR), Image.fromarray(GREY)
    for kind, options in (("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("PPM", {})):
        same(prepare.decode(saved(picture, kind, **options)), COLOUR)
    same(prepare.decode(saved(grey, "PNG")), np.stack([GREY] * 3, axis=2))
    bits = grey.point(lambda value: 255 * (value > 127)).convert("1")
    same(
        prepare.decode(saved(bits, "PNG")),
        np.where(np.stack([GREY] * 3, axis=2) > 127, 255, 0).astype(np.uint8),
    )


def test_alpha_is_dropped_not_blended() -> None:
    layers = np.dstack([COLOUR, np.zeros_like(GREY)])
    same(prepare.decode(saved(Image.fromarray(layers), "PNG")), COLOUR)
    pair = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(np.zeros_like(GREY))])
    same(prepare.decode(saved(pair, "PNG")), np.stack([GREY] * 3, axis=2))


def test_palette_with_and_without_transparency() -> None:
    palette = Image.fromarray(COLOUR).quantize(8)
    shown = np.asarray(palette.convert("RGB"))
    same(prepare.decode(saved(palette, "PNG")), shown)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(prepare.decode(saved(palette, "PNG", transparency=bytes([0, 128, 255]))), shown)


def test_sixteen_bits_keep_the_high_byte() -> None:
    deep = RNG.integers(0, 65536, (5, 6), dtype=np.uint16)
    expected = np.stack([(deep >> 8).astype(np.uint8)] * 3, axis=2)
    same(prepare.decode(saved(Image.fromarray(deep), "PNG")), expected)


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.fromarray(np.full((4, 5, 3), value, np.uint8)) for value in (10, 200)]
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=40, **options)
        same(prepare.decode(data), np.full((4, 5, 3), 10, np.uint8))


def test_what_a_gif_leaves_open_is_black() -> None:
    palette = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
    palette.putpalette([90, 91, 92, 50, 60, 70])
    pixels = prepare.decode(saved(palette, "GIF", transparency=0))
    same(pixels, np.array([[[0, 0, 0], [50, 60, 70]], [[50, 60, 70], [0, 0, 0]]], np.uint8))
    data = bytearray(saved(palette, "GIF"))
    data[6:10] = struct.pack("<HH", 4, 3)  # a canvas larger than the frame
    pixels = prepare.decode(bytes(data))
    assert pixels.shape == (3, 4, 3)
    assert pixels[2].max() == pixels[:, 2:].max() == 0
    assert tuple(pixels[0, 0]) == (90, 91, 92)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_is_ignored_or_applied(turn: int, kind: str) -> None:
    turned = Image.Exif()
    turned[0x0112] = turn
    data = saved(Image.fromarray(COLOUR), kind, exif=turned)
    stored = Image.open(io.BytesIO(data))
    same(prepare.decode(data, jpeg="precise"), np.asarray(stored.convert("RGB")))
    upright = (
        ImageOps.exif_transpose(stored.convert("RGB")) if kind == "JPEG" else ImageOps.exif_transpose(stored)
    )
    same(prepare.decode(data, jpeg="precise", exif="apply"), np.asarray(upright))
    assert prepare.decode(data, exif="apply").shape == np.asarray(upright).shape
    for exif in ("apply", "ignore"):
        assert prepare.decoded_size(data, exif) == prepare.decode(data, exif=exif).shape[:2]


def test_jpeg_kinds() -> None:
    for mode in ("L", "RGB", "CMYK"):
        data = saved(Image.fromarray(COLOUR).convert(mode), "JPEG", quality=90)
        precise = prepare.decode(data, jpeg="precise")
        same(precise, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
        fast = prepare.decode(data).astype(int)
        assert 0 < np.abs(fast - precise).max() <= 10  # another rounding, the same picture


def test_cut_off_jpeg_is_refused_and_an_odd_one_read() -> None:
    data = saved(Image.fromarray(COLOUR), "JPEG")
    with pytest.raises(ImageError, match="cannot be decoded"):
        prepare.decode(data[: len(data) * 2 // 3])
    odd = data[:-2] + b"\x00" * 7 + data[-2:]  # bytes before the end marker: libjpeg warns
    same(prepare.decode(odd), prepare.decode(data))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"hello", "is not an image of a known kind"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "is not an image of a known kind"),
        (png_header(30_000, 30_000), "megapixels"),
        (png_header(60_000, 60_000), "megapixels"),
        (png_header(2_000_000, 1), "megapixels"),
        (png_header(5, 5), "cannot be decoded"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 30, "x.png: "),
        (b"\xff\xd8\xff\xe0", "x.png: "),
        (b"GIF89a\x05\0\x05\0\0\0\0", "x.png: "),
    ],
)
def test_damaged_images_and_bombs(data: bytes, message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        with pytest.raises(ImageError, match=message) as caught:
            prepare.decode(data, where="x.png")
        if data != png_header(5, 5):  # its header is sound
            with pytest.raises(ImageError, match=message):
                prepare.decoded_size(data, where="x.png")
    assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP"]), data=st.data())
def test_any_damage_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    changed = bytearray(saved(Image.fromarray(COLOUR), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    content, size = bytes(changed[: data.draw(st.integers(1, len(changed)))]), None
    with contextlib.suppress(ImageError):
        size = prepare.decoded_size(content)
    try:
        pixels = prepare.decode(content)
    except ImageError:
        return
    assert size == pixels.shape[:2]
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3


def test_prepare(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved(Image.fromarray(GREY), "PNG"))
    done = prepare.prepare(ImageRef(str(path)), Preparation(28, antialias=True))
    assert (done.size, done.digest) == ((12, 17), hashlib.sha256(path.read_bytes()).hexdigest())
    same(done.pixels, resize.resize(np.stack([GREY] * 3, axis=2), 28, antialias=True))
    path.write_bytes(b"x")
    with pytest.raises(ImageError, match=r"a\.png"):
        prepare.prepare(ImageRef(str(path)), Preparation(28))


# --- resizing ----------------------------------------------------------------------------------

f4 = np.float32


def slow_plain(image: npt.NDArray[np.uint8], out: int) -> npt.NDArray[np.uint8]:
    """The formula of plain bilinear, pixel by pixel."""
    height, width, _ = image.shape

    def near(i: int, length: int) -> tuple[int, int, Any]:
        x = f4(f4(i) + f4(0.5)) * f4(f4(length) / f4(out)) - f4(0.5)
        return max(int(np.floor(x)), 0), min(int(np.ceil(x)), length - 1), x - np.floor(x)

    result = np.empty((out, out, 3), np.uint8)
    for i in range(out):
        top, bottom, t = near(i, height)
        for j in range(out):
            left, right, u = near(j, width)
            above, below = image[top].astype(f4), image[bottom].astype(f4)
            a = above[left] + (above[right] - above[left]) * u
            b = below[left] + (below[right] - below[left]) * u
            result[i, j] = np.clip(a + (b - a) * t, 0, 255).astype(np.uint8)
    return result


def slow_antialiased(image: npt.NDArray[np.uint8], out: int) -> npt.NDArray[np.uint8]:
    """The formula of the antialiased triangle, tap by tap."""

    def reduced(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        length = len(rows)
        inverse = f4(1) / (f4(out) / f4(length))
        support = max(f4(1), inverse)
        result = np.empty((out, *rows.shape[1:]), f4)
        for i in range(out):
            centre = (f4(i) + f4(0.5)) * inverse
            first = max(int(np.ceil(centre - support - f4(0.5))), 0)
            last = min(int(np.floor(centre + support - f4(0.5))), length - 1)
            taps = range(first, last + 1)
            weights = [max(f4(0), f4(1) - abs((f4(j) + f4(0.5) - centre) * (f4(1) / support))) for j in taps]
            total = f4(0)
            for weight in weights:
                total += weight
            value = np.zeros(rows.shape[1:], f4)
            for j, weight in zip(taps, weights, strict=True):
                value += rows[j] * (weight * (f4(1) / total))
            result[i] = value
        return result

    rows = reduced(image.astype(f4))
    return np.clip(reduced(rows.transpose(1, 0, 2)).transpose(1, 0, 2), 0, 255).astype(np.uint8)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 24), st.booleans(), st.integers(0, 99))
def test_resize_equals_its_formula(height: int, width: int, out: int, antialias: bool, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    slow = slow_antialiased if antialias else slow_plain
    same(resize.resize(image, out, antialias=antialias), slow(image, out))


@pytest.mark.parametrize("antialias", [False, True])
def test_strips_do_not_change_a_byte(monkeypatch: pytest.MonkeyPatch, antialias: bool) -> None:
    image = RNG.integers(0, 256, (301, 222, 3), dtype=np.uint8)
    whole = resize.resize(image, 64, antialias=antialias)
    for floats in (1, 3000, 1 << 30):
        monkeypatch.setattr(resize, "STRIPS", {False: floats, True: floats})
        same(resize.resize(image, 64, antialias=antialias), whole)


@pytest.mark.parametrize("shape", [(1, 100_000, 3), (100_000, 1, 1)])
def test_very_long_images(shape: tuple[int, int, int]) -> None:
    image = np.full(shape, 77, np.uint8)
    for antialias in (False, True):
        resized = resize.resize(image, 224, antialias=antialias)
        assert np.abs(resized.astype(int) - 77).max() <= 1


@pytest.mark.parametrize("size", [(480, 640), (640, 427), (50, 31), (224, 224)])
def test_bicubic_is_the_processor_s(size: tuple[int, int]) -> None:
    processors = pytest.importorskip("transformers.models.siglip.image_processing_pil_siglip")
    image = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    processor = processors.SiglipImageProcessorPil(
        size={"height": 224, "width": 224}, do_normalize=False, do_rescale=False
    )
    expected = processor(images=Image.fromarray(image), return_tensors="np")["pixel_values"][0]
    same(prepare._rgb(resize.resize(image, 224, "bicubic")), expected.transpose(1, 2, 0).astype(np.uint8))
    grey = resize.resize(image[..., :1], 224, "bicubic")
    expected = processor(images=Image.fromarray(image[..., 0]), return_tensors="np")["pixel_values"][0]
    same(np.repeat(grey, 3, axis=2), expected.transpose(1, 2, 0).astype(np.uint8))


def test_without_simplejpeg_no_image_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simplejpeg", None)  # its import fails
    jpeg = saved(Image.fromarray(COLOUR), "JPEG")
    with pytest.raises(UserError, match="pip install simplejpeg") as found:
        prepare.decode(jpeg)
    assert not isinstance(found.value, ImageError)
    same(prepare.decode(jpeg, "precise"), np.asarray(Image.open(io.BytesIO(jpeg))).copy())
    same(prepare.decode(saved(Image.fromarray(COLOUR), "PNG")), COLOUR)


def test_unknown_method() -> None:
    with pytest.raises(ValueError, match="no method 'nearest'"):
        resize.resize(COLOUR, 8, "nearest")


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_turned_photo_is_saved_as_jpeg_once_more(mode: str, tmp_path: Path) -> None:
    image = Image.effect_noise((61, 40), 60).convert(mode)
    image.save(tmp_path / "a.png")
    ref = ImageRef(str(tmp_path / "a.png"), turn=3)
    turned = image.transpose(Image.Transpose.ROTATE_270)
    saved = io.BytesIO()
    turned.save(saved, "JPEG", quality=100, **({"subsampling": 2} if mode == "RGB" else {}))
    wanted = resize.resize(prepare.decode(saved.getvalue()), 61)
    assert np.array_equal(prepare.prepare(ref, Preparation(61)).pixels, wanted)
    precise = prepare.prepare(ref, Preparation(61, jpeg="precise")).pixels
    assert np.array_equal(precise, resize.resize(np.asarray(turned.convert("RGB")), 61))
    assert not np.array_equal(precise, wanted)
