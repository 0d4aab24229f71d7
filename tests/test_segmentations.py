"""Masks of annotation files: checked where they are scored, and never seen by native code unless sound."""

from __future__ import annotations

import copy
import json
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import INSTANCES, REFS
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit import registry
from evalkit.cli.main import main
from evalkit.errors import DataError
from evalkit.geometry import rle, segmentations
from evalkit.types import Box, Mask, Sample, Source

SIZE = (48, 64)
RUNS = [48 * 64 - 10, 10]
# what is wrong -> a segmentation, and what is said of it
WRONG: dict[str, tuple[Any, str]] = {
    "a polygon of two points": ([[1, 1, 9, 9]], "[0]: holds 4 numbers; a polygon has at least three points"),
    "a second polygon of two": ([[1, 1, 9, 1, 9, 9], [3, 3, 4, 4]], "[1]: holds 4 numbers"),
    "half a point": ([[1, 1, 9, 1, 9, 9, 5]], "[0]: holds 7 numbers; a polygon must have pairs"),
    "run lengths in a list": ([{"counts": RUNS, "size": [48, 64]}], "[0]: is not a polygon"),
    "points as pairs": ([[[1, 1], [9, 1], [9, 9]]], "[0]: is not a polygon"),
    "a flat list": ([1, 1, 9, 1, 9, 9], "[0]: is not a polygon"),
    "numbers as text": ([["1", "1", "9", "1", "9", "9"]], "[0]: is not a polygon"),
    "not a number": ([[1, 1, 9, 1, 9, float("nan")]], "[0]: is not a polygon"),
    "infinity": ([[1, 1, 9, 1, 9, float("inf")]], "[0]: is not a polygon"),
    "1e7": ([[1, 1, 1e7, 1, 9, 9]], "[0]: holds 1e+07, far outside the image"),
    "-4e7": ([[1, 1, 9, -4e7, 9, 9]], "[0]: holds -4e+07, far outside the image"),
    "2**40": ([[1, 1, 9, 2**40, 9, 9]], "far outside the image"),
    "edges without end": ([[0, 0, 640, 480] * 2000], "[0]: has edges of 2,560,000 pixels in all"),
    "another size": ({"size": [64, 48], "counts": RUNS}, ".size: is [64, 48]; it must be the image's"),
    "no size": ({"counts": RUNS}, ".size: is missing"),
    "no counts": ({"size": [48, 64]}, ".counts: is missing"),
    "runs too long": ({"size": [48, 64], "counts": [2**40]}, ".counts: sums to 1099511627776"),
    "runs that cancel": ({"size": [48, 64], "counts": [2**31, -(2**31), 3072]}, "are not negative"),
    "runs of fractions": ({"size": [48, 64], "counts": [3071.5, 0.5]}, "must be a list of whole numbers"),
    "letters beyond o": ({"size": [48, 64], "counts": "~~"}, "letters from 0 to o only"),
    "letters that are none": ({"size": [48, 64], "counts": "é"}, "letters from 0 to o only"),
    "a run cut short": ({"size": [48, 64], "counts": "oo"}, "a run is cut short, or too long"),
    "a run of a million letters": ({"size": [48, 64], "counts": "P" * 10**6 + "0"}, "cut short, or too long"),
    "text": ("polygon", ": is 'polygon'; it must be a list of polygons"),
    "a number": (5, ": is '5'; it must be a list of polygons"),
}  # fmt: skip
RIGHT: dict[str, Any] = {
    "a polygon": [[10, 20, 30, 20, 30, 40, 10, 40]],
    "two polygons": [[10, 20, 30, 20, 30, 40], [1, 1, 5, 1, 5, 5.5]],
    "beyond the image's edge": [[-20, -20, 80, -20, 80, 30]],
    "outside the image": [[-106.2, -48.9, -105.9, -51.4, -117.7, -52.7]],
    "runs": {"size": [48, 64], "counts": RUNS},
    "compressed runs": {"size": [48, 64], "counts": rle.empty(SIZE)["counts"].decode()},
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_and_drawn_by_nobody(name: str) -> None:
    segmentation, said = WRONG[name]
    found = segmentations.problem(segmentation, SIZE)
    assert found is not None
    assert said in ": ".join(found)
    with pytest.raises(DataError, match=r"^segmentation"):
        rle.rle(segmentation, SIZE)
    answer = (Mask(SIZE, rle.empty(SIZE)["counts"].decode(), Box(0, 0, 1, 1)),)
    for metric in ("mask_iou", "cumulative_iou"):
        with pytest.raises(DataError, match=r"^segmentation"):
            registry.make("metrics", metric).rows([answer], [{"size": SIZE, "segmentation": segmentation}])


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_is_drawn_as_pycocotools_draws_it(name: str) -> None:
    from pycocotools import mask

    assert segmentations.problem(RIGHT[name], SIZE) is None
    drawn = mask.decode(rle.rle(RIGHT[name], SIZE))
    assert drawn.shape == SIZE
    if isinstance(RIGHT[name], list):
        assert np.array_equal(drawn, mask.decode(mask.merge(mask.frPyObjects(RIGHT[name], *SIZE))))
    assert bool(drawn.any()) == (name not in ("outside the image", "compressed runs"))


@pytest.mark.parametrize("size", [(65_536, 65_536), (1 << 20, 1 << 12), (1 << 31, 1)])
def test_an_image_too_large_for_32_bits_is_refused(size: tuple[int, int]) -> None:
    """65,536 x 65,536 is 0 in 32 bits."""
    for segmentation in (RIGHT["a polygon"], {"size": list(size), "counts": [size[0] * size[1]]}):
        found = segmentations.problem(segmentation, size)
        assert found is not None
        assert "a mask may have 2,147,483,647 pixels" in found[1]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_compressed_runs_are_read_as_pycocotools_reads_them(pixels: list[bool]) -> None:
    from pycocotools import mask

    drawn = np.asfortranarray(np.array(pixels, dtype=np.uint8).reshape(3, 4))
    coded = mask.encode(drawn)["counts"]
    runs = segmentations.runs(coded)
    assert runs is not None
    assert sum(runs) == 12
    assert mask.frPyObjects({"size": [3, 4], "counts": runs}, 3, 4)["counts"] == coded
    assert segmentations.problem({"size": [3, 4], "counts": coded.decode()}, (3, 4)) is None


numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([0, 1, -1, 2**31, 2**63, 1e7, 4e7, -4e7]))
plain = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=8),
        st.lists(numbers, min_size=6, max_size=9),
        st.fixed_dictionaries({"size": st.just([48, 64]), "counts": inner}),
        st.dictionaries(st.sampled_from(["size", "counts"]), inner),
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(plain)
def test_nothing_at_all_reaches_native_code_unchecked(segmentation: Any) -> None:
    """Whatever is not refused can be drawn: an unsound one would end the process."""
    found = segmentations.problem(segmentation, SIZE)
    if found is None:
        rle.rle(segmentation, SIZE)
    else:
        assert all(isinstance(part, str) for part in found)
        assert len(": ".join(found)) < 200


# --- what is not used is not checked ---------------------------------------------------------------------


def coco(folder: Path, segmentation: Any, used: frozenset[str] | None) -> list[Sample]:
    data = copy.deepcopy(INSTANCES)
    data["annotations"][0]["segmentation"] = segmentation
    (folder / "i.json").write_text(json.dumps(data))
    source = Source(folder, {"path": "i.json", "images": "x"}, "t", used)
    return list(registry.make("formats", "coco_detection").samples(source, "val"))


def refer(folder: Path, segmentation: Any, used: frozenset[str] | None) -> list[Sample]:
    data = copy.deepcopy(INSTANCES)
    data["annotations"][0]["segmentation"] = segmentation
    (folder / "i.json").write_text(json.dumps(data))
    (folder / "r.p").write_bytes(pickle.dumps(REFS))
    source = Source(folder, {"refs": "r.p", "instances": "i.json", "images": "x"}, "t", used)
    return list(registry.make("formats", "refcoco").samples(source, "val"))


def line(folder: Path, segmentation: Any, used: frozenset[str] | None) -> list[Sample]:
    record = {"image": "a.png", "size": [48, 64], "bbox": [1, 2, 3, 4], "segmentation": segmentation}
    (folder / "d.jsonl").write_text(json.dumps(record))
    return list(
        registry.make("formats", "jsonl").samples(Source(folder, {"path": "d.jsonl"}, "t", used), "x")
    )


def objects(folder: Path, segmentation: Any, used: frozenset[str] | None) -> list[Sample]:
    thing = {"category": "cat", "bbox": [1, 2, 3, 4], "segmentation": segmentation}
    (folder / "d.jsonl").write_text(json.dumps({"image": "a.png", "size": [48, 64], "objects": [thing]}))
    return list(
        registry.make("formats", "jsonl").samples(Source(folder, {"path": "d.jsonl"}, "t", used), "x")
    )


PLACES = {
    "coco": "i.json: annotations[0] (id 100).",
    "refer": "i.json: annotations[0] (id 100).",
    "line": "d.jsonl: line 1.",
    "objects": "d.jsonl: line 1.objects[0].",
}


@pytest.mark.parametrize("name", [name for name in WRONG if name not in ("a run of a million letters",)])
@pytest.mark.parametrize("read", [coco, refer, line, objects])
def test_an_odd_mask_is_no_matter_to_boxes(tmp_path: Path, read: Any, name: str) -> None:
    segmentation, said = WRONG[name]
    boxes = frozenset({"box", "objects"})
    sound = [sample.target for sample in read(tmp_path, RIGHT["a polygon"], boxes)]
    odd = [sample.target for sample in read(tmp_path, segmentation, boxes)]
    for a, b in zip(sound, odd, strict=True):
        assert json.dumps(without_masks(a)) == json.dumps(without_masks(b))
    for used in (frozenset({"mask", "object masks"}), None):  # None: own metrics, which may use it
        with pytest.raises(DataError) as caught:
            read(tmp_path, segmentation, used)
        place = PLACES[read.__name__]
        assert f"{place}segmentation" in str(caught.value)
        assert said in str(caught.value)


def without_masks(target: Any) -> Any:
    if isinstance(target, dict):
        return {k: without_masks(v) for k, v in target.items() if k != "segmentation"}
    return [without_masks(each) for each in target] if isinstance(target, (list, tuple)) else target


def test_what_a_box_task_reads_of_a_sound_file_has_not_changed(tmp_path: Path) -> None:
    """The digest of the targets, which old runs and baselines record, has the masks too."""
    used = coco(tmp_path, RIGHT["a polygon"], frozenset({"objects"}))
    assert [s.target for s in used] == [s.target for s in coco(tmp_path, RIGHT["a polygon"], None)]


@pytest.mark.parametrize("name", ["1e7", "-4e7", "run lengths in a list", "a second polygon of two"])
@pytest.mark.parametrize(
    ("parser", "metric", "status"), [("boxes", "coco_ap", 0), ("masks", "coco_ap(region='masks')", 2)]
)
def test_from_the_command_line(
    tmp_path: Path, name: str, parser: str, metric: str, status: int, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    coco(tmp_path, WRONG[name][0], frozenset())
    Path("t.yaml").write_text(
        "version: 1\nabout: x\nlicense: x\ndata:\n  format: coco_detection\n  split: val\n"
        "  sources: [{path: i.json, images: .}]\n"
        f'prompt: what\nparser: {parser}\nmetrics: ["{metric}"]\n'
    )
    ids = [str(image["id"]) for image in INSTANCES["images"]]
    Path("p.jsonl").write_text("".join(json.dumps({"id": name, "text": ""}) + "\n" for name in ids))
    assert main(["score", "--task", "t.yaml", "--data-root", ".", "--predictions", "p.jsonl"]) == status
    assert ("i.json: annotations[0] (id 100).segmentation" in capsys.readouterr().err) == bool(status)


def test_a_large_file_is_checked_quickly_enough(tmp_path: Path) -> None:
    """A polygon of ten thousand corners, and its run lengths, take no more than their length."""
    chance = random.Random(0)
    corners = [chance.uniform(0, 60) for _ in range(20_000)]
    assert segmentations.problem([corners], (4000, 4000)) is None
    assert rle.rle([corners], (480, 640))["size"] == [480, 640]
