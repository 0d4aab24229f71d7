"""Decoding and resizing against what the reference was recorded to do (folder EVALKIT_ORACLE)."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from evalkit import images

ORACLE = Path(os.environ.get("EVALKIT_ORACLE", Path(__file__).parents[2] / "shared" / "oracle"))
FILES = ("resize.json", "decode.json", "video.json", "e2e.json")  # e2e: image part only; video: floats only
present = pytest.mark.skipif(not ORACLE.is_dir(), reason=f"the oracle is not at {ORACLE} (EVALKIT_ORACLE)")


@functools.cache
def content(name: str) -> dict[str, Any]:
    if not (ORACLE / name).is_file():
        return {"cases": [], "images": []}
    loaded: dict[str, Any] = json.loads((ORACLE / name).read_text())
    return loaded


def digest(array: npt.NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def splitmix(seed: int, count: int) -> npt.NDArray[np.uint8]:
    """The recordings' generator (header `inputs`): the same bytes on every machine."""
    z = np.arange(count, dtype=np.uint64) + np.uint64(seed * 1000003)
    z = (z + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(56)).astype(np.uint8)


def generated(kind: str, seed: int, h: int, w: int) -> npt.NDArray[np.uint8]:
    y, x = np.mgrid[:h, :w]
    if kind == "noise":
        return splitmix(seed, h * w * 3).reshape(h, w, 3)
    if kind == "gray":
        return np.repeat(splitmix(seed, h * w).reshape(h, w, 1), 3, axis=2)
    if kind == "sat":
        return np.where(splitmix(seed, h * w * 3) >= 128, 255, 0).astype(np.uint8).reshape(h, w, 3)
    if kind == "smooth":
        r, g = (x * 255) // max(w - 1, 1), (y * 255) // max(h - 1, 1)
        return np.stack([r, g, ((x * y * (7 + seed)) // 64) % 256], axis=2).astype(np.uint8)
    r = ((x // (3 + seed % 5) + y // 4) % 2) * 255
    g, b = ((x // 7) % 2) * 200, ((y // (2 + seed % 3)) % 2) * 131
    return np.stack([r, g, b], axis=2).astype(np.uint8)


@present
@pytest.mark.parametrize("case", content("resize.json")["cases"], ids=lambda case: case["id"])
def test_resize_is_byte_exact(case: dict[str, Any]) -> None:
    image = generated(case["kind"], case["seed"], case["h"], case["w"])
    assert digest(image) == case["input_sha256"]
    resized = images.resize(image, case["res"], "bilinear", case["antialias"])
    grid = resized[np.ix_(case["grid_index"], case["grid_index"])]
    assert grid.tobytes().hex() == case["grid"]
    assert digest(resized) == case["output_sha256"]
    if case["kind"] == "gray":  # the one-channel path gives the same
        single = images.resize(image[..., :1], case["res"], "bilinear", case["antialias"])
        assert digest(np.repeat(single, 3, axis=2)) == case["output_sha256"]


@present
@pytest.mark.parametrize("jpeg", ["fast", "precise"])
@pytest.mark.parametrize("case", content("decode.json")["cases"], ids=lambda case: case["id"])
def test_decode_is_byte_exact(case: dict[str, Any], jpeg: str) -> None:
    pixels = images.decode(base64.b64decode(case["file_base64"]), jpeg=jpeg)
    recorded = case[jpeg]
    if "error" in recorded:  # the reference cannot read BMP precisely; for us both ways are one
        recorded = case["fast"]
    assert list(pixels.shape) == recorded["shape"][-3:]
    assert digest(pixels) == recorded["sha256"]


@present
def test_files_through_decode_and_resize() -> None:
    recorded = content("e2e.json")
    for index, image in enumerate(recorded["images"]):
        if image["png_base64"]:
            pixels = images.decode(base64.b64decode(image["png_base64"]))
        else:
            pixels = generated(image["kind"], image["seed"], image["h"], image["w"])
        for name, antialias in (("na", False), ("aa", True)):
            resized = images.resize(pixels, 224, "bilinear", antialias)
            assert digest(resized) == recorded["resized_uint8_sha256"][name][index], (index, name)


@present
def test_video_frames_stay_floats() -> None:
    case = next(case for case in content("video.json")["cases"] if case["id"] == "float_frame")
    frame = images.bilinear(generated(case["kind"], case["seed"], case["h"], case["w"]), case["res"], False)
    grid = 2 * (frame[np.ix_(case["grid_index"], case["grid_index"])] / 255) - 1
    np.testing.assert_allclose(grid.ravel()[: len(case["grid_float"])], case["grid_float"], atol=1e-6)
