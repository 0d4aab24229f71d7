"""The world in every layout: the same targets, and the same score to the last digit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from own_world import CLASSES, LAYOUTS, SIZES, THINGS, of

from evalkit import registry
from evalkit.geometry import rle
from evalkit.types import Box, Mask, Sample

KINDS = pytest.mark.parametrize("polygons", [False, True], ids=["boxes", "polygons"])


def read(root: Path, name: str, polygons: bool) -> list[Sample]:
    spelling, write = LAYOUTS[name]
    return list(registry.make("formats", spelling).samples(write(root, polygons), "val"))


def answer(image: str) -> tuple[Mask, ...]:
    """What a model may say: every object moved by one to three pixels, and the last one as another class."""
    height, width = SIZES[image]
    found = []
    for number, thing in enumerate(of(image), 1):
        x, y, w, h = thing.box
        label = thing.category if number < 3 else "cat"
        box = Box((y + number) / height, x / width, (y + h + number) / height, (x + w) / width, label)
        moved = [part + number * (n % 2) for n, part in enumerate(thing.polygon)]
        coded = rle.rle([moved], (height, width))["counts"].decode()
        found.append(Mask((height, width), coded, box, label))
    return tuple(found)


def score(samples: Sequence[Sample], spelling: str) -> dict[str, float]:
    metric = registry.make("metrics", spelling)
    rows = metric.rows([answer(s.cluster.split("/")[-1]) for s in samples], [s.target for s in samples])
    return {"AP": metric.reduce(rows), **metric.details(rows)}


@pytest.mark.parametrize("name", LAYOUTS)
@KINDS
def test_every_layout_gives_the_same_targets(tmp_path: Path, name: str, polygons: bool) -> None:
    samples = read(tmp_path, name, polygons)
    assert [s.cluster for s in samples] == list(SIZES)
    assert [s.size for s in samples] == list(SIZES.values())
    for number, (image, sample) in enumerate(zip(SIZES, samples, strict=True)):
        target = sample.target
        assert sample.fields == {"categories": " ; ".join(CLASSES)}
        assert (target["size"], target["image_id"], target["categories"]) == (SIZES[image], number, CLASSES)
        assert [o["category"] for o in target["objects"]] == [t.category for t in of(image)]
        for thing, found in zip(of(image), target["objects"], strict=True):
            assert found["box"] == pytest.approx(thing.box, abs=1e-9)
            assert found["iscrowd"] == 0
            assert found["area"] == pytest.approx(thing.area if polygons else thing.box[2] * thing.box[3])
            assert ("segmentation" in found) == polygons
            if polygons:
                assert found["segmentation"][0] == pytest.approx(thing.polygon, abs=1e-9)


@pytest.mark.parametrize(
    ("spelling", "polygons"), [("coco_ap", False), ("coco_ap", True), ("coco_ap(region='masks')", True)]
)
def test_every_layout_gives_the_same_score(tmp_path: Path, spelling: str, polygons: bool) -> None:
    scores = {name: score(read(tmp_path / name, name, polygons), spelling) for name in LAYOUTS}
    right = scores.pop("coco_detection")
    assert 0.1 < right["AP"] < 0.9
    assert scores
    assert all(found == right for found in scores.values()), scores


def test_the_world_is_what_it_says() -> None:
    assert {thing.image for thing in THINGS} < set(SIZES)
    assert {thing.category for thing in THINGS} == set(CLASSES)
