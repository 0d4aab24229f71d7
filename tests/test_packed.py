"""Samples and answers that are packed: what comes out is what went in, to the last bit."""

from __future__ import annotations

import gc
import hashlib
import json
import math
import pickle
import random
import threading
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import DATASETS, write
from stub import colours
from stub_runs import go, right

from evalkit import registry
from evalkit.data.by_name import Index, Mapped
from evalkit.data.columns import Columns
from evalkit.data.packed import Packer, Samples
from evalkit.data.sequences import Texts
from evalkit.evaluation import score
from evalkit.evaluation.given import read_predictions
from evalkit.runs import journal
from evalkit.runs.store import RunFolder, scores_of
from evalkit.tasks import loader
from evalkit.tasks.dataset import Selection, choose, dataset
from evalkit.types import ImageRef, Mark, Prediction, Sample

HALF = "half \udc80 a character"
RLE = {"size": [4, 6], "counts": "0a0"}
OBJECTS = [
    {
        "category": "cat",
        "box": (0.1, 1 / 3, 2.5, 1e-17),
        "area": 3.0,
        "iscrowd": 0,
        "segmentation": [[1, 2.0]],
    },
    {"category": "cat", "box": (0.0, -0.0, 1e300, 5.0), "area": 7, "iscrowd": 1, "segmentation": RLE},
]
CATEGORIES = tuple(f"category {i}" for i in range(80))  # one object in all samples
MARKS = (Mark("outline", (0.0, 0.1, 0.2, 0.3)), Mark("label", (1.0, 2.0, 3.0, 4.0), "pixels", text="A"))


@dataclass(frozen=True)
class Own:
    """A target that only its own metric knows."""

    value: int


def made() -> list[Sample]:
    """Samples of every kind, in an order in which neighbours share much, little and nothing."""
    targets: list[Any] = [
        ("red",), ("red", "red", "blue"), ("",), ("", ""), (), None, ("nul \0 inside",), (HALF, "ä ö \u2028"),
        {"size": (4, 6), "image_id": 1, "categories": CATEGORIES, "objects": OBJECTS},
        {"size": (4, 6), "image_id": 2, "categories": CATEGORIES, "objects": []},
        {"size": (4, 6), "image_id": 3, "categories": tuple(CATEGORIES), "objects": OBJECTS[:1]},
        {"size": (4, 6), "image_id": 4, "categories": ("cat",), "objects": OBJECTS[1:]},
        {"size": (4, 6), "box": (0, 0.5, 1, 1), "iscrowd": 0, "segmentation": RLE},
        {"answers": ("yes",), "pair": "p1"}, {"answers": ("no",), "pair": "p1"},
        {"answers": ("no",), "type": "t"}, tuple((f"step {i}", i, float(i)) for i in range(500)),
        (1, 2.0, True, None), ["a"], {}, {1: "one"}, "text",
        {"words": [{"text": "a", "points": [(0, 0), (1, 1.5)]}], "size": (4, 6)}, 7, Own(3), (np.str_("a"),),
    ]  # fmt: skip
    found = []
    for i, target in enumerate(targets * 2):
        images = tuple(ImageRef(f"/data/{i // 3}-{n}.png", "" if i % 2 else "m") for n in range(i % 4 or 1))
        if i % 5 == 0:
            images = (ImageRef(f"/data/{i}.png", marks=MARKS[: i % 3], turn=i % 4, within=("/elsewhere",)),)
        long = "; ".join(CATEGORIES) if i % 2 else HALF
        fields = [{}, {"question": f"why {i}?"}, {"question": "", "categories": long, "nul": "\0"}][i % 3]
        found.append(Sample(
            f"{'é' * (i % 3)}{i}", images, fields, target, [(4, 6), None, (1 << 40, 2), (0, 0)][i % 4],
            f"group {i % 4}", f"cluster {i // 2}" if i % 3 else "", ("a", "b") if i % 7 == 0 else (),
        ))  # fmt: skip
    return found


def same(a: Any, b: Any) -> bool:
    """Equal, and of the same types all through; NaN and the sign of 0 count."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)


def parts(sample: Sample) -> tuple[Any, ...]:
    refs = tuple((r.path, r.member, r.marks, r.turn) for r in sample.images)
    return (sample.id, refs, dict(sample.fields), sample.target, sample.size, sample.group, sample.cluster,
            sample.choices)  # fmt: skip


def check(plain: list[Sample]) -> None:
    packed = Samples.of(iter(plain))
    assert len(packed) == len(plain)
    for one, other in zip(packed, plain, strict=True):
        assert same(parts(one), parts(other)), other
    order = list(range(len(plain)))
    random.Random(0).shuffle(order)
    taken = packed.take(order)
    for at, i in enumerate(order):
        sample = plain[i]
        assert same(parts(taken[at]), parts(sample))
        assert same(taken.targets[at], sample.target)
        assert same(taken.sizes[at], sample.size)
        assert (taken.ids[at], taken.groups[at], taken.clusters[at]) == (
            sample.id,
            sample.group,
            sample.cluster,
        )
        assert taken.fields[at] == sample.fields
        assert taken.has_target[at] == (sample.target is not None and not same(sample.target, ()))
        assert packed.by_id().get(sample.id) == i
    assert [s.id for s in taken.in_order()] == sorted(s.id for s in plain)
    assert same([parts(s) for s in packed[1:-1]], [parts(s) for s in plain[1:-1]])
    assert same(parts(packed[-1]), parts(plain[-1]))


def test_samples_of_every_kind_come_out_as_they_went_in() -> None:
    check(made())


@pytest.mark.parametrize("name", DATASETS)
def test_samples_of_every_format_come_out_as_they_went_in(name: str, tmp_path: Path) -> None:
    spelling, split = DATASETS[name][:2]
    plain = list(registry.make("formats", spelling).samples(write(tmp_path, name), split))
    assert plain
    check(plain)


def test_images_are_bounded_where_they_do_not_say_otherwise() -> None:
    packer = Packer(("/data",))
    for sample in made():
        packer.add(sample)
    for one, other in zip(packer.samples(), made(), strict=True):
        assert [r.within for r in one.images] == [r.within or ("/data",) for r in other.images]


def objects(count: int, **others: Any) -> list[dict[str, Any]]:
    """Objects with numbers as annotation tools write them."""
    found = []
    for i in range(count):
        box = (i / 7, 0.5 * i, 10.25, 1e-3 + i)
        one = {"category": f"c{i % 3}", "box": box, "area": box[2] * box[3], "iscrowd": 0}
        found.append({**one, **{key: value(i) for key, value in others.items()}})
    return found


def hundredths(i: int) -> list[list[float]]:
    return [[(100 * n + 7 * i + n) / 100 for n in range(40 + 2 * i)]]


OF_ONE_IMAGE = {
    "derived areas": (objects(7), True),
    "stated areas": (objects(7, area=lambda i: i / 3), True),
    "crowds": (objects(7, iscrowd=lambda i: i % 2), True),
    "a crowd of 2": (objects(2, iscrowd=lambda i: 2), False),
    "a crowd of true": (objects(2, iscrowd=lambda i: True), False),
    "the sign of 0": (objects(2, box=lambda i: (0.0, -0.0, -0.0, 1.0), area=lambda i: 0.0), True),
    "no numbers": (objects(2, box=lambda i: (math.nan, math.inf, 1.0, 2.0)), True),
    "whole numbers": (objects(3, box=lambda i: (0, 1, 2, 3)), False),
    "one whole area": (objects(3, area=lambda i: 1 if i else 1.0), False),
    "of three numbers": (objects(2, box=lambda i: (0.0, 1.0, 2.0)), False),
    "lists": (objects(2, box=lambda i: [0.0, 1.0, 2.0, 3.0]), False),
    "names that are none": (objects(3, category=lambda i: None if i else "c"), False),
    "half a character": (objects(2, category=lambda i: HALF), True),
    "another key": (objects(2, note=lambda i: "x"), False),
    "another order": ([dict(reversed(one.items())) for one in objects(2)], False),
    "two kinds": (objects(1) + objects(1, segmentation=hundredths), False),
    "hundredths": (objects(7, segmentation=hundredths), True),
    "large hundredths": (objects(7, segmentation=lambda i: [[655.36 + n for n in range(20)]]), True),
    "huge": (objects(7, segmentation=lambda i: [[1e9 + n for n in range(20)]] * 2), True),
    "below 0": (objects(7, segmentation=lambda i: [[-0.5 * n for n in range(20)]]), True),
    "signs": (objects(7, segmentation=lambda i: [[-0.0, 0.0] * 10]), True),
    "thirds": (objects(7, segmentation=lambda i: [[n / 3 for n in range(20)]]), True),
    "infinite": (objects(7, segmentation=lambda i: [[math.inf, math.nan] * 10]), True),
    "none and several": (objects(7, segmentation=lambda i: hundredths(i) * i), True),
    "whole points": (objects(7, segmentation=lambda i: [[1, 2.0] * 10]), True),
    "few points": (objects(1, segmentation=lambda i: [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]), True),
    "run lengths": (objects(2, segmentation=lambda i: RLE), True),
    "both": (objects(2, segmentation=lambda i: RLE if i else [[1.0, 2.0] * 40]), True),
}


@pytest.mark.parametrize("name", OF_ONE_IMAGE)
def test_objects_come_out_as_they_went_in(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    every, short = OF_ONE_IMAGE[name]
    columns = Columns()
    packed = columns.pack(every)
    assert (packed is not None) == short
    assert packed is None or same(columns.made(packed), every)
    target = {"size": (4, 6), "objects": every}
    check([Sample(str(i), (), {}, target) for i in range(3)])
    monkeypatch.setattr("evalkit.data.columns._NAMES", 1)  # more names than have a number
    check([Sample(str(i), (), {}, target) for i in range(3)])


def test_polygons_in_hundredths_take_two_bytes_a_number() -> None:
    every = objects(7, segmentation=lambda i: [[(7 * i + n) / 100 for n in range(100)]])
    assert len(pickle.dumps(Columns().pack(every))) < 7 * (2 * 100 + 80)


def test_images_of_many_folders_and_archives_come_out_as_they_went_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evalkit.data.packed._FOLDERS", 3)
    refs = [ImageRef(f"/d{i % 5}/a/{i}.png", f"m/{i}.png" if i % 2 else "") for i in range(20)]
    refs += [ImageRef("no folder.png"), ImageRef("/nul\0.png"), ImageRef("/"), ImageRef("")]
    clusters = ["", "own", "/a/1.png", "1.png", "nul \0"]
    check([Sample(str(i), (ref,), {}, (), cluster=clusters[i % 5]) for i, ref in enumerate(refs)])


@pytest.mark.parametrize(("kind", "most"), [("boxes", 500), ("question", 400)])
def test_a_sample_takes_few_bytes(kind: str, most: int) -> None:
    def plain(count: int) -> Iterator[Sample]:
        for i in range(count):
            shown = (ImageRef(f"/somewhere/of/mine/images/val/{i:012d}.jpg"),)
            boxes = {"size": (480, 640), "image_id": i, "categories": CATEGORIES, "objects": objects(7)}
            target, asked = (boxes, "; ".join(CATEGORIES)) if kind == "boxes" else (("red",), f"what is {i}?")
            yield Sample(f"{i:012d}.jpg", shown, {"asked": asked}, target, cluster=f"{i:012d}.jpg")

    tracemalloc.start()
    try:
        packed = Samples.of(plain(500))
        assert packed.by_id().repeated == ""
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] / 500 < most
    finally:
        tracemalloc.stop()


def test_what_cannot_be_copied_is_kept_as_it_is() -> None:
    lock = threading.Lock()
    packed = Samples.of([Sample("a", (), {}, lock), Sample("b", (), {}, {"lock": lock})])
    assert packed[0].target is lock
    assert packed[1].target["lock"] is lock
    assert list(packed.has_target) == [True, True]


def digest(pairs: Iterable[tuple[str, str]]) -> str:
    each = sorted(hashlib.sha256(f"{name}\0{content}".encode()).digest() for name, content in pairs)
    return hashlib.sha256(b"".join(each)).hexdigest()


TASK = """version: 1
about: x
license: none
data: {{format: "{format}", split: all, sources: [{{path: a.jsonl}}]}}
prompt: "{{{{ask}}}} {{question}} <image>"
image: {{resize: bilinear}}
decode: {{max_new_tokens: 8}}
parser: {parser}
metrics: [{metric}]
"""
CAT = {"category": "cat", "bbox": [0, 0, 1 / 3, 2]}
LINES = {
    "texts": ("text", "exact_match", [
        {"answers": ["red", "réd"]}, {"answer": "blue", "group": "g", "cluster": "c"},
        {"suffix": "\u2028", "cluster": "c"},
    ]),
    "boxes": ("boxes(form='first')", "box_iou", [{"bbox": [1, 2.5, 3, 4], "size": [9, 9]}] * 3),
    "objects": ("boxes", "coco_ap", [
        {"objects": [CAT], "size": [9, 8]}, {"objects": [], "size": [7, 8], "group": "g"},
    ]),
}  # fmt: skip


@pytest.mark.parametrize("kind", LINES)
def test_digests_are_those_of_the_plain_samples(kind: str, tmp_path: Path) -> None:
    parser, metric, lines = LINES[kind]
    whole = [{"image": f"{i // 2}.png", "question": f"wo {i}?", **line} for i, line in enumerate(lines)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in whole))
    (tmp_path / "t.yaml").write_text(TASK.format(format="jsonl", parser=parser, metric=metric))
    data = dataset(loader.load(str(tmp_path / "t.yaml")), [tmp_path])
    plain = list(registry.make("formats", "jsonl").samples(data.source, "all"))
    prompts = [(s.id, f"{{ask}} {s.fields['question']} <image>\0{len(s.images)}") for s in plain]
    assert data.prompts == digest(prompts)
    targets = ((s.id, json.dumps(s.target, sort_keys=True, default=str)) for s in plain)
    assert data.targets == digest(targets)
    assert data.facts == digest((s.id, json.dumps([s.size, s.group, s.cluster])) for s in plain)
    assert f"{len(plain)} of {len(plain)} prompts have <image> inside, first 0's" in data.placeholders
    assert [parts(s) for s in data.samples] == [parts(s) for s in plain]


def test_scores_do_not_hang_on_how_samples_and_answers_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = colours(tmp_path / "data")
    data = dataset(loader.load(str(task)), [tmp_path / "data"])
    told = {s.id: Prediction(s.id, "", s.target[0] if i % 3 else "grey") for i, s in enumerate(data.samples)}
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps({"id": n, "text": p.text}) + "\n" for n, p in reversed(told.items())))
    read = read_predictions(str(file), data.samples)
    assert dict(read) == told
    found = [
        score.score(data.task, data.parser, samples, given, "all", data.targets)
        for samples in (data.samples, list(data.samples)[::-1]) for given in (told, read)
    ]  # fmt: skip
    assert len({repr((f.scores, list(f.lines))) for f in found}) == 1


# --- answers ---------------------------------------------------------------------------------------


def test_answers_that_stay_in_their_journal_are_those_that_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, out = colours(tmp_path / "data"), tmp_path / "out"
    folder = RunFolder(go(task, out, "good", right))
    run = folder.read_run()
    assert run is not None
    kept = folder.answers(run["digest"], run)
    assert isinstance(kept.entries, dict)
    (part,) = journal.parts(folder.path / "predictions")
    whole = part.read_bytes()
    monkeypatch.setattr(journal, "IN_MEMORY", 0)
    for data, odd in ((whole, 0), (whole + b"torn", 0), (whole.replace(b'"text"', b'"tixt"', 1), 0)):
        part.write_bytes(data)
        filed = folder.answers(run["digest"], run)
        assert not isinstance(filed.entries, dict)
        digests = {journal.Predictions(e, list(kept.entries)).digest() for e in (filed.entries, kept.entries)}
        assert (len(digests) == 1) == (b"tixt" not in data)
        assert len(filed.aside) == odd
        assert {name: entry for name, entry in kept.entries.items() if name in filed.entries} == dict(
            filed.entries
        )
    assert len(filed.entries) == len(kept.entries) - 1
    part.write_bytes(whole + whole)  # an answer that is there twice
    assert folder.answers(run["digest"], run).entries == kept.entries
    part.write_bytes(whole)
    before = scores_of(folder)
    filed = folder.answers(run["digest"], run)
    part.write_bytes(whole.replace(b"red", b"rid"))
    with pytest.raises(journal.ResultsError, match="changed while it was read"):
        list(filed.entries.values())
    part.write_bytes(whole)
    again = RunFolder(go(task, tmp_path / "again", "good", right))  # scored from the journal
    assert scores_of(again) == before
    assert (again.path / "rows.jsonl").read_bytes() == (folder.path / "rows.jsonl").read_bytes()


# --- texts by place and by name ------------------------------------------------------------------------


def test_texts_and_their_places() -> None:
    names = ["", "a", HALF, "a\0", "ä" * 300, "b", *(str(i) for i in range(1000))]
    texts = Texts(names)
    assert list(texts) == names
    assert texts[-1] == names[-1]
    assert texts[1:4] == names[1:4]
    with pytest.raises(IndexError):
        texts[len(names)]
    index = Index(texts)
    assert [index.get(name) for name in names] == list(range(len(names)))
    assert index.get("not there") is None
    assert 7 not in index
    assert index.repeated == ""
    again = Index([*names, "b", "a", "b"])
    assert (again.repeated, again.get("b")) == ("b", 5)
    assert Index([]).repeated == ""


def test_a_place_is_the_same_in_whatever_order_names_are_asked_for() -> None:
    draw = random.Random(0)
    for count, kinds in ((1, 1), (2, 9), (60, 1000), (60, 20)):
        names = [str(draw.randrange(kinds)) for _ in range(count)]
        index, at = Index(names), 0
        for _ in range(2000):  # mostly the next one, sometimes the same, another, or one that is not there
            at = draw.choice([at + 1, at + 1, at, draw.randrange(count)]) % count
            wanted = names[at] if draw.random() < 0.9 else draw.choice(["", "x"])
            assert index.get(wanted) == (names.index(wanted) if wanted in names else None)


def test_values_by_name() -> None:
    found = Mapped[Prediction](lambda name, plain: Prediction(name, *plain))
    for i in range(50):
        found.add(f"n{i}", ("prompt", f"text {i}", (1, i), (-0.5, float("-inf"))))
    assert found["n7"] == Prediction("n7", "prompt", "text 7", (1, 7), (-0.5, float("-inf")))
    assert (len(found), list(found)[3], "n3" in found, found.repeated) == (50, "n3", True, "")
    with pytest.raises(KeyError):
        found["n50"]
    found.add("n7", ("", ""))
    assert found.repeated == "n7"


def test_what_is_chosen_is_what_plain_samples_give() -> None:
    plain = [replace(s, id=f"q{i}") for i, s in enumerate(made())]
    packed = Samples.of(plain)
    for limit, seed in ((1, 0), (5, 0), (5, 3), (10_000, 0)):
        first: dict[str, str] = {}
        for s in plain:
            first[s.cluster or s.id] = min(first.get(s.cluster or s.id, s.id), s.id)
        order = sorted(first, key=lambda c: hashlib.sha256(f"{seed}\0{first[c]}".encode()).digest())
        kept = [s.id for s in plain if (s.cluster or s.id) in order[:limit]]
        assert list(choose(packed, Selection(limit, seed)).ids) == kept
    assert list(choose(packed, Selection(ids=("q7", "q2", "q7"))).ids) == ["q2", "q7"]
