"""The world in every layout: the same targets, and the same score to the last digit."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from own_world import CLASSES, LAYOUTS, SIZES, THINGS, of, pictures, yolo
from PIL import Image

from evalkit import registry
from evalkit.errors import DataError
from evalkit.evaluation import own_data
from evalkit.geometry import rle
from evalkit.tasks import dataset, loader
from evalkit.tasks.layouts.reading import dumped
from evalkit.tasks.layouts.recognise import recognise
from evalkit.types import Box, Mask, Sample, Source

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


# --- as other tools write it -------------------------------------------------------------------

GOLDEN = json.loads((Path(__file__).parent / "golden" / "own_layouts.json").read_text())
YAML = "val: images/val\nnames: [cat, dog]\n"


def unpack(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("tool", "what", "spelling", "images", "more"),
    [
        ("supervision", "yolo", "yolo", "images", "val: images\n"),
        ("supervision", "voc", "voc", "images", ""),
        ("ultralytics", "boxes", "yolo", "images/val", YAML),
        ("ultralytics", "polygons", "yolo", "images/val", YAML),
    ],
)
def test_what_other_tools_write(
    tmp_path: Path, tool: str, what: str, spelling: str, images: str, more: str
) -> None:
    """Boxes as far as their digits go: supervision writes five, ultralytics six."""
    unpack(tmp_path, GOLDEN[tool][what])
    pictures(tmp_path / images)
    if more:
        with (tmp_path / "data.yaml").open("a") as file:
            file.write(more)
    source = Source(tmp_path, {"path": "."}, "t")
    samples = list(registry.make("formats", spelling).samples(source, "val"))
    assert [s.size for s in samples] == list(SIZES.values())
    for image, sample in zip(SIZES, samples, strict=True):
        objects = sample.target["objects"]
        assert [o["category"] for o in objects] == [t.category for t in of(image)]
        for thing, found in zip(of(image), objects, strict=True):
            assert found["box"] == pytest.approx(thing.box, abs=2e-3)
            if what == "polygons":
                assert found["segmentation"][0] == pytest.approx(thing.polygon, abs=2e-4)
    left = [text for text in source.remarks.said() if "c.txt: is not there" not in text]
    assert left == []


@pytest.mark.parametrize(("line", "n"), GOLDEN["lines"])
def test_lines_are_judged_as_ultralytics_does(tmp_path: Path, line: str, n: int) -> None:
    yolo(tmp_path, False)
    (tmp_path / "labels/val/c.txt").write_text(line)
    source = Source(tmp_path, {"path": "data.yaml"}, "t")
    samples = list(registry.make("formats", "yolo").samples(source, "val"))
    assert len(samples[2].target["objects"]) == max(n, 0)
    assert any("c.txt: line 1: " in text and "is left out" in text for text in source.remarks.said()) == (
        n < 0
    )


# --- damaged -----------------------------------------------------------------------------------

SIGNS = "0123456789.-+e \n\t:[]{},'\"&*!|>#%@<ab/\\\0\x85\u2028é"


@pytest.mark.parametrize(
    ("name", "file"),
    [("yolo", "data.yaml"), ("yolo", "labels/val/a.txt"), ("voc", "Annotations/a.xml"),
     ("voc", "ImageSets/Main/val.txt"), ("voc, flat", "valid/a.xml")],
)  # fmt: skip
def test_damaged_files_are_read_or_refused(tmp_path: Path, name: str, file: str) -> None:
    """One sentence each, and no other error."""
    spelling, write = LAYOUTS[name]
    source, chance = write(tmp_path, True), random.Random(file)
    whole = (tmp_path / file).read_text()
    for _ in range(100):
        text = whole
        for _ in range(chance.randint(1, 4)):
            place, wide = chance.randrange(len(text) + 1), chance.randint(0, 4)
            text = (
                text[:place] + "".join(chance.choices(SIGNS, k=chance.randint(0, 3))) + text[place + wide :]
            )
        (tmp_path / file).write_text(text)
        given = Source(tmp_path, source.entry, "t")
        try:
            samples = list(registry.make("formats", spelling).samples(given, "val"))
            sentences = given.remarks.said()
        except DataError as error:
            samples, sentences = [], (str(error),)
        assert all(each.startswith(str(tmp_path)) and "\n" not in each for each in sentences)
        assert len({sample.id for sample in samples}) == len(samples)
        json.dumps([[sample.fields, sample.target] for sample in samples]).encode()


def test_the_world_is_what_it_says() -> None:
    assert {thing.image for thing in THINGS} < set(SIZES)
    assert {thing.category for thing in THINGS} == set(CLASSES)


@pytest.mark.parametrize(
    ("layout", "what"),
    [("yolo", "pipe"), ("yolo", "link"), ("voc", "pipe"), ("voc", "link"), ("conversations", "pipe")],
)
def test_a_pipe_or_a_link_to_elsewhere_is_not_opened(layout: str, what: str, tmp_path: Path) -> None:
    """A pipe was waited for, and a link followed out of the data root."""
    root = tmp_path / "data"
    Image.new("RGB", (20, 10)).save(_folder(root / "images") / "a.png")
    elsewhere = tmp_path / "secret.txt"
    elsewhere.write_text("0 .5 .5 .1 .1\n")
    keys: dict[str, str] = {"path": "."}
    if layout == "yolo":
        (root / "data.yaml").write_text("val: images\nnames: [cat]\n")
        Image.new("RGB", (20, 10)).save(root / "images" / "b.png")
        (_folder(root / "labels") / "b.txt").write_text("0 .5 .5 .1 .1\n")
        strange = root / "labels" / "a.txt"
        keys = {"path": "data.yaml"}
    elif layout == "voc":
        strange = _folder(root / "Annotations") / "a.xml"
        (root / "images").rename(root / "JPEGImages")
    else:
        strange = root / "talks.json"
        keys = {"path": "talks.json"}
    if what == "pipe":
        os.mkfifo(strange)
    else:
        strange.symlink_to(elsewhere)
    source = {"format": layout, "split": "val", "sources": [keys]}
    content = {"version": 1, "about": "x", "license": "y", "prompt": "what?", "parser": "text"}
    file = tmp_path / "t.yaml"
    file.write_text(json.dumps({**content, "not_scored": "no", "data": source}))
    said = "is a pipe" if what == "pipe" else "is outside of the data roots"
    task = loader.load(str(file))
    if layout == "conversations":
        with pytest.raises(DataError, match=said):
            dataset.dataset(task, [root])
        return
    data = dataset.dataset(task, [root])
    assert any(said in remark for remark in data.remarks)
    assert not data.samples[0].target


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.parametrize("what", ["boxes", "polygons"])
@pytest.mark.parametrize("listed", ["images/val", "autosplit_val.txt"])
def test_what_ultralytics_writes_is_recognised(what: str, listed: str, tmp_path: Path) -> None:
    """Its converter's labels and its autosplit's list, with a data.yaml as it ships them."""
    root = tmp_path / "set"
    unpack(root, GOLDEN["ultralytics"][what])
    pictures(root / "images" / "val")
    if listed.endswith(".txt"):
        text = GOLDEN["ultralytics"]["split"][listed].replace("./images/", "./images/val/")
        unpack(root, {listed: text})
    unpack(root, {"data.yaml": f"path: set\ntrain:\nval: {listed}\nnames:\n  0: cat\n  1: dog\n"})
    found = recognise(root)
    assert (found.split, found.samples, list(found.classes)) == ("valid", 3, list(CLASSES))
    assert any("polygons" in note for note in found.notes) == (what == "polygons")
    data = dataset.dataset(own_data.read(found, found.drafts[0], {}), [root])
    assert [[o["category"] for o in s.target["objects"]] for s in data.samples] == [
        [thing.category for thing in of(image)] for image in SIZES
    ]


@pytest.mark.parametrize("layout", ["yolo", "voc"])
def test_what_supervision_writes_is_recognised(layout: str, tmp_path: Path) -> None:
    """As it lies: no split is named, and images are in a folder beside the labels."""
    root = tmp_path / "set"
    unpack(root, GOLDEN["supervision"][layout])
    pictures(root / "images")
    found = recognise(root)
    assert (found.split, found.samples, list(found.classes)) == ("", 3, list(CLASSES))
    (draft,) = found.drafts
    task = tmp_path / "mine.yaml"
    task.write_text(dumped(draft.content))
    samples = dataset.dataset(loader.load(str(task)), [root]).samples
    assert [[o["category"] for o in s.target["objects"]] for s in samples] == [
        [thing.category for thing in of(image)] for image in SIZES
    ]
