"""Boxes in pixels keep their values through Python: AP is pycocotools' to the last digit."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from evalkit import registry
from evalkit.geometry import boxes
from evalkit.types import Box, Size

NAMES = ("cat", "dog", "owl")
SIZES = ((427, 640), (480, 640), (375, 500), (333, 500))


def drawn(seed: int, shares: tuple[float, ...]) -> tuple[list[Any], list[Any], list[Any]]:
    """Images, objects, and detections that are a share of an object's width: their IoU is this share."""
    rng = np.random.default_rng(seed)
    images: list[Any] = []
    objects: list[Any] = []
    found: list[Any] = []
    for i in range(120):
        height, width = SIZES[i % 4]
        images.append({"id": i, "height": height, "width": width})
        for _ in range(4):
            x, y = int(rng.integers(0, width - 130)), int(rng.integers(0, height - 130))
            w, h = (int(side) for side in rng.integers(20, 120, 2))
            here = {"image_id": i, "category_id": int(rng.integers(1, 4))}
            objects.append(
                {**here, "id": len(objects) + 1, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
            )
            share = shares[rng.integers(len(shares))]
            found.append({**here, "bbox": [x, y, w * share, h], "score": float(rng.random())})
    return images, objects, found


def reference(images: list[Any], objects: list[Any], found: list[Any]) -> tuple[float, float]:
    """AP and AP50 by pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    categories = [{"id": n, "name": name} for n, name in enumerate(NAMES, 1)]
    with contextlib.redirect_stdout(io.StringIO()):
        there = COCO()
        there.dataset = {"info": {}, "images": images, "annotations": objects, "categories": categories}
        there.createIndex()
        judge = COCOeval(there, there.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[0]), float(judge.stats[1])


def ours(
    images: list[Any], objects: list[Any], found: list[Any], made: Callable[[Any, Size], Box]
) -> tuple[float, float]:
    """AP and AP50 by evalkit, from Python."""
    metric = registry.make("metrics", "coco_ap(rank='logprob')")
    answers, targets = [], []
    for image in images:
        size, number = (image["height"], image["width"]), image["id"]
        answers.append(tuple(made(each, size) for each in found if each["image_id"] == number))
        mine = [o for o in objects if o["image_id"] == number]
        named = [{**o, "category": NAMES[o["category_id"] - 1], "box": tuple(o["bbox"])} for o in mine]
        targets.append({"size": size, "image_id": number, "categories": NAMES, "objects": named})
    rows = metric.rows(answers, targets)
    return metric.reduce(rows), metric.details(rows)["AP50"]


def in_pixels(each: Any, size: Size) -> Box:
    return Box.of_pixels(each["bbox"], size, NAMES[each["category_id"] - 1], each["score"])


def as_fractions(each: Any, size: Size) -> Box:
    x, y, w, h = each["bbox"]
    tall, wide = size
    return Box(
        y / tall, x / wide, (y + h) / tall, (x + w) / wide, NAMES[each["category_id"] - 1], each["score"]
    )


@pytest.mark.parametrize("seed", range(3))
def test_pixels_are_kept_as_given(seed: int) -> None:
    """Every overlap is a threshold exactly, so the last digit decides: 50 to 90 % of the width."""
    data = drawn(seed, (0.5, 0.6, 0.7, 0.75, 0.9))
    assert ours(*data, in_pixels) == pytest.approx(reference(*data), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_whole_pixels_survive_being_fractions(seed: int) -> None:
    """As people divided pixels by the image's sides, .504 came out where .505 is published."""
    images, objects, found = drawn(seed, (0.5, 0.75))
    for each, detected, share in zip(objects, found, itertools.cycle((0.5, 0.75))):
        x, y, w, h = each["bbox"]
        each["bbox"] = [x, y, w // 4 * 4, h]
        detected["bbox"] = [x, y, round(w // 4 * 4 * share), h]
    expected = reference(images, objects, found)
    assert ours(images, objects, found, as_fractions) == pytest.approx(expected, abs=1e-12)


def test_a_box_of_pixels_is_a_box() -> None:
    box = Box.of_pixels((10, 20.25, 30, 40.1), (100, 200), "cat", 0.5)
    assert box.coordinates == (0.2025, 0.05, 0.6035, 0.2)
    assert (box.label, box.score, box.pixels) == ("cat", 0.5, (10.0, 20.25, 30.0, 40.1))
    assert boxes.coco(box, (100, 200)) == (10.0, 20.25, 30.0, 40.1)
    assert boxes.coco(Box(0, 0, 1, 1), (427, 640)) == (0, 0, 640, 427)
    for size in SIZES:
        for x in (0.1, 17, 33.33, 258.15, 411.42):
            fractions = Box(x / size[0], x / size[1], (x + 7.7) / size[0], (x + 9.3) / size[1])
            assert boxes.coco(fractions, size) == (x, x, 9.3, 7.7)
    target = {"size": (100, 200), "box": (20.25, 10, 60.35, 40)}
    for spelled in ("box_iou", "box_accuracy(iou=0.95)"):
        metric = registry.make("metrics", spelled)
        assert metric.reduce(metric.rows([(box,)], [target])) == pytest.approx(1.0, abs=1e-12)
