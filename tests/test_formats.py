"""Every format on a tiny dataset in the official form, and what each says of a damaged one."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dataset_files import CAPTIONS, DATASETS, REFS, SQUARE, contents, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from evalkit import registry
from evalkit.data.faults import Faulty
from evalkit.errors import DataError
from evalkit.types import ImageRef, Sample, Source


def read(source: Source, name: str, spelling: str = "", split: str = "") -> list[Sample]:
    made = registry.make("formats", spelling or DATASETS[name][0])
    return list(made.samples(source, split or DATASETS[name][1]))


# --- right data --------------------------------------------------------------------------------


def test_coco_captions(tmp_path: Path) -> None:
    first, second = read(write(tmp_path, "coco_captions"), "coco_captions")
    assert (first.id, first.target, first.size) == ("9", ("A cat sits. ",), (48, 64))
    assert second.target == ("A dog runs.", "A dog runs.")  # duplicates stay, as the metric's IDF counts them
    assert first.images == (ImageRef(str(tmp_path / "val2017/000000000009.jpg")),)
    assert first.cluster == "000000000009.jpg"  # not the root: limits must not depend on the machine


def test_karpathy_split(tmp_path: Path) -> None:
    source = write(tmp_path, "karpathy")
    assert [s.id for s in read(source, "karpathy")] == ["42", "74"]
    assert [s.id for s in read(source, "karpathy", split="restval")] == ["80"]
    sample = read(source, "karpathy")[0]
    assert sample.target == ("Image 42.",)
    assert sample.images[0].path == str(tmp_path / "coco/val2014/COCO_val2014_000000000042.jpg")


def test_coco_detection_without_answers(tmp_path: Path) -> None:
    source = write(tmp_path, "coco_detection")
    path = source.path("path")
    content = json.loads(path.read_text())
    del content["annotations"]
    path.write_text(json.dumps(content))
    samples = list(registry.make("formats", "coco_detection(hidden=True)").samples(source, "test-dev"))
    assert [s.target for s in samples] == [(), ()]
    assert samples[0].size == (48, 64)
    with pytest.raises(DataError, match="annotations: is missing"):
        read(source, "coco_detection")


def test_coco_detection(tmp_path: Path) -> None:
    full, empty = read(write(tmp_path, "coco_detection"), "coco_detection")
    assert full.target["categories"] == ("person", "dog")
    assert full.target["categories"] is empty.target["categories"]
    assert full.fields == {"categories": "person ; dog"}
    dog, crowd = full.target["objects"]
    assert dog == {
        "category": "dog",
        "box": (10, 20, 20, 20),
        "area": 400,
        "iscrowd": 0,
        "segmentation": SQUARE,
    }
    assert (crowd["category"], crowd["iscrowd"], crowd["segmentation"]["counts"]) == ("person", 1, [3000, 72])
    assert empty.target["objects"] == []
    assert (full.target["size"], full.target["image_id"]) == ((48, 64), 9)


def test_an_image_without_caption_has_no_target(tmp_path: Path) -> None:
    given = contents("coco_captions")
    for annotation in given["path"]["annotations"]:
        annotation["image_id"] = 4
    first, second = read(write(tmp_path, "coco_captions", given), "coco_captions")
    assert sorted(map(len, (first.target, second.target))) == [0, len(given["path"]["annotations"])]


def test_vqa(tmp_path: Path) -> None:
    first, second = read(write(tmp_path, "vqa_json"), "vqa_json")
    assert (first.id, first.group, second.group) == ("42000", "yes/no", "other")
    assert first.target == ("yes",) * 9 + ("no",)
    assert first.fields == {"question": "Is it day?", "question_type": "is it"}
    assert first.images[0].path == str(tmp_path / "val2014/COCO_val2014_000000000042.jpg")
    assert first.cluster == second.cluster


def test_vqa_image_folders_and_names(tmp_path: Path) -> None:
    source = write(tmp_path, "vqa_json")
    (tmp_path / "val2014/val2014").mkdir(parents=True)  # `images` may be the folder above
    assert (
        read(source, "vqa_json")[0].images[0].path.endswith("val2014/val2014/COCO_val2014_000000000042.jpg")
    )
    named = read(source, "vqa_json", "vqa_json(image_name='%06d.png')")
    assert named[0].images[0].path.endswith("000042.png")
    with pytest.raises(DataError, match="cannot take one number"):
        read(source, "vqa_json", "vqa_json(image_name='%s-%s.png')")


def test_vqa_test_split_has_no_answers(tmp_path: Path) -> None:
    given = contents("vqa_json")
    given["questions"]["data_subtype"] = "test-dev2015"
    source = write(tmp_path, "vqa_json", given)
    entry = {key: name for key, name in source.entry.items() if key != "annotations"}
    sample = read(Source(tmp_path, entry, "t"), "vqa_json", split="test")[0]
    assert (sample.target, sample.group) == ((), "")
    assert sample.images[0].path.endswith("COCO_test2015_000000000042.jpg")


def test_textvqa(tmp_path: Path) -> None:
    (sample,) = read(write(tmp_path, "textvqa"), "textvqa")
    assert (sample.id, sample.size, len(sample.target)) == ("34602", (664, 1024), 10)
    assert sample.images[0].path.endswith("train_images/003a8ae2ef43b901.jpg")
    given = contents("textvqa")
    given["path"]["data"][0].update(set_name="test")
    del given["path"]["data"][0]["answers"]
    assert read(write(tmp_path, "textvqa", given), "textvqa", split="test")[0].target == ()


def test_textvqa_turns_photos_upright(tmp_path: Path) -> None:
    source = write(tmp_path, "textvqa")
    told = "ImageID,Subset,Rotation\n003a8ae2ef43b901,train,270.0\nffff,train,\n"
    (tmp_path / "rotation.csv").write_text(told)
    turned = Source(tmp_path, {**source.entry, "rotation": "rotation.csv"}, "t")
    (sample,) = read(turned, "textvqa")
    assert (sample.images[0].turn, sample.size) == (3, (1024, 664))
    (tmp_path / "rotation.csv").write_text(told.replace("270.0", "45.0"))
    with pytest.raises(DataError, match="row 2: Rotation must be"):
        read(turned, "textvqa")


def test_docvqa(tmp_path: Path) -> None:
    (sample,) = read(write(tmp_path, "docvqa"), "docvqa")
    assert (sample.id, sample.target) == ("49153", ("0.28", ".28"))
    assert sample.images[0].path == str(tmp_path / "documents/pybv0228_81.png")
    above = Source(tmp_path, {"path": "d.json", "images": "docvqa"}, "t")
    assert read(above, "docvqa")[0].images[0].path == str(tmp_path / "docvqa/documents/pybv0228_81.png")


def test_chartqa(tmp_path: Path) -> None:
    samples = read(write(tmp_path, "chartqa"), "chartqa")
    assert [(s.id, s.target) for s in samples] == [("0", ("14",)), ("1", ("Yes",))]
    assert samples[0].cluster == samples[1].cluster == "41699051005347.png"


def test_refcoco(tmp_path: Path) -> None:
    first, second = read(write(tmp_path, "refcoco"), "refcoco")
    assert (first.id, second.id) == ("0", "1")
    assert first.fields == {"sentence": "the dog", "raw": "The DOG", "category": "dog"}
    assert first.target == {"size": (48, 64), "box": (20, 10, 40, 30), "segmentation": SQUARE, "iscrowd": 0}
    assert first.size == (48, 64)
    (crowd,) = read(write(tmp_path, "refcoco"), "refcoco", split="testA")
    assert crowd.target["iscrowd"] == 1
    named = read(write(tmp_path, "refcoco"), "refcoco", "refcoco(image_name='COCO_train2014_%012d.jpg')")
    assert named[0].cluster == "COCO_train2014_000000000009.jpg"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_refer_pickles_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    source = write(tmp_path, "refcoco")
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(REFS, protocol))
    assert len(read(source, "refcoco")) == 2


def test_jsonl(tmp_path: Path) -> None:
    text, several, box, things, suffix, asked = read(write(tmp_path, "jsonl"), "jsonl")
    assert (text.id, text.group, text.target) == ("a", "count", ("3",))
    assert text.fields == {"question": "How many?", "group": "count", "level": "2"}
    assert [ref.path for ref in several.images] == [
        str(tmp_path / "pictures" / n) for n in ("a.png", "b.png")
    ]
    assert (several.id, several.target, several.cluster) == ("7", ("no", "No"), "a.png b.png")
    assert (box.id, box.target["box"]) == ("2", (20, 10, 40, 30))
    assert (things.target["categories"], things.target["objects"][0]["area"]) == (("dog",), 16)
    assert (suffix.id, suffix.fields, suffix.target) == ("4", {"prefix": "caption en"}, ("a dog",))
    assert asked.target == ()


def test_jsonl_splits_and_folders(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text(
        '\ufeff{"image": "a.png", "split": "train"}\n\n{"image": "/x/b.png", "split": "val"}\n', "utf-8"
    )
    source = Source(tmp_path, {"path": "lines.jsonl"}, "t")
    (sample,) = read(source, "jsonl", split="val")
    assert (sample.id, sample.images[0].path) == ("2", "/x/b.png")
    assert read(source, "jsonl", split="train")[0].images[0].path == str(tmp_path / "a.png")
    with pytest.raises(DataError, match="no split 'test'; there are: train, val"):
        read(source, "jsonl", split="test")


# --- wrong data --------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], Any]


def put(*place: Any, to: Any) -> Change:
    """A change that sets one value inside the files' contents."""

    def change(files: dict[str, Any]) -> None:
        inner: Any = files
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = to

    return change


def drop(*place: Any) -> Change:
    def change(files: dict[str, Any]) -> None:
        inner: Any = files
        for key in place[:-1]:
            inner = inner[key]
        del inner[place[-1]]

    return change


WRONG: list[tuple[str, Change, str]] = [
    ("coco_captions", drop("path", "annotations"), "c.json: images[0].split: is missing"),
    ("coco_captions", put("path", "images", to={}), "c.json: images: is an object; it must be a list"),
    ("coco_captions", put("path", "images", 1, "id", to=9), "c.json: images[1]: image id 9 is repeated"),
    ("coco_captions", put("path", "images", 1, "file_name", to="../x.jpg"), "images[1].file_name"),
    ("coco_captions", put("path", "annotations", 0, "image_id", to=5), "5 is not an image of this file"),
    ("coco_captions", put("path", "annotations", 0, "image_id", to="4"), "is a string; it must be a whole"),
    ("coco_captions", put("path", "annotations", 0, "caption", to=None), "annotations[0].caption: is null"),
    ("coco_captions", put("path", "annotations", 0, "caption", to="\ud800"), "lone surrogate"),
    ("karpathy", put("path", "images", 2, "cocoid", to=42), "cocoid 42 is repeated"),
    ("karpathy", put("path", "images", 0, "split", to=3), "images[0].split: is a whole number"),
    ("karpathy", put("path", "images", 0, "sentences", to=[]), "images[0].sentences: is empty"),
    ("coco_detection", drop("path", "categories"), "i.json: categories: is missing"),
    (
        "coco_detection",
        put("path", "categories", 1, "name", to="person"),
        "category name 'person' is repeated",
    ),
    ("coco_detection", put("path", "annotations", 0, "category_id", to=2), "2 is unknown"),
    ("coco_detection", put("path", "annotations", 0, "bbox", 2, to=float("nan")), "four finite numbers"),
    ("coco_detection", put("path", "annotations", 0, "bbox", to=[1, 2, 3]), "bbox: is [1, 2, 3]"),
    ("coco_detection", put("path", "annotations", 0, "bbox", to=[1, 2, -3, 4]), "must not be negative"),
    (
        "coco_detection",
        put("path", "annotations", 0, "segmentation", 0, to=[1.0] * 7),
        "must have pairs x, y",
    ),
    ("coco_detection", put("path", "annotations", 0, "segmentation", 0, to=[1.0] * 4), "three points"),
    ("coco_detection", put("path", "annotations", 1, "segmentation", "counts", to=[1, 2]), "sums to 3"),
    ("coco_detection", put("path", "annotations", 1, "segmentation", "counts", to="~"), "compressed run"),
    ("coco_detection", put("path", "annotations", 1, "segmentation", "size", to=[64, 48]), "[48, 64]"),
    ("coco_detection", put("path", "annotations", 1, "iscrowd", to=2), "must be 0 or 1"),
    ("coco_detection", put("path", "images", 0, "height", to=0), "images[0].height: is 0; it must be at"),
    ("vqa_json", put("annotations", "annotations", to=[]), "has no annotation"),
    (
        "vqa_json",
        put("annotations", "annotations", 1, "image_id", to=7),
        "is not the image of question 42000",
    ),
    ("vqa_json", put("annotations", "annotations", 0, "answers", to=[]), "answers: is empty"),
    (
        "vqa_json",
        put("annotations", "annotations", 0, "answers", 3, "answer", to=4),
        "answers[3].answer: is a",
    ),
    ("vqa_json", put("annotations", "annotations", 0, "question_id", to=42000), "42000 is repeated"),
    (
        "vqa_json",
        put("questions", "questions", 1, "question_id", to=42000),
        "q.json: questions[1]: question_id 42000 is",
    ),
    (
        "vqa_json",
        put("questions", "data_subtype", to="train2014"),
        "must begin with the split asked for, 'val'",
    ),
    ("vqa_json", drop("questions", "data_subtype"), "must name the images' folder"),
    ("vqa_json", put("questions", "questions", 0, "image_id", to=-1), "must be at least 0"),
    ("textvqa", put("path", "data", 0, "set_name", to="train"), "no split 'val'; there are: train"),
    ("textvqa", drop("path", "data", 0, "answers"), "data[0].answers: is missing"),
    ("textvqa", put("path", "data", 0, "answers", to="dakota"), "is a string; it must be a list of strings"),
    ("textvqa", put("path", "data", 0, "image_id", to="a/../../b"), "below the images folder"),
    ("docvqa", put("path", "dataset_split", to="train"), "no split 'val'; there are: train"),
    ("docvqa", put("path", "data", 0, "answers", to=[]), "holds 0 strings; there must be at least 1"),
    ("docvqa", put("path", "data", 0, "questionId", to=""), "questionId: is a string; it must be"),
    ("docvqa", put("path", "data", 0, to=[]), "data[0]: is a list; it must be an object"),
    ("chartqa", put("path", to={}), "is not a list; it must be a list of {imgname, query, label}"),
    ("chartqa", drop("path", 0, "label"), "test_human.json: [0].label: is missing"),
    ("chartqa", put("path", 1, "imgname", to="a\0b"), "[1].imgname: is not a file name"),
    ("refcoco", put("refs", to={}), "is not a list; it must be REFER's list of refs"),
    (
        "refcoco",
        put("instances", "images", to={"a": 1}),
        "images: is an object; it must be a list of objects",
    ),
    (
        "refcoco",
        put("instances", "annotations", to=5),
        "annotations: is a whole number; it must be a list of",
    ),
    ("refcoco", put("refs", 0, "ann_id", to=5), "[0].ann_id: 5 is not an annotation of"),
    ("refcoco", put("refs", 0, "image_id", to=5), "[0].image_id: 5 is not an image of"),
    ("refcoco", put("refs", 0, "image_id", to=4), "is not the image of the ref at [0], 4"),
    ("refcoco", put("refs", 0, "sentences", 1, "sent_id", to=0), "sent_id '0' is repeated"),
    ("refcoco", put("refs", 0, "split", to="train"), "no split 'val'; there are: testA, train"),
    ("refcoco", put("instances", "annotations", 0, "segmentation", to=[]), "segmentation: is empty"),
    (
        "refcoco",
        put("instances", "annotations", 0, "segmentation", to=3),
        "is '3'; it must be a list",
    ),
    ("jsonl", put("path", 1, "id", to="a"), "id 'a' is repeated"),
    ("jsonl", put("path", 0, "answers", to=["3"]), "line 1.answers: is given together with answer"),
    ("jsonl", drop("path", 0, "image"), "line 1.image: must be given"),
    ("jsonl", drop("path", 2, "size"), "line 3.size: is missing; bbox needs"),
    ("jsonl", put("path", 2, "size", to=[0, 5]), "line 3.size: must be [height, width]"),
    ("jsonl", put("path", 0, to=7), "line 1: is a whole number; it must be an object"),
    ("jsonl", put("path", to=[]), "lines.jsonl: is empty"),
]


SEVERAL = {
    "coco_captions": (
        [put("path", "annotations", 0, "image_id", to=5), put("path", "annotations", 1, "caption", to=None),
         put("path", "images", 0, "file_name", to="")],
        ["5 is not an image of this file", "caption: is null", "is not a file name"],
    ),
    "vqa_json": (
        [put("questions", "questions", 0, "question", to=7),
         put("annotations", "annotations", 0, "answers", to=[])],
        ["question: is a whole number", "answers: is empty"],
    ),
    "refcoco": (
        [put("instances", "images", 0, "id", to="x"), put("instances", "annotations", 0, "id", to=None)],
        ["images[0].id: is a string", "annotations[0].id: is null", "is not an"],
    ),
}  # fmt: skip


MISTAKEN = {
    "jsonl": ("jsonl", ['{"image": "a.png", "answer": 7}', '{"image": "../a.png", "answer": "x"}',
                        '{"image": "a.png", "answer": "x", "id": []}', '{"image": "b.png", "answer": 8}']),
    "questions": ("questions(image='image', question='q', answers='a')",
                  ['{"image": "a.png", "q": 1, "a": "x"}', '{"image": "../a.png", "q": "x", "a": "x"}',
                   '{"image": "a.png", "q": "x"}', '{"image": "a.png", "q": 5, "a": "x"}']),
    "paligemma_lines": ("paligemma_lines(verb='detect')",
                        ['{"image": "a.png", "prefix": "detect a", "suffix": "a cat"}',
                         '{"image": "a.png", "prefix": "detect a", "suffix": ""}',
                         '{"image": "a.png", "prefix": "detect a", "suffix": "a dog"}']),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKEN)
def test_all_kinds_of_mistakes_of_lines_are_told_at_once(name: str, tmp_path: Path) -> None:
    spelling, given = MISTAKEN[name]
    (tmp_path / "d.jsonl").write_text("\n".join(given))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    source = Source(tmp_path, {"path": "d.jsonl", "images": "."}, "t")
    with pytest.raises(Faulty) as caught:
        read(source, name, spelling, "all")
    kinds = 1 if name == "paligemma_lines" else 3
    assert len(caught.value.said) == kinds, caught.value.said
    assert "(the first of 2 such; also line " in caught.value.said[0]
    assert "d.jsonl: line 1" in str(caught.value)


@pytest.mark.parametrize("name", SEVERAL)
def test_all_kinds_of_mistakes_are_told_at_once(name: str, tmp_path: Path) -> None:
    changes, messages = SEVERAL[name]
    files = contents(name)
    for change in changes:
        change(files)
    with pytest.raises(Faulty) as caught:
        read(write(tmp_path, name, files), name)
    assert len(caught.value.said) == len(messages)
    assert all(any(message in said for said in caught.value.said) for message in messages)


@pytest.mark.parametrize(
    ("name", "change", "message"), WRONG, ids=lambda value: value if isinstance(value, str) else ""
)
def test_damage_is_one_sentence(tmp_path: Path, name: str, change: Change, message: str) -> None:
    files = contents(name)
    change(files)
    with pytest.raises(DataError) as caught:
        read(write(tmp_path, name, files), name)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "c.json: is empty; it must hold JSON"),
        (b'{"images": [\n1,\n}', "c.json: line 3: is not valid JSON"),
        (b"[" * 200_000, "is nested too deeply"),
        (b'{"a": ' * 200_000, "is nested too deeply"),
        (b'{"images": 1, "images": 2}', "key 'images' is repeated"),
        (b'{"images": ' + b"9" * 5000 + b"}", "is not valid JSON: Exceeds the limit"),
        (b'{"images": "\xff"}', "byte 12: is not UTF-8"),
        (b"[]", "top level: is a list; it must be an object"),
        (b"null", "top level: is null; it must be an object"),
    ],
)
def test_damaged_json(tmp_path: Path, text: bytes, message: str) -> None:
    source = write(tmp_path, "coco_captions")
    (tmp_path / "c.json").write_bytes(text)
    with pytest.raises(DataError) as caught:
        read(source, "coco_captions")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


def test_missing_files_and_keys(tmp_path: Path) -> None:
    for name, (_, _, entry, _) in DATASETS.items():
        with pytest.raises(DataError, match="cannot be read"):
            read(Source(tmp_path, entry, "t"), name)
        with pytest.raises(DataError, match=r"t: data\.sources: no '(path|refs|questions)' in \{images\}"):
            read(Source(tmp_path, {"images": "x"}, "t"), name)


class _Ran:
    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps(_Ran(), 2), "names the class posix.mkdir, which is refused"),
        (pickle.dumps([Path("x")], 4), "pathlib."),
        (b"(inowhere\nthing\n.", "names the class nowhere.thing"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "names the class builtins.eval"),
        (b"\x80\x02\x82\x01.", "is not a pickle of plain data (operation 130)"),
        (b"P1\n.", "is not a pickle of plain data (operation 80)"),
        (b"", "is not a readable pickle"),
        (b"not a pickle", "is not a pickle of plain data"),
        (pickle.dumps(REFS)[:-5], "is not a readable pickle"),
        (b"K\x01r\xff\xff\xff\xff.", "top level: is not a list"),  # C's unpickler would ask for 60 GB here
        (b"K\x01" + b"\x85" * 100_000 + b".", "more than 5000 tuples"),
    ],
)
def test_refused_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    source = write(tmp_path, "refcoco")
    (tmp_path / "refs(unc).p").write_bytes(data)
    with pytest.raises(DataError) as caught:
        read(source, "refcoco")
    assert message in str(caught.value)
    assert not (tmp_path / "ran").exists()


# --- any data ----------------------------------------------------------------------------------

ODD = st.sampled_from(
    [
        *(None, True, False, 0, -1, 3, 2**70, 0.5, float("nan"), float("inf")),
        *("", "x", "..", "/", "\0", "\ud800", "yes", "val", 42),
        *([], {}, [[]], [{}], [None], ["x"], [1, 2, 3, 4], {"x": 1}),
    ]
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside a value."""
    if not isinstance(value, (dict, list)):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(DATASETS)),
    seed=st.integers(0, 2**32),
    odd=ODD,
    deed=st.sampled_from(["replace", "delete", "double"]),
)
def test_mutated_data_is_read_or_refused(tmp_path: Path, name: str, seed: int, odd: Any, deed: str) -> None:
    files = contents(name)
    container, key = random.Random(seed).choice(places(files))
    if container is files and deed != "replace":
        deed = "replace"
    if deed == "delete":
        del container[key]
    elif deed == "double" and isinstance(container, list):
        container.append(copy.deepcopy(container[key]))
    else:
        container[key] = odd
    if name == "jsonl" and not isinstance(files["path"], list):
        files["path"] = [files["path"]]
    source = write(tmp_path, name, files)
    try:
        samples = read(source, name)
    except DataError as error:
        said = str(error)
        samples = []
    else:
        said = ""
    assert "\n" not in said
    said.encode()
    assert len({sample.id for sample in samples}) == len(samples)
    for sample in samples:
        json.dumps([sample.fields, sample.target]).encode()
        assert all(isinstance(text, str) for text in sample.fields.values())


def test_fixture_is_what_it_claims() -> None:
    assert {made for made, *_ in DATASETS.values()} <= set(registry.names("formats"))
    assert CAPTIONS["images"][0]["height"] == 48
