"""Resizes images to squares, bit for bit as the reference or Pillow does. Knows no file and no preparation.
Arrays are (height, width, channels)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

STRIPS = {False: 1 << 15, True: 1 << 18}  # floats in a strip, by antialias; chosen by measuring


def resize(image: Pixels, resolution: int, method: str = "bilinear", antialias: bool = False) -> Pixels:
    """(h, w, c) to (resolution, resolution, c), aspect ratio not kept, as uint8.

    "bilinear": tf.image.resize, clipped and truncated (not rounded), as big_vision's `resize`.
    "bicubic": Pillow's, as transformers' SiglipImageProcessorPil.
    """
    if method == "bicubic":
        source = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        resized = source.resize((resolution, resolution), Image.Resampling.BICUBIC)
        return np.asarray(resized, dtype=np.uint8).reshape(resolution, resolution, image.shape[2])
    if method != "bilinear":
        raise ValueError(f"resize: no method '{method}'; there are: bicubic, bilinear")
    if image.shape[:2] == (resolution, resolution):
        return image
    out = np.empty((resolution, resolution, image.shape[2]), np.uint8)
    for top, floats in _strips(image, resolution, antialias):
        out[top : top + len(floats)] = np.clip(floats, 0, 255, out=floats).astype(np.uint8)
    return out


def bilinear(image: Pixels, resolution: int, antialias: bool) -> Floats:
    """tf.image.resize (half-pixel centres) before the cast to uint8: floats from 0 to 255."""
    out = np.empty((resolution, resolution, image.shape[2]), np.float32)
    for top, floats in _strips(image, resolution, antialias):
        out[top : top + len(floats)] = floats
    return out


def _strips(image: Pixels, resolution: int, antialias: bool) -> Iterator[tuple[int, Floats]]:
    """Strips of the resized image, each with its first row's number.

    Strips are small enough for the processor's cache, and for malloc to reuse memory without returning it
    to the system: with whole images, page faults cost more than the arithmetic.
    """
    width, channels = image.shape[1:]
    widest = (max(width, resolution) if antialias else resolution) * channels
    step = max(1, min(resolution, STRIPS[antialias] // widest))
    make = _reduced_strip if antialias else _interpolated_strip
    for top in range(0, resolution, step):
        yield top, make(image, resolution, top, min(top + step, resolution))


def _reduced_strip(image: Pixels, resolution: int, top: int, end: int) -> Floats:
    """Output rows top..end (end excluded) with antialias: rows first, then columns."""
    height, width, channels = image.shape
    rows = _reduced(image.reshape(height, width * channels), height, resolution, top, end)
    turned = rows.reshape(-1, width, channels).transpose(1, 0, 2).reshape(width, -1)
    columns = _reduced(turned, width, resolution, 0, resolution)
    return columns.reshape(resolution, -1, channels).transpose(1, 0, 2)


def _reduced(rows: npt.NDArray[Any], length: int, out: int, start: int, stop: int) -> Floats:
    """Output rows start..stop of the antialiased pass over axis 0: (length, m) to (stop - start, m).

    Taps are added in order, with one float32 rounding for each product and each sum; shorter rows are filled
    up with taps of weight 0, which add exactly nothing.
    """
    first, weights = _triangle(length, out)
    taps = weights.shape[1]
    m = rows.shape[1]
    result = np.empty((stop - start, m), np.float32)
    block = max(1, min(64, 32768 // m))  # so that a block stays in the cache
    spare = np.empty((block, m) if taps < 12 else (taps, m), np.float32)
    for top in range(start, stop, block):
        end = min(top + block, stop)
        low = int(first[top])
        inputs = rows[low : int(first[end - 1]) + taps].astype(np.float32, copy=False)
        _blend(inputs, first[top:end] - low, weights[top:end], spare, result[top - start : end - start])
    return result


def _blend(inputs: Floats, first: Places, weights: Floats, spare: Floats, out: Floats) -> None:
    """out[i] = Σ_k weights[i, k] · inputs[first[i] + k], k ascending."""
    taps, last = weights.shape[1], len(inputs) - 1
    if taps >= 12:  # few outputs from many inputs: slices are faster than gathering
        for i, low in enumerate(first.tolist()):
            part = inputs[low : low + taps]
            products = np.multiply(part, weights[i, : len(part), None], out=spare[: len(part)])
            np.add.reduce(products, axis=0, out=out[i])
        return
    products = spare[: len(out)]
    for k in range(taps):
        into = products if k else out
        np.take(inputs, np.minimum(first + k, last), axis=0, out=into, mode="clip")
        np.multiply(into, weights[:, k, None], out=into)
        if k:
            np.add(out, products, out=out)


@functools.lru_cache(maxsize=128)
def _triangle(length: int, out: int) -> tuple[Places, Floats]:
    """First tap (out,) and weights (out, taps) of tf's antialiased triangle, all in float32."""
    one, half = np.float32(1), np.float32(0.5)
    inverse = one / (np.float32(out) / np.float32(length))
    support = max(inverse, one)
    centre = (np.arange(out, dtype=np.float32) + half) * inverse
    first = np.maximum(np.ceil(centre - support - half).astype(np.int64), 0)
    last = np.minimum(np.floor(centre + support - half).astype(np.int64), length - 1)
    tap = first[:, None] + np.arange(int((last - first).max()) + 1)
    distance = np.abs((tap.astype(np.float32) + half - centre[:, None]) * (one / support))
    weights = np.where(tap <= last[:, None], np.maximum(np.float32(0), one - distance), np.float32(0))
    total = np.zeros(out, np.float32)
    for column in weights.T:  # summed in order, as the reference does
        total += column
    return first, np.ascontiguousarray(weights * (one / total)[:, None], dtype=np.float32)


def _interpolated_strip(image: Pixels, resolution: int, top: int, end: int) -> Floats:
    """Output rows top..end (end excluded), interpolated along x first, then along y: a + (b - a) · t."""
    height, width, channels = image.shape
    low, high, t = (part[top:end] for part in _nearest(height, resolution))
    left, right, u = _columns(width, resolution, channels)
    first = int(low[0])
    rows = image.reshape(height, width * channels)
    if high[-1] - first < 4 * len(low):  # neighbours share rows: each is interpolated once
        needed, low, high = rows[first : high[-1] + 1], low - first, high - first
    else:
        needed, count = rows[np.concatenate([low, high])], len(low)
        low, high = np.arange(count), np.arange(count, 2 * count)
    a = needed.take(left, axis=1).astype(np.float32)
    b = needed.take(right, axis=1).astype(np.float32)
    a += (b - a) * u
    above, below = a[low], a[high]
    above += (below - above) * t[:, None]
    return above.reshape(-1, resolution, channels)


@functools.lru_cache(maxsize=128)
def _columns(length: int, out: int, channels: int) -> tuple[Places, Places, Floats]:
    """As `_nearest`, for the interleaved channels of a row."""
    left, right, u = _nearest(length, out)
    channel = np.arange(channels)
    places = [(side[:, None] * channels + channel).ravel() for side in (left, right)]
    return places[0], places[1], np.repeat(u, channels)


@functools.lru_cache(maxsize=128)
def _nearest(length: int, out: int) -> tuple[Places, Places, Floats]:
    """The two nearest inputs of every output, and its position between them from 0 to 1."""
    half = np.float32(0.5)
    x: Floats = (np.arange(out, dtype=np.float32) + half) * (np.float32(length) / np.float32(out)) - half
    floor = np.floor(x)
    low = np.maximum(floor, 0).astype(np.int64)
    high = np.minimum(np.ceil(x), length - 1).astype(np.int64)
    return low, high, x - floor
