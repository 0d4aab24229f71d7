"""What makes the number of somebody's own data doubtful: training images in the test split, images, rows and
objects that are there twice, two spellings of one class; said, and kept with the run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from report_runs import load
from test_layouts import lines, locations, xml

from evalkit.cli.main import main
from evalkit.data import same_images
from evalkit.tasks.layouts.reading import LICENSE
from evalkit.tasks.layouts.recognise import recognise

SHADES = {"train": {"a": 1, "b": 2, "c": 3}, "test": {"d": 2, "e": 4, "f": 4}}
"""Split -> image -> its shade: test's d is train's b, and e and f are one."""
BOX = [("cat", (1, 2, 9, 12))]
SAID = [
    "1 image of test is in train too, by content; the model may have seen them: {0}d.png = {1}b.png",
    "1 image of test is there more than once, by content: {0}e.png = {0}f.png",
]


def picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), (shade, 0, 0)).save(path)


def every(root: Path, folder: str) -> None:
    for split, images in SHADES.items():
        for name, shade in images.items():
            picture(root / folder.format(split) / f"{name}.png", shade)


def paligemma(root: Path) -> str:
    every(root, "")
    for split, images in SHADES.items():
        told = [{"image": f"{n}.png", "prefix": "detect cat", "suffix": locations(BOX)} for n in images]
        lines(root / f"_annotations.{split}.jsonl", told)
    return ""


def coco(root: Path) -> str:
    every(root, "{}")
    for split, images in SHADES.items():
        listed = [{"id": n, "file_name": f"{i}.png", "width": 20, "height": 20} for n, i in enumerate(images)]
        objects = [
            {"id": n, "image_id": n, "category_id": 0, "bbox": [1, 2, 8, 10], "iscrowd": 0} for n in range(3)
        ]
        content = {"images": listed, "annotations": objects, "categories": [{"id": 0, "name": "cat"}]}
        (root / split / "_annotations.coco.json").write_text(json.dumps(content))
    return "{}/"


def yolo(root: Path) -> str:
    every(root, "{}/images")
    (root / "data.yaml").write_text("train: train/images\ntest: test/images\nnames: [cat]\n")
    for split, images in SHADES.items():
        (root / split / "labels").mkdir()
        for name in images:
            (root / split / "labels" / f"{name}.txt").write_text("0 .5 .5 .2 .2\n")
    return "{}/images/"


def voc(root: Path) -> str:
    every(root, "JPEGImages")
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "Annotations").mkdir()
    for split, images in SHADES.items():
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(images))
        for name in images:
            (root / "Annotations" / f"{name}.xml").write_text(xml(f"{name}.png", BOX, 1))
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("\n".join("abcdef"))  # no split of its own
    return "JPEGImages/"


def flat_voc(root: Path) -> str:
    every(root, "{}")
    for split, images in SHADES.items():
        for name in images:
            (root / split / f"{name}.xml").write_text(xml(f"{name}.png", BOX, 1))
    return "{}/"


def conversations(root: Path) -> str:
    every(root, "images")
    for split, images in SHADES.items():
        told = [
            {"image": f"{n}.png", "conversations": [{"from": "human", "value": f"<image>\nwhat is {n}?"},
                                                     {"from": "gpt", "value": "a cat"}]}
            for n in images
        ]  # fmt: skip
        (root / f"{split}.json").write_text(json.dumps(told))
    return "images/"


def table(root: Path) -> str:
    every(root, "{}")
    for split, images in SHADES.items():
        rows = "".join(f"{name}.png,a {name}\n" for name in images)
        (root / split / "metadata.csv").write_text(f"file_name,text\n{rows}")
    return "{}/"


LAYOUTS: dict[str, Callable[[Path], str]] = {
    "paligemma": paligemma, "coco": coco, "yolo": yolo, "voc": voc, "flat voc": flat_voc,
    "conversations": conversations, "table": table,
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_training_images_in_the_test_split_are_told(layout: str, tmp_path: Path) -> None:
    where = LAYOUTS[layout](tmp_path)
    found = recognise(tmp_path)
    assert found.split == "test"
    assert list(found.doubts) == [s.format(where.format("test"), where.format("train")) for s in SAID]
    other = recognise(tmp_path, "train")
    assert [d.partition(",")[0] for d in other.doubts] == ["1 image of train is in test too"]
    shutil.copy(tmp_path / f"{where.format('test')}d.png", tmp_path / f"{where.format('train')}b.png")
    picture(tmp_path / f"{where.format('train')}b.png", 9)
    picture(tmp_path / f"{where.format('test')}f.png", 8)
    assert list(recognise(tmp_path).doubts) == []


def test_one_name_in_two_splits_is_one_image_and_links_are_followed(tmp_path: Path) -> None:
    paligemma(tmp_path)
    told = [{"image": n, "prefix": "detect cat", "suffix": ""} for n in ("a.png", "link.png", "gone.png")]
    lines(tmp_path / "_annotations.test.jsonl", told)
    os.symlink("b.png", tmp_path / "link.png")
    os.mkfifo(tmp_path / "gone.png")  # and a pipe is not waited for
    (doubt,) = recognise(tmp_path).doubts
    assert doubt.startswith("2 images of test are in train too, by content; the model may have seen them: ")
    assert doubt.endswith(": a.png, link.png = b.png")


def test_a_split_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    coco(tmp_path)
    path = tmp_path / "train" / "_annotations.coco.json"
    path.write_text(path.read_text().replace("c.png", "\\ud8zz"))
    (repeated, unread) = recognise(tmp_path).doubts
    assert repeated.startswith("1 image of test is there more than once")
    assert unread.startswith(f"whether images of train are in test too: {path}: ")


def test_alike_is_told_by_all_bytes(tmp_path: Path) -> None:
    """Equal sizes and equal middles are not enough, and sizes of one image alone are never read."""
    body = b"\0" * 20_000
    for name, content in {"a": body + b"1", "b": body + b"2", "c": body + b"1", "d": b"3"}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "none").touch()
    paths = [str(tmp_path / name) for name in ("a", "b", "d", "none", "gone", "a", "\0")]
    splits = {"x": same_images.Files(paths), "y": same_images.Files([str(tmp_path / "c")])}
    assert same_images.groups(splits, "x") == [[("x", str(tmp_path / "a")), ("y", str(tmp_path / "c"))]]
    assert same_images.groups(splits, "y") == [[("y", str(tmp_path / "c")), ("x", str(tmp_path / "a"))]]


def told(root: Path) -> list[str]:
    return [doubt for doubt in recognise(root).doubts if "by content" not in doubt]


def test_rows_that_are_there_twice_are_told(tmp_path: Path) -> None:
    for folder in ("lines", "table", "talks", "boxes"):
        picture(tmp_path / folder / "a.png", 1)
    line = {"image": "a.png", "prefix": "caption en", "suffix": "a cat"}
    lines(tmp_path / "lines" / "d.jsonl", [line, {**line, "suffix": "a dog"}, line, line])
    assert told(tmp_path / "lines") == [
        "d.jsonl: 2 lines say the same as one before: line 3 = line 1, line 4 = line 1"
    ]
    (tmp_path / "table" / "d.csv").write_text("image,question,answer\na.png,q,x\na.png,q,y\na.png,q,x\n")
    assert told(tmp_path / "table") == ["d.csv: 1 row says the same as one before: row 3 = row 1"]
    talk = {
        "image": "a.png",
        "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "x"}],
    }
    (tmp_path / "talks" / "d.json").write_text(json.dumps([talk, talk]))
    assert told(tmp_path / "talks") == ["d.json: 1 record says the same as one before: 1 = 0"]
    box = {"image_id": 0, "category_id": 0, "bbox": [1, 2, 3, 4], "iscrowd": 0}
    content: dict[str, Any] = {
        "images": [{"id": n, "file_name": "a.png", "width": 20, "height": 20} for n in (0, 1)],
        "annotations": [{**box, "id": 5}, {**box, "id": 6}, {**box, "id": 7, "category_id": 1}],
        "categories": [{"id": 0, "name": "Traffic light"}, {"id": 1, "name": "traffic-light"}],
    }
    (tmp_path / "boxes" / "d.json").write_text(json.dumps(content))
    assert told(tmp_path / "boxes") == [
        "d.json: 1 image says the same as one before: id 1 = id 0",
        "d.json: 1 annotation says the same as one before: id 6 = id 5",
        "'Traffic light' and 'traffic-light' are probably one class",
    ]


@pytest.mark.parametrize(
    ("classes", "alike"),
    [
        (("Cat", "cat"), True), (("traffic light", "traffic_light"), True), (("cat ", "cat"), True),
        (("caf\u00e9", "cafe\u0301"), True), (("stra\u00dfe", "STRASSE"), True), (("cat", "cats"), False),
        (("cat", "dog"), False), (("a1", "a-1"), False),
    ],
)  # fmt: skip
def test_spellings_of_one_class(classes: tuple[str, str], alike: bool, tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png", 1)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 .2 .2\n")
    (tmp_path / "data.yaml").write_text(json.dumps({"test": "images", "names": classes}))
    found = recognise(tmp_path)
    if classes[0].strip() != classes[1].strip():  # else YOLO's own reader says that they are one
        assert bool(found.doubts) == alike


def test_doubts_are_said_kept_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    coco(tmp_path / "pets")
    doubt = SAID[0].format("test/", "train/")
    assert main(["data", "pets"]) == 0
    assert f"# warning  {doubt}" in capsys.readouterr().out
    lines(tmp_path / "answers.jsonl", [{"id": str(n), "text": locations(BOX)} for n in range(3)])
    run = ["run", "--model", "replay:answers.jsonl", "--name", "m"]
    assert main([*run, "--data", "pets"]) == 0
    shown = capsys.readouterr()
    assert f"  warning  {doubt}" in shown.err
    assert f"warning: pets_test: {doubt}" in shown.out
    (folder,) = [p.parent for p in (tmp_path / "results").rglob("run.json")]
    for verb in (["table", "results"], ["table", "results", "--format", "md"], ["explain", str(folder)]):
        assert main(verb) == 0
        assert doubt in " ".join(capsys.readouterr().out.split())
    for words in ([], ["--redact"]):
        assert main(["report", "results", "--output", "pages", *words]) == 0
        first = load(tmp_path / "pages/data/report.js")[1]["look_first"][0]
        said = "the report was asked not to say how" if words else doubt
        assert first["text"].startswith("pets_test: its data is doubtful: ")
        assert said in first["text"]
        assert first["link"] == "/task/0"
    capsys.readouterr()
    again = ["--tasks", "results/tasks/pets_test.yaml", "--data-root", "pets"]
    assert main([*run, *again]) == 0
    assert json.loads((folder / "run.json").read_text())["data"]["doubts"][0] == doubt
    assert doubt in capsys.readouterr().out
    known = (tmp_path / "pets" / "train" / "b.png").read_bytes()
    for words in (again, ["--data", "pets"]):  # a task that was kept looks as well as `--data` does
        picture(tmp_path / "pets" / "train" / "b.png", 9)
        assert main([*run, *words]) == 0
        assert "is in train too" not in capsys.readouterr().out
        (tmp_path / "pets" / "train" / "b.png").write_bytes(known)
        assert main([*run, *words]) == 0
        shown = capsys.readouterr()
        assert doubt in shown.err
        assert doubt in shown.out
    picture(tmp_path / "pets" / "train" / "b.png", 9)
    changed = ["--set", "data.split=other", "--name", "n"]
    assert main(["run", "--model", "replay:answers.jsonl", *again, *changed]) == 0  # nobody knows its files
    assert "is in train too" not in capsys.readouterr().err
    own = tmp_path / "own.yaml"  # below the root of a task that was not made of it may lie all data there is
    own.write_text((tmp_path / "results/tasks/pets_test.yaml").read_text().replace(LICENSE, "mine"))
    (tmp_path / "pets" / "train" / "b.png").write_bytes(known)
    assert main([*run, "--tasks", "own.yaml", "--data-root", "pets"]) == 0
    assert "is in train too" not in capsys.readouterr().err
    picture(tmp_path / "pets" / "train" / "b.png", 9)
    assert main([*run, "--data", "pets"]) == 0
    assert len(json.loads((folder / "run.json").read_text())["data"]["doubts"]) == 1


def test_what_a_run_would_refuse_is_said_by_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    coco(tmp_path / "pets")
    file = tmp_path / "pets" / "test" / "_annotations.coco.json"
    content = json.loads(file.read_text())
    content["categories"] += [{"id": 1, "name": "cat"}, {"id": 2, "name": "a<b"}]
    file.write_text(json.dumps(content))
    (tmp_path / "pets" / "test" / "e.png").unlink()
    assert main(["data", "pets"]) == 0
    said = capsys.readouterr().out
    assert "1 category name says the same as one before: id 1 = id 0" in said
    assert "1 image of test is not there: test/e.png" in said
    assert (
        "1 class has a sign that ends a label in PaliGemma's text ('<', ';'), so no answer is right: 'a<b'"
        in said
    )


def test_classes_of_voc_that_no_file_has_are_asked_for(tmp_path: Path) -> None:
    voc(tmp_path / "official")
    (tmp_path / "official" / "ImageSets" / "Main" / "cow_test.txt").write_text("d -1\n")
    found = recognise(tmp_path / "official")
    assert found.classes == ["cat", "cow"]
    assert found.drafts[0].content["data"]["format"] == "voc(categories=('cat', 'cow'))"
    flat_voc(tmp_path / "flat")
    (tmp_path / "flat" / "classes.txt").write_text("dog\ncat\n")
    assert recognise(tmp_path / "flat").classes == ["cat", "dog"]


def test_an_own_run_is_not_explained_by_the_papers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "one" / "a.png", 1)
    lines(
        tmp_path / "one" / "d.jsonl", [{"image": "a.png", "prefix": "detect cat", "suffix": locations(BOX)}]
    )
    lines(tmp_path / "a.jsonl", [{"id": "0", "text": locations(BOX)}])
    assert main(["data", "one", "--check"]) == 0
    shown = capsys.readouterr()
    assert "1 sample (1 detect)" in shown.out
    assert "count    1 sample; no official count is known" in shown.out
    assert "right    1 image file, none is missing" in shown.out
    assert main(["run", "--model", "replay:a.jsonl", "--data", "one"]) == 0
    assert "     1 sample  224 px" in capsys.readouterr().err
    (folder,) = [p.parent for p in (tmp_path / "results").rglob("run.json")]
    assert main(["explain", str(folder)]) == 0
    assert "publish" not in capsys.readouterr().out
