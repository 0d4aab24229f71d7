"""Decoding and resizing against what the reference was recorded to do (folder EVALKIT_ORACLE)."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from oracle_inputs import ABSENT, FOLDER
from oracle_inputs import image as generated
from PIL import Image

from evalkit.data import containers
from evalkit.images import draw, prepare, resize
from evalkit.types import ImageRef, Preparation

present = pytest.mark.skipif(not FOLDER.is_dir(), reason=ABSENT)


@functools.cache
def content(name: str) -> dict[str, Any]:
    if not (FOLDER / name).is_file():
        return {"cases": [], "images": []}
    loaded: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return loaded


def digest(array: npt.NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@present
@pytest.mark.parametrize("case", content("resize.json")["cases"], ids=lambda case: case["id"])
def test_resize_is_byte_exact(case: dict[str, Any]) -> None:
    image = generated(case)
    assert digest(image) == case["input_sha256"]
    resized = resize.resize(image, case["res"], "bilinear", case["antialias"])
    grid = resized[np.ix_(case["grid_index"], case["grid_index"])]
    assert grid.tobytes().hex() == case["grid"]
    assert digest(resized) == case["output_sha256"]
    if case["kind"] == "gray":  # the one-channel path gives the same
        single = resize.resize(image[..., :1], case["res"], "bilinear", case["antialias"])
        assert digest(np.repeat(single, 3, axis=2)) == case["output_sha256"]


@present
@pytest.mark.parametrize("jpeg", ["fast", "precise"])
@pytest.mark.parametrize("case", content("decode.json")["cases"], ids=lambda case: case["id"])
def test_decode_is_byte_exact(case: dict[str, Any], jpeg: str) -> None:
    pixels = prepare.decode(base64.b64decode(case["file_base64"]), jpeg=jpeg)
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
            pixels = prepare.decode(base64.b64decode(image["png_base64"]))
        else:
            pixels = generated(image)
        for name, antialias in (("na", False), ("aa", True)):
            resized = resize.resize(pixels, 224, "bilinear", antialias)
            assert digest(resized) == recorded["resized_uint8_sha256"][name][index], (index, name)


@present
def test_video_frames_stay_floats() -> None:
    case = next(case for case in content("video.json")["cases"] if case["id"] == "float_frame")
    frame = resize.bilinear(generated(case), case["res"], False)
    grid = 2 * (frame[np.ix_(case["grid_index"], case["grid_index"])] / 255) - 1
    np.testing.assert_allclose(grid.ravel()[: len(case["grid_float"])], case["grid_float"], atol=1e-6)


@present
@pytest.mark.parametrize("case", content("draw_bbox.json")["cases"], ids=lambda case: case["id"])
def test_drawn_box_is_byte_exact(case: dict[str, Any]) -> None:
    image = generated(case)
    draw.outline(image, tuple(case["box_ymin_xmin_ymax_xmax"]), (255, 0, 0))
    assert digest(image) == case["output_uint8_sha256"]


@present
def test_order_of_frames() -> None:
    for case in content("video.json")["cases"]:
        if "frame_order" in case:
            there = min(case["num_input_frames"], case["num_frames"])
            assert containers.frame_order(there, case["num_frames"]) == case["frame_order"]


@present
def test_video_frames_stay_floats_when_prepared(tmp_path: Path) -> None:
    case = next(case for case in content("video.json")["cases"] if case["id"] == "float_frame")
    path = tmp_path / "frame.png"
    Image.fromarray(generated(case)).save(path)
    prepared = prepare.prepare(ImageRef(str(path)), Preparation(case["res"], floats=True))
    grid = prepared.pixels[np.ix_(case["grid_index"], case["grid_index"])] / 255 * 2 - 1
    np.testing.assert_allclose(grid.ravel()[: len(case["grid_float"])], case["grid_float"], atol=1e-6)
