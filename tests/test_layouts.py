"""Folders and files as people have them: what is recognised, which task is made, and that one world written
in every layout gives the same score."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from evalkit import registry
from evalkit.cli.main import main
from evalkit.errors import UserError
from evalkit.tasks import dataset, loader
from evalkit.tasks.layouts import place
from evalkit.tasks.layouts.reading import Reading, dumped
from evalkit.tasks.layouts.recognise import recognise
from evalkit.types import Prediction, Task

SIDE = 1023  # pixels of an image's side: a location token is then a whole pixel
WORLD: dict[str, list[tuple[str, tuple[int, int, int, int]]]] = {
    "a.png": [("cat", (100, 200, 300, 500)), ("dog", (400, 400, 900, 800))],
    "b.png": [("dog", (0, 0, 1023, 1023))],
    "c.png": [],
}
"""Image -> its objects: name and (x0, y0, x1, y1) in pixels."""
ANSWERS = {
    "a.png": [("cat", (100, 200, 310, 500)), ("dog", (100, 100, 200, 200))],
    "b.png": [("dog", (0, 10, 1000, 1023))],
    "c.png": [("cat", (1, 1, 50, 50))],
}


def locations(objects: list[tuple[str, tuple[int, int, int, int]]]) -> str:
    return " ; ".join(
        f"<loc{y0:04d}><loc{x0:04d}><loc{y1:04d}><loc{x1:04d}> {name}" for name, (x0, y0, x1, y1) in objects
    )


def pictures(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in WORLD:
        Image.new("RGB", (SIDE, SIDE)).save(folder / name)


def lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")


def paligemma(root: Path) -> None:
    """As Roboflow's and maestro's exports."""
    pictures(root / "valid")
    told = [
        {"image": name, "prefix": "detect cat ; dog", "suffix": locations(objects)}
        for name, objects in WORLD.items()
    ]
    lines(root / "valid" / "_annotations.valid.jsonl", told)


def coco(root: Path) -> None:
    """As Roboflow's export, with the category that stands for the others."""
    pictures(root / "valid")
    images = [{"id": n, "file_name": name, "width": SIDE, "height": SIDE} for n, name in enumerate(WORLD)]
    names = ["animals", "cat", "dog"]
    categories = [
        {"id": n, "name": name, "supercategory": "none" if n == 0 else "animals"}
        for n, name in enumerate(names)
    ]
    annotations = [
        {"image_id": n, "category_id": names.index(name), "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0,
         "area": (x1 - x0) * (y1 - y0), "segmentation": []}
        for n, objects in enumerate(WORLD.values()) for name, (x0, y0, x1, y1) in objects
    ]  # fmt: skip
    for n, each in enumerate(annotations):
        each["id"] = n
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    (root / "valid" / "_annotations.coco.json").write_text(json.dumps(content))


def rows(root: Path) -> None:
    """An imagefolder of the hub with the target ready for PaliGemma."""
    pictures(root / "validation")
    told = [
        {"file_name": name, "width": SIDE, "label_for_paligemma": locations(objects), "objects": {"bbox": []}}
        for name, objects in WORLD.items()
    ]
    lines(root / "validation" / "metadata.jsonl", told)


def yolo(root: Path) -> None:
    """As ultralytics and Roboflow write it."""
    pictures(root / "valid" / "images")
    (root / "data.yaml").write_text("train: ../train/images\nval: valid/images\nnc: 2\nnames: [cat, dog]\n")
    (root / "train" / "images").mkdir(parents=True)
    (root / "valid" / "labels").mkdir()
    for name, objects in WORLD.items():
        told = [
            f"{['cat', 'dog'].index(c)} {(x0 + x1) / 2 / SIDE!r} {(y0 + y1) / 2 / SIDE!r} "
            f"{(x1 - x0) / SIDE!r} {(y1 - y0) / SIDE!r}\n"
            for c, (x0, y0, x1, y1) in objects
        ]
        (root / "valid" / "labels" / f"{name[0]}.txt").write_text("".join(told))


def xml(name: str, objects: list[tuple[str, tuple[int, int, int, int]]], first: int) -> str:
    boxes = "".join(
        f"<object><name>{c}</name><bndbox><xmin>{x0 + first}</xmin><ymin>{y0 + first}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for c, (x0, y0, x1, y1) in objects
    )
    size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}</filename>{size}{boxes}</annotation>"


def voc(root: Path) -> None:
    """The official folders, with pixels counted from 1."""
    pictures(root / "JPEGImages")
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "val.txt").write_text("".join(f"{name[0]}\n" for name in WORLD))
    for name, objects in WORLD.items():
        (root / "Annotations" / f"{name[0]}.xml").write_text(xml(name, objects, 1))


def flat_voc(root: Path) -> None:
    """XML beside images, with pixels counted from 0."""
    pictures(root / "valid")
    for name, objects in WORLD.items():
        (root / "valid" / f"{name[0]}.xml").write_text(xml(name, objects, 0))


DETECTION: dict[str, Callable[[Path], None]] = {
    "paligemma": paligemma, "coco": coco, "rows": rows, "yolo": yolo, "voc": voc, "flat voc": flat_voc,
}  # fmt: skip


def made(found: Reading, folder: Path) -> list[Task]:
    """The tasks of a reading, through their files."""
    tasks = []
    for draft in found.drafts:
        file = folder / f"{found.name(draft)}.yaml"
        file.write_text(dumped(draft.content))
        tasks.append(loader.load(str(file)))
    return tasks


def scored(found: Reading, folder: Path, answers: dict[str, Any] = ANSWERS) -> dict[str, float]:
    (task,) = made(found, folder)
    data = dataset.dataset(task, [found.root])
    texts = [locations(answers[Path(s.images[0].path).name]) for s in data.samples]
    read = [
        data.parser.read(Prediction(s.id, "", t), s.size) for s, t in zip(data.samples, texts, strict=True)
    ]
    found_scores = {}
    for spelled in task.metrics:
        metric = registry.make("metrics", spelled)
        found_scores[spelled] = metric.reduce(metric.rows(read, [s.target for s in data.samples]))
    return found_scores


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("", "test.csv: holds nothing"),
        (
            "Datei;Frage;Antwort\n1.jpg;what;this\n",
            "test.csv: has the keys Datei, Frage, Antwort; call them image, question and answer",
        ),
        ('image,question,answer\n1.jpg,"what\n', "test.csv: is not valid CSV"),
    ],
)
def test_a_test_split_that_cannot_be_read_is_not_passed_over_in_silence(
    test: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "train.csv").write_text("image,question,answer\n1.jpg,what,this\n")
    (tmp_path / "test.csv").write_text(test)
    found = recognise(tmp_path)
    assert found.split == "train"
    assert "test is not read, so this is train: " in found.doubts[0]
    assert said in found.doubts[0]
    assert not any("is not read" in doubt for doubt in recognise(tmp_path, split="train").doubts)


@pytest.mark.parametrize(
    ("place", "asked", "called"),
    [
        ("bolts/dataset/_annotations.test.jsonl", "bolts", "bolts_test"),  # as Roboflow exports
        ("bolts/data/test/_annotations.jsonl", "bolts", "bolts_test"),
        ("bolts/test/_annotations.jsonl", "bolts/test", "bolts"),
        ("dataset/_annotations.test.jsonl", "dataset", "dataset_test"),
    ],
)
def test_a_task_is_called_after_the_folder_that_is_somebody_s_own(
    place: str, asked: str, called: str, tmp_path: Path
) -> None:
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    lines(file, [{"image": "1.jpg", "prefix": "detect cat", "suffix": ""}])
    found = recognise(tmp_path / asked)
    assert found.name(found.drafts[0]) == called


@pytest.mark.parametrize("layout", DETECTION)
def test_one_world_in_every_layout_gives_the_same_score(layout: str, tmp_path: Path) -> None:
    root = tmp_path / "my pets!"
    DETECTION[layout](root)
    found = recognise(root)
    assert (found.split, found.samples, list(found.classes)) == ("valid", 3, ["cat", "dog"])
    (draft,) = found.drafts
    assert found.name(draft) == "my_pets_valid"
    (task,) = made(found, tmp_path)
    sample = dataset.dataset(task, [root]).samples[0]
    assert loader.prompt(task, sample.fields) == "detect cat ; dog"
    assert task.decode.max_new_tokens >= 2 * 6
    # cat 1, dog .5 at a recall of .5: 51 of 101 points (pycocotools agrees)
    assert scored(found, tmp_path)["coco_ap"] == pytest.approx((1 + 0.5 * 51 / 101) / 2, abs=1e-12)
    assert scored(found, tmp_path, WORLD)["coco_ap"] == 1.0


def test_layouts_agree_to_the_last_digit(tmp_path: Path) -> None:
    values = set()
    for layout, write in DETECTION.items():
        write(tmp_path / layout)
        values.add(scored(recognise(tmp_path / layout), tmp_path)["coco_ap"])
    assert len(values) == 1


def test_each_verb_of_a_file_is_a_task(tmp_path: Path) -> None:
    pictures(tmp_path / "images")
    told = [
        {"image": "a.png", "prefix": "detect cat", "suffix": locations(WORLD["a.png"][:1])},
        {"image": "c.png", "prefix": "detect cat", "suffix": ""},
        {"image": "a.png", "prefix": "caption en", "suffix": "a cat and a dog"},
        {"image": "a.png", "prefix": "caption en", "suffix": "two animals"},
        {"image": "b.png", "prefix": "<image>answer en how many dogs?", "suffix": 1},
        {"image": "b.png", "prefix": "How many cats?", "suffix": None},
    ]
    lines(tmp_path / "mixed.jsonl", told)
    found = recognise(tmp_path)
    assert [(d.verb, d.samples) for d in found.drafts] == [("detect", 2), ("caption", 1), ("text", 2)]
    detect, caption, text = (dataset.dataset(t, [tmp_path]) for t in made(found, tmp_path))
    assert [s.target["objects"] for s in detect.samples] == [
        [{"category": "cat", "box": (100.0, 200.0, 200.0, 300.0), "area": 60000.0, "iscrowd": 0}],
        [],
    ]
    assert caption.samples[0].target == ("a cat and a dog", "two animals")
    assert [s.target for s in text.samples] == [("1",), ()]
    assert text.unscored  # said before the run
    assert [t.metrics[0] for t in (detect.task, caption.task, text.task)] == [
        "coco_ap", "cider", "exact_match(lowercase=True)",
    ]  # fmt: skip


def test_masks_are_read_from_their_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evalkit import demo

    monkeypatch.setenv("EVALKIT_MASK_DECODER", str(demo.mask_decoder()))
    pictures(tmp_path)
    mask = "".join(f"<seg{n:03d}>" for n in range(16))
    suffix = "<loc0100><loc0100><loc0400><loc0500>" + mask + " cat"
    lines(tmp_path / "seg.jsonl", [{"image": "a.png", "prefix": "segment cat", "suffix": suffix}])
    (task,) = made(recognise(tmp_path), tmp_path)
    data = dataset.dataset(task, [tmp_path])
    (sample,) = data.samples
    metric = registry.make("metrics", task.metrics[0])
    answer = data.parser.read(Prediction(sample.id, "", suffix), sample.size)
    assert metric.reduce(metric.rows([answer], [sample.target])) == pytest.approx(1.0)
    assert metric.reduce(metric.rows([()], [sample.target])) == 0.0


def test_a_test_split_is_taken_before_others_and_another_by_name(tmp_path: Path) -> None:
    for split in ("train", "test", "val"):
        pictures(tmp_path / split)
        lines(tmp_path / split / "data.jsonl", [{"image": "a.png", "prefix": "what?", "suffix": split}])
    found = recognise(tmp_path)
    assert (found.split, found.file) == ("test", "test/data.jsonl")
    assert "; there is also train, valid (--split)" in found.lines()[1]
    assert recognise(tmp_path, "validation").file == "val/data.jsonl"
    with pytest.raises(
        UserError, match="--split dev2: there is no such split; there are: test, train, valid"
    ):
        recognise(tmp_path, "dev2")


def test_two_readings_are_listed_and_none_is_taken(tmp_path: Path) -> None:
    paligemma(tmp_path)
    coco(tmp_path)
    with pytest.raises(UserError) as error:
        recognise(tmp_path)
    said = str(error.value)
    assert "can be read in 2 ways; name the file: " in said
    assert "\n" not in said
    assert f"PaliGemma lines, valid: {tmp_path}/valid/_annotations.valid.jsonl" in said
    assert f"COCO detection, valid: {tmp_path}/valid/_annotations.coco.json" in said
    assert recognise(tmp_path / "valid" / "_annotations.coco.json").layout == "COCO detection"


@pytest.mark.parametrize("kind", ["csv", "excel", "tsv", "jsonl", "json"])
def test_tables_of_questions_and_of_captions(kind: str, tmp_path: Path) -> None:
    pictures(tmp_path / "train")
    rows = [{"file_name": "a.png", "text": "a cat"}, {"file_name": "b.png", "text": "a dog"}]
    path = tmp_path / "train" / f"metadata.{'csv' if kind == 'excel' else kind}"
    if separator := {"csv": ",", "excel": ";", "tsv": "\t"}.get(kind):
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, ["file_name", "text"], delimiter=separator)
            table.writeheader()
            table.writerows(rows)
    elif kind == "json":
        path.write_text(json.dumps(rows))
    else:
        lines(path, rows)
    found = recognise(tmp_path)
    (task,) = made(found, tmp_path)
    data = dataset.dataset(task, [tmp_path])
    assert [(s.images[0].path, s.target) for s in data.samples] == [
        (str(tmp_path / "train" / "a.png"), ("a cat",)),
        (str(tmp_path / "train" / "b.png"), ("a dog",)),
    ]
    assert (task.prompt, task.metrics[0]) == ("caption en", "cider")
    assert any("cells are separated by semicolons" in note for note in found.notes) == (kind == "excel")


def test_what_is_odd_is_said(tmp_path: Path) -> None:
    pictures(tmp_path)
    told = [
        {"image": "a.png", "prefix": "detect Cat ; dog", "suffix": locations(WORLD["a.png"])},
        {
            "image": "b.png",
            "prefix": "detect cat ; dog",
            "suffix": "<loc0000><loc0000><loc0100><loc0100> cow",
        },
    ]
    lines(tmp_path / "d.jsonl", told)
    found = recognise(tmp_path)
    assert "class 'cow' is in 1 suffix whose prefix does not ask for it" in found.doubts
    assert "'Cat' and 'cat' are probably one class" in found.doubts


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("traingle", "; it is probably 'triangle'"),
        ("triangel", "; it is probably 'triangle'"),
        ("triangle,", "; it is probably 'triangle'"),
        ("Triangle", "; it is probably 'triangle'"),
        ("hexagon", ""),
    ],
)
def test_a_class_that_no_prefix_asks_for_is_doubted(written: str, hint: str, tmp_path: Path) -> None:
    pictures(tmp_path)
    suffix = f"<loc0000><loc0000><loc0100><loc0100> {written}"
    lines(
        tmp_path / "test.jsonl", [{"image": "a.png", "prefix": "detect square ; triangle", "suffix": suffix}]
    )
    said = f"class {written!r} is in 1 suffix whose prefix does not ask for it{hint}"
    assert said in recognise(tmp_path).doubts


def _moved(root: Path, names: list[str]) -> None:
    pictures(root)
    told = [{"image": name, "prefix": "detect dog", "suffix": locations(WORLD["b.png"])} for name in names]
    lines(root / "test.jsonl", told)


@pytest.mark.parametrize("name", ["/home/nobody/set/b.png", "C:\\set\\b.png", "\\\\host\\set\\b.png"])
@pytest.mark.parametrize("folder", [".", "images"])
def test_images_are_found_by_the_end_of_another_machines_path(name: str, folder: str, tmp_path: Path) -> None:
    _moved(tmp_path, [name])
    pictures(tmp_path / folder)
    for image in WORLD if folder != "." else ():
        (tmp_path / image).unlink()
    found = recognise(tmp_path)
    assert not [doubt for doubt in found.doubts if "not there" in doubt]
    (sample,) = dataset.dataset(made(found, tmp_path)[0], [tmp_path]).samples
    assert os.path.samefile(sample.images[0].path, tmp_path / folder / "b.png")
    assert sample.target["objects"]


def test_two_paths_of_another_machine_are_not_one_image(tmp_path: Path) -> None:
    _moved(tmp_path, ["/home/nobody/train/b.png", "/home/nobody/test/b.png"])
    with pytest.raises(UserError, match=r"b\.png would be '.*train/b\.png' and '.*test/b\.png'"):
        dataset.dataset(made(recognise(tmp_path), tmp_path)[0], [tmp_path])


def test_missing_images_are_counted_once_and_their_case_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "pg bad"
    _moved(root, ["a.png", "/home/nobody/gone.png", "/home/nobody/b.png", "C.PNG"])
    hint = "; there is 'c.png' instead of 'C.PNG'"
    found = recognise(root)
    (doubt,) = [doubt for doubt in found.doubts if "not there" in doubt]
    assert doubt.startswith("2 images of test are not there: ")
    assert doubt.endswith(hint)
    data = dataset.dataset(made(found, root)[0], [root])
    assert data.unscored == "2 of 4 samples have no image and are not scored, the first is 1"
    assert not [said for said in data.remarks if "data root" in said]
    lines(tmp_path / "a.jsonl", [{"id": str(n), "text": ""} for n in range(4)])
    assert main(["run", "--model", "replay:a.jsonl", "--data", "pg bad", "--output-path", "out"]) == 2
    said = capsys.readouterr().err
    assert f"2 of 4 image files are not there: /home/nobody/gone.png, {root / 'C.PNG'}{hint}; " in said
    command = shlex.split(said.partition("`evalkit ")[2].partition("`")[0])
    assert command[0] == "data"
    assert command[-1] == "--check"
    assert main(command) == 1
    assert "missing  2 of 4 image files" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()  # nothing came of it, nothing is left of it


@pytest.mark.parametrize("form", ["csv", "tsv", "json"])
def test_paligemma_s_columns_in_other_files_are_the_same_task(form: str, tmp_path: Path) -> None:
    """A table or a list of image, prefix and suffix is no table of questions: prompts are sent as such."""
    paligemma(tmp_path / "lines")
    (file,) = (tmp_path / "lines" / "valid").glob("*.jsonl")
    records = [json.loads(line) for line in file.read_text().split("\n") if line]
    shutil.copytree(tmp_path / "lines", tmp_path / "other")
    other = tmp_path / "other" / "valid" / f"_annotations.valid.{form}"
    (tmp_path / "other" / "valid" / file.name).unlink()
    if form == "json":
        other.write_text(json.dumps(records, indent=1))
    else:
        with other.open("w", encoding="utf-8-sig", newline="") as to:
            writer = csv.DictWriter(to, list(records[0]), delimiter="," if form == "csv" else "\t")
            writer.writeheader()
            writer.writerows(records)
    found = [recognise(tmp_path / name) for name in ("lines", "other")]
    assert [(r.layout, r.split, r.classes, r.samples) for r in found[1:]] == [
        (found[0].layout, found[0].split, found[0].classes, found[0].samples)
    ]
    one, two = (dataset.dataset(made(r, r.root)[0], [r.root]) for r in found)
    assert [s.target for s in one.samples] == [s.target for s in two.samples]
    assert (one.prompts, list(one.samples.ids)) == (two.prompts, list(two.samples.ids))


def test_a_column_that_is_called_a_prompt_is_sent_as_it_is(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "qa.csv").write_text("image,prefix,answer\na.png,how many?,2\n")
    assert recognise(tmp_path).drafts[0].content["prompt"] == "{question}"


BROKEN = [
    "<loc90315><loc0032><loc0580><loc0230> dog ; <loc0200><loc0100><loc0500><loc0300> cat",
    "<loc1110><loc0032><loc0580><loc0230> dog ; <loc0200><loc0100><loc0500><loc0300> cat",
    "<loc0500><loc0300><loc0200><loc0100> dog ; <loc0200><loc0100><loc0500><loc0300> cat",
    "<loc0500><loc0300><loc0500><loc0400> dog ; <loc0200><loc0100><loc0500><loc0300> cat",
    "dog <loc0500><loc0300><loc0600><loc0400> ; <loc0200><loc0100><loc0500><loc0300> cat",
    "<loc0500><loc0300><loc0600><loc0400> ; <loc0200><loc0100><loc0500><loc0300> cat",
]


def test_broken_boxes_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures(tmp_path)
    told = [{"image": "a.png", "prefix": "detect cat ; dog", "suffix": text} for text in BROKEN]
    lines(tmp_path / "test.jsonl", told)
    found = recognise(tmp_path)
    (task,) = made(found, tmp_path)
    data = dataset.dataset(task, [tmp_path])
    wanted = {"category": "cat", "box": (100.0, 200.0, 200.0, 300.0), "area": 60000.0, "iscrowd": 0}
    assert [sample.target["objects"] for sample in data.samples] == [[wanted]] * len(BROKEN)
    assert [sample.target["categories"] for sample in data.samples] == [("cat", "dog")] * len(BROKEN)
    where = f"{tmp_path}/test.jsonl: line "
    assert [said.partition(" '")[0] for said in data.remarks] == [
        f"{where}{n}: suffix:" for n in (1, 3, 4, 5, 6)
    ]
    assert data.remarks[0].endswith("; the box is left out (the first of 2 such)")
    assert set(data.remarks) <= set(found.doubts)
    assert list(found.classes) == ["cat", "dog"]
    assert main(["data", str(tmp_path), "--check"]) == 1  # something is left out
    assert "the first of 2 such" in "".join(capsys.readouterr())


def test_a_file_without_any_right_box_is_refused(tmp_path: Path) -> None:
    pictures(tmp_path)
    lines(
        tmp_path / "test.jsonl",
        [{"image": "a.png", "prefix": "detect dog", "suffix": "dog <loc0001><loc0002><loc0003><loc0004>"}],
    )
    (task,) = made(recognise(tmp_path), tmp_path)
    with pytest.raises(
        UserError, match=r"line 1: suffix: .* label before the box.*no other box is right either"
    ):
        dataset.dataset(task, [tmp_path])


def test_boxes_of_a_file_without_labels_are_one_class(tmp_path: Path) -> None:
    pictures(tmp_path)
    lines(
        tmp_path / "test.jsonl",
        [{"image": "a.png", "prefix": "detect the dog", "suffix": "<loc0001><loc0002><loc0003><loc0004>"}],
    )
    found = recognise(tmp_path)
    (task,) = made(found, tmp_path)
    (sample,) = dataset.dataset(task, [tmp_path]).samples
    assert [each["category"] for each in sample.target["objects"]] == [""]
    assert not found.doubts


def test_a_comma_between_objects_is_doubted(tmp_path: Path) -> None:
    pictures(tmp_path)
    text = locations(WORLD["a.png"]).replace(" ; ", ", ")
    lines(tmp_path / "test.jsonl", [{"image": "a.png", "prefix": "detect cat ; dog", "suffix": text}])
    assert (
        "1 class ends in a comma; PaliGemma's text parts objects by ' ; ': 'cat,'"
        in recognise(tmp_path).doubts
    )


def test_nothing_recognised_names_what_was_seen(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(
        UserError, match=r"among 1 files \(\.txt\) and 3 images; evalkit knows PaliGemma lines, "
    ):
        recognise(tmp_path)
    with pytest.raises(UserError, match="/nowhere: no such folder or file"):
        recognise(Path("/nowhere"))


def test_the_command_runs_saves_and_scores_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    paligemma(tmp_path / "pets")
    saved = ["--save-task", "mine.yaml"]
    assert main(["data", "pets", *saved]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("# layout   PaliGemma lines: pets/valid/_annotations.valid.jsonl\n# split")
    task = (tmp_path / "mine.yaml").read_text()
    assert shown.out.endswith(f"\n# mine.yaml\n{task}")
    assert yaml.safe_load(shown.out) == yaml.safe_load(task)  # what is printed is a task file
    assert shown.err == ""
    (tmp_path / "mine.yaml").write_text("about: mine\n")
    assert main(["data", "pets", *saved]) == 2
    assert "mine.yaml: is there already and holds something else" in capsys.readouterr().err
    answers = [{"id": str(n), "text": locations(ANSWERS[name])} for n, name in enumerate(WORLD)]
    lines(tmp_path / "answers.jsonl", answers)
    assert main(["run", "--model", "replay:answers.jsonl", "--data", "pets"]) == 0
    assert "62.6" in capsys.readouterr().out
    (run,) = [p.parent for p in (tmp_path / "results").rglob("run.json")]
    assert main(["score", str(run)]) == 0
    assert "62.6" in capsys.readouterr().out
    assert main(["run", "--model", "replay:answers.jsonl"]) == 2
    assert "name tasks with --tasks, or data of your own with --data FOLDER" in capsys.readouterr().err


def test_many_images_are_recognised_without_decoding_them(tmp_path: Path) -> None:
    """Only names are listed: the images are empty files."""
    (tmp_path / "images").mkdir()
    for n in range(2000):
        (tmp_path / "images" / f"{n}.jpg").touch()
    told = [{"image": f"{n}.jpg", "prefix": "detect cat", "suffix": ""} for n in range(2000)]
    lines(tmp_path / "d.jsonl", told)
    assert recognise(tmp_path).samples == 2000
    assert place.look(tmp_path).images == {"images": 2000}


@pytest.mark.parametrize("kind", ["llava", "messages"])
def test_conversations_are_questions(kind: str, tmp_path: Path) -> None:
    pictures(tmp_path / "images")
    if kind == "llava":
        turns = [{"from": "human", "value": "<image>\nhow many?"}, {"from": "gpt", "value": "two"}]
        told: Any = [{"id": "0", "image": "a.png", "conversations": turns}]
        (tmp_path / "train.json").write_text(json.dumps(told))
    else:
        parts = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "how many?"}]
        turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "two"}]
        lines(tmp_path / "train.jsonl", [{"messages": turns}])
    found = recognise(tmp_path)
    assert (found.layout, found.split, found.samples) == ("conversations", "train", 1)
    (task,) = made(found, tmp_path)
    (sample,) = dataset.dataset(task, [tmp_path]).samples
    assert (loader.prompt(task, sample.fields), sample.target) == ("how many?", ("two",))
    assert Path(sample.images[0].path).exists()


def test_answers_that_are_json_are_compared_as_json(tmp_path: Path) -> None:
    pictures(tmp_path)
    told = [{"image": name, "prefix": "extract the receipt", "suffix": '{"total": 3}'} for name in WORLD]
    lines(tmp_path / "r.jsonl", told)
    (task,) = made(recognise(tmp_path), tmp_path)
    assert (task.parser, task.metrics) == ("json", ("json_match", "json_fields"))
    data = dataset.dataset(task, [tmp_path])
    metric = registry.make("metrics", "json_match")
    answer = data.parser.read(Prediction("0", "", '{ "total" : 3.0 }'), None)
    assert metric.reduce(metric.rows([answer], [data.samples[0].target])) == 1.0


def test_a_pipe_or_a_missing_image_costs_only_itself(tmp_path: Path) -> None:
    """A pipe as an image was waited for, for ever."""
    for layout in ("paligemma", "yolo"):
        root = tmp_path / layout
        DETECTION[layout](root)
        image = next(root.rglob("a.png"))
        image.unlink()
        os.mkfifo(image)
        next(root.rglob("b.png")).unlink() if layout == "paligemma" else None
        (task,) = made(recognise(root), tmp_path)
        data = dataset.dataset(task, [root])
        assert "is a pipe; only regular files are read" in data.remarks[0]
        assert [bool(s.target) for s in data.samples] == [False, layout == "yolo", True]


def test_a_split_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    yolo(tmp_path)
    told = "train: ../train/images\nval: valid/images\ntest: ../test/images\nnames: [cat, dog]\n"
    (tmp_path / "data.yaml").write_text(told)
    found = recognise(tmp_path)
    assert found.split == "valid"
    assert any("test" in note and "that split is left out" in note for note in found.notes)


def test_a_saved_task_beside_its_data_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paligemma(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["data", ".", "--save-task", "mine.yaml"]) == 0
    assert main(["data", "."]) == 0
    assert capsys.readouterr().out.count("# layout   PaliGemma lines") == 2
    assert main(["data", "no/such"]) == 2
    assert "no/such: no such folder or file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "d.jsonl",
            '{"image": "a.png", "prefix": "detect cat", "sufix": ""}\n',
            "'sufix' probably stands for suffix",
        ),
        ("coco.json", '{"images": [{"id": 1, "file_na', "coco.json: line 1: is not valid JSON"),
        ("talks.json", '[{"conversations": [{"from"', "talks.json: line 1: is not valid JSON"),
    ],
)
def test_what_is_wrong_with_the_only_file_is_said(name: str, content: str, said: str, tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match="no layout is recognised; ") as error:
        recognise(tmp_path)
    assert said in str(error.value)


def test_a_verb_for_lines_that_have_their_own_is_refused(tmp_path: Path) -> None:
    paligemma(tmp_path)
    with pytest.raises(UserError, match="--verb segment: PaliGemma lines have their own verbs"):
        recognise(tmp_path, None, "segment")


def test_two_models_answers_to_a_folder_are_shown_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """AP has no score of one sample, so those with other answers are shown."""
    monkeypatch.chdir(tmp_path)
    paligemma(tmp_path / "pets")
    for model, answers in (("a", WORLD), ("b", ANSWERS)):
        told = [{"id": str(n), "text": locations(answers[name])} for n, name in enumerate(WORLD)]
        lines(tmp_path / f"{model}.jsonl", told)
        command = ["run", "--model", f"replay:{model}.jsonl", "--data", "pets", "--output-path", model]
        assert main(command) == 0
    capsys.readouterr()
    assert main(["compare", "a", "b", "--samples", "2"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("other: ") == 2
    assert "other: 0: " in out
    assert main(["run", "--model", "replay:a.jsonl", "--data", "pets", "--output-path", "c"]) == 0
    (tmp_path / "pets" / "valid" / "b.png").unlink()
    capsys.readouterr()
    assert main(["run", "--model", "replay:a.jsonl", "--data", "pets", "--output-path", "d"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "`evalkit data pets/valid/_annotations.valid.jsonl --check` says where they are looked for" in said
    assert not Path("d").exists()
    other = ["--model", "replay:a.jsonl,name=other"]
    assert main(["run", *other, "--data", "pets", "--output-path", "c"]) == 2
    assert Path("c/tasks/pets_valid.yaml").exists()  # an earlier run has it


def test_a_baseline_with_damaged_rows_of_objects_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    paligemma(tmp_path / "pets")
    told = [{"id": str(n), "text": locations(ANSWERS[name])} for n, name in enumerate(WORLD)]
    lines(tmp_path / "a.jsonl", told)
    assert main(["run", "--model", "replay:a.jsonl", "--data", "pets"]) == 0
    assert main(["baseline", "save", "results", "base.json"]) == 0
    content = json.loads(Path("base.json").read_text())
    assert main(["check", "results", "--baseline", "base.json"]) == 0
    (metric,) = [m for m in content["runs"][0]["rows"] if m.startswith("coco_ap")]
    for strange in (None, "x", [], {"cat": "x"}, [["cat"]], 7):
        for key in ("objects", "boxes"):
            changed = json.loads(json.dumps(content))
            changed["runs"][0]["rows"][metric][0][key] = strange
            Path("damaged.json").write_text(json.dumps(changed))
            capsys.readouterr()
            status = main(["check", "results", "--baseline", "damaged.json"])
            err = capsys.readouterr().err
            assert "Traceback" not in err
            assert status == 2 or strange in ([], {})
            assert status != 2 or "damaged.json: damaged (rows of coco_ap: " in err


def test_data_check_reads_what_was_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `run` would refuse, or find missing, is said without a model."""
    monkeypatch.chdir(tmp_path)
    coco(tmp_path / "pets")
    assert main(["data", "pets", "--check"]) == 1
    assert "1 image of valid is there more than once" in capsys.readouterr().out
    for n, name in enumerate("abc"):
        file = tmp_path / "pets" / "valid" / f"{name}.png"
        with Image.open(file) as image:
            Image.new("RGB", image.size, (n, 0, 0)).save(file)
    assert main(["data", "pets", "--check"]) == 0
    assert "3 image files, none is missing" in capsys.readouterr().out
    (tmp_path / "pets" / "valid" / "b.png").unlink()
    assert main(["data", "pets", "--check"]) == 1
    assert "missing  1 of 3 image files" in capsys.readouterr().out
    file = tmp_path / "pets" / "valid" / "_annotations.coco.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["category_id"] = "cat"
    file.write_text(json.dumps(content))
    assert main(["data", "pets", "--check"]) == 1
    shown = capsys.readouterr()
    assert "1 annotation names no image or category of the file; --check says which" in shown.out
    assert "category_id: is a string; it must be a whole number" in shown.out


def test_of_two_files_of_one_split_each_is_a_reading_and_another_split_is_none(tmp_path: Path) -> None:
    pictures(tmp_path)
    for name in ("train_a.jsonl", "train_b.jsonl", "test.jsonl"):
        lines(tmp_path / name, [{"image": "a.png", "prefix": "what?", "suffix": name}])
    with pytest.raises(UserError, match=r"can be read in 3 ways; .*train_a\.jsonl; .*train_b\.jsonl"):
        recognise(tmp_path)
    assert recognise(tmp_path, "test").file == "test.jsonl"


def test_a_gate_on_a_folder_says_where_its_task_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    paligemma(tmp_path / "pets")
    told = [{"id": str(n), "text": locations(WORLD[name])} for n, name in enumerate(WORLD)]
    lines(tmp_path / "a.jsonl", told)
    assert main(["run", "--model", "replay:a.jsonl", "--data", "pets"]) == 0
    assert main(["baseline", "save", "results", "base.json"]) == 0
    check = ["check", "replay:a.jsonl", "--baseline", "base.json"]
    capsys.readouterr()
    assert main(check) == 2
    assert "the baseline's task pets_valid is not known here; name the folder" in capsys.readouterr().err
    assert main([*check, "--include-path", "results/tasks", "--data-root", "pets"]) == 0
    assert main(["explain", "results"]) == 0
    assert "publish" not in capsys.readouterr().out  # nothing is, of a task of one's own


def test_captions_of_few_words_are_told_for_bleu() -> None:
    metric = registry.make("metrics", "bleu")
    said = {"references of under 4 words, in which BLEU-4 finds nothing": 1}
    assert metric.remarks(["a", "b"], [("a cat",), ("a cat on a mat", "a cat")]) == said
    assert metric.remarks(["b"], [("a cat on a mat",)]) == {}


def test_a_folder_called_as_a_suite_is_not_passed_over_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(tmp_path / "vqa" / "test.jsonl", [{"image": "a.png", "question": "What?", "answer": "cat"}])
    pictures(tmp_path / "vqa")
    monkeypatch.chdir(tmp_path)
    main(["data", "vqa", "chartqa_human_test"])
    said = capsys.readouterr().err
    assert "note: vqa is a suite and a folder here; this is the suite, ./vqa is the folder" in said
    assert "chartqa" not in said
    assert main(["data", "./vqa"]) == 0
    assert "is a suite" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("train: images\nval: images\nnames: [a, b\n", "data.yaml: line 4: is not valid YAML: expected ','"),
        ("- a\n", "data.yaml: top level: is a list; it must be an object"),
        ("val: images\nname: [a]\n", "data.yaml: has no names; its keys are val, name"),
        ("valuation: images\nnames: [a]\n", "data.yaml: has no test, val or train; its keys are valuation"),
    ],
)
def test_a_slip_in_data_yaml_is_said_with_its_line(content: str, said: str, tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    (tmp_path / "data.yaml").write_text(content, encoding="utf-8")
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        recognise(tmp_path)
    assert said in str(caught.value)


def test_data_check_of_coco_tells_every_kind_of_mistake_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    coco(tmp_path / "pets")
    file = tmp_path / "pets" / "valid" / "_annotations.coco.json"
    content = json.loads(file.read_text())
    first, second, third = content["annotations"][:3]
    first |= {"bbox": [1, 2, -3, 4], "category_id": 99, "area": -1}
    second |= {"bbox": [1, 2, 3, -4], "id": first["id"]}
    third |= {"image_id": 77, "iscrowd": 2}
    content["images"][0]["width"] = SIDE + 1
    file.write_text(json.dumps(content))
    assert main(["data", "pets", "--check"]) == 1
    shown = capsys.readouterr().out
    wrong = [line.strip() for line in shown.splitlines() if line.strip().startswith("wrong ")]
    assert len(wrong) == 7
    for said in (
        "[1, 2, -3, 4]; width and height must not be negative (the first of 2 such; also annotations[1]",
        "category_id: 99 is unknown",
        "area: is -1; it must be at least 0",
        f"annotation id {first['id']} is repeated",
        "image_id: 77 is not an image",
        "iscrowd: is 2; it must be 0 or 1",
        f"the dataset says {SIDE} and {SIDE + 1}",
    ):
        assert any(said in line for line in wrong), said
    assert main(["run", "--model", "demo:later", "--data", "pets"]) == 2
    said = [line for line in capsys.readouterr().err.split("\n") if line.startswith("evalkit: ")]
    assert [line.removeprefix("evalkit: ") for line in said] == [w[9:] for w in wrong[:-1]]
