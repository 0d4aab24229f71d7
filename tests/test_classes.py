"""Intervals of classes, each as of a score of its own; the kinds of error that PaliGemma has of its own."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from evalkit import registry
from evalkit.geometry import location_tokens, oddities
from evalkit.metrics import coco_ap
from evalkit.report import breakdowns, causes, leaderboard
from evalkit.stats import average_precision, f1, intervals, parts
from evalkit.text import labels
from evalkit.types import CUT, Box, Mask, Score

SIZE = (100, 100)


def world(images: int, classes: int = 1, shown: float = 1.0, seed: int = 0) -> tuple[list[Any], list[Any]]:
    """Answers and targets: one to three objects an image, most of them found, with boxes that are off."""
    rng, names = np.random.default_rng(seed), tuple(f"c{k}" for k in range(classes))
    answers, targets = [], []
    for image in range(images):
        objects, given = [], []
        for name in names:
            for k in range(int(rng.integers(1, 4)) if name == "c0" or rng.random() < shown else 0):
                x, off = 30 * k, rng.choice([0, 1, 3, 30])
                objects.append({"category": name, "box": (x, 0, 20, 20), "area": 400, "iscrowd": 0})
                given.append(Box.of_pixels((x, off, 20, 20), SIZE, name))
        answers.append(tuple(given))
        targets.append({"size": SIZE, "image_id": image, "categories": names, "objects": objects})
    return answers, targets


def bounds(spelling: str, answers: Any, targets: Any, index: Any = None) -> tuple[Any, dict[str, Any]]:
    """The score's own interval, and what is told of its classes."""
    metric = registry.make("metrics", spelling)
    index = np.arange(len(answers)) if index is None else index
    rows = metric.rows(answers, targets)
    own = intervals.interval(metric, rows, index.tolist())
    return own, metric.part_intervals(rows, index)["class"]


@pytest.mark.parametrize("images", [30, 130])
def test_the_only_class_has_the_interval_of_the_score(images: int) -> None:
    (low, high, _), found = bounds("coco_ap", *world(images))
    assert (found["c0"]["AP low"], found["c0"]["AP high"]) == (low, high)
    (low, high, _), found = bounds("coco_ap(iou=0.5)", *world(images))
    assert (found["c0"]["AP50 low"], found["c0"]["AP50 high"]) == (low, high)
    assert found["c0"]["images"] == images
    (low, high, _), found = bounds("detection_f1", *world(8))
    assert (found["c0"]["F1 low"], found["c0"]["F1 high"]) == (low, high), "few images: in closed form"


def test_images_that_share_a_cluster_are_one() -> None:
    answers, targets = world(130)
    alone, twice = (bounds("coco_ap", answers, targets, np.arange(130) // size)[1]["c0"] for size in (1, 10))
    assert (alone["images"], twice["images"]) == (130, 13)
    assert twice["AP high"] - twice["AP low"] > alone["AP high"] - alone["AP low"]


def test_a_class_is_drawn_from_the_images_that_show_it() -> None:
    """As if no other image were there: many images beside it make no class surer."""
    answers, targets = world(150, classes=2, shown=0.1)
    here = [k for k, t in enumerate(targets) if any(o["category"] == "c1" for o in t["objects"])]
    for spelling in ("coco_ap", "detection_f1"):
        _, every = bounds(spelling, answers, targets)
        _, few = bounds(spelling, [answers[k] for k in here], [targets[k] for k in here])
        assert every["c1"] == pytest.approx(few["c1"])
        assert every["c1"]["images"] == len(here) < 30 < every["c0"]["images"]


def test_what_the_bootstrap_kept_is_what_it_would_draw_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES_SLOW", 200)
    answers, targets = world(105, classes=2, shown=0.99)
    metric = registry.make("metrics", "coco_ap")
    rows, index = metric.rows(answers, targets), np.arange(105)
    intervals.interval(metric, rows, index.tolist())
    kept = metric.part_intervals(rows, index)
    curves = []
    real = average_precision.curve_of
    monkeypatch.setattr(average_precision, "curve_of", lambda *a: curves.append(1) or real(*a))
    assert metric.part_intervals(rows, index) == kept
    assert len(curves) < 2 * 106, "no resample is reduced again"
    assert metric.part_intervals(list(rows), index) == kept
    assert len(curves) > 2 * intervals.RESAMPLES_SLOW


def test_bounds_hold_the_figure_and_the_truth() -> None:
    """Of 150 draws of 40 images whose objects are right by 60 %, images alike within."""
    rng, inside = np.random.default_rng(4), dict.fromkeys(("precision", "recall", "F1"), 0)
    truth = {"precision": 0.6 / 0.8, "recall": 0.6, "F1": 2 * 0.6 / 1.8}
    for _ in range(150):
        sure = rng.beta(3, 2, size=40)  # of mean 0.6
        wanted = rng.integers(1, 4, size=40)
        right = rng.binomial(wanted, sure)
        given = right + rng.binomial(wanted, 0.2)
        counts = np.stack([right, given, wanted], axis=1).astype(float)
        found, said = parts.of_counts(counts, np.arange(40)), f1.figures(counts.sum(axis=0))
        for figure, value in truth.items():
            assert 0 <= found[figure + " low"] <= said[figure] <= found[figure + " high"] <= 1
            inside[figure] += found[figure + " low"] <= value <= found[figure + " high"]
    assert all(0.9 <= n / 150 <= 0.985 for n in inside.values()), inside


@pytest.mark.parametrize(
    ("counts", "figure", "images"),
    [
        ([[2, 2, 2], [1, 1, 1]], (math.sqrt(0.025 * 1), 1.0), 2),  # 0.975 = 1 - low²: Clopper and Pearson
        ([[0, 0, 1], [0, 0, 2]], (0.0, 1 - math.sqrt(0.025)), 2),
        ([[1, 1, 1]], None, 1),
        ([[0, 0, 0]], None, 0),
    ],
)
def test_intervals_of_few_images(counts: Any, figure: Any, images: int) -> None:
    found = parts.of_counts(np.array(counts, dtype=float), np.arange(len(counts)))
    assert found["images"] == images
    if figure is None:
        assert "recall low" not in found
    else:
        assert (found["recall low"], found["recall high"]) == pytest.approx(figure)


def test_precision_counts_the_images_with_an_answer() -> None:
    """One image of thirty has an answer: its precision has no interval, recall has one."""
    counts = np.array([[1, 1, 1], *[[0, 0, 1]] * 29], dtype=float)
    found = parts.of_counts(counts, np.arange(30))
    assert "precision low" not in found
    assert 0 < found["recall low"] < 1 / 30 < found["recall high"] < 0.25


def test_fields_and_labels_have_intervals_too() -> None:
    metric = registry.make("metrics", "label_f1")
    rows = metric.rows(["cat, dog"] * 6 + ["cat"] * 6, [("cat", "dog")] * 12)
    found = metric.part_intervals(rows, np.arange(12))["class"]
    assert found["dog"]["recall low"] == pytest.approx(intervals.exact(0.5, 12)[0], abs=0.1)
    metric = registry.make("metrics", "json_fields")
    rows = metric.rows(['{"a": 1, "b": 2}'] * 5, [('{"a": 1, "b": 3}',)] * 5)
    found = metric.part_intervals(rows, np.arange(5))["field"]
    assert found["a"]["F1 high"] == 1
    assert found["b"]["F1 low"] == 0
    assert found["a"]["images"] == 5


def cell(rows: dict[str, dict[str, float]], metric: str = "coco_ap") -> leaderboard.Cell:
    score = Score("t", metric, "s", 0.5, 0.4, 0.6, 9, 9, "all", 0, breakdowns={"class": rows})
    return leaderboard.Cell(score, "r", "m", ())


def test_a_table_says_which_classes_are_rough() -> None:
    wide = {"AP low": 0.4, "AP high": 0.7, "images": 12}
    rows = {"cat": {"AP": 0.5, **wide}, "dog": {"AP": 0.25, "images": 200, "AP low": 0.2, "AP high": 0.3}}
    text = breakdowns.table([cell(rows)], "md", "class")
    assert "| cat | 50.0 [40.0, 70.0] | 12 |" in text
    assert "| dog | 25.0 ±5.0 | 200 |" in text
    assert "fewer than 100 images, so the interval is rough: cat (12)" in text
    assert "50.0 [40.0, 70.0]" in breakdowns.table([cell(rows)], "html", "class")
    assert '"AP low": 0.4' in breakdowns.table([cell(rows)], "json", "class")
    old = breakdowns.table([cell({"cat": {"AP": 0.5}})], "md", "class")
    assert "±" not in old
    assert "| cat | 50.0 |" in old


def test_very_many_classes_have_no_interval_of_ap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_ap, "MOST_CLASSES", 1)
    _, found = bounds("coco_ap", *world(20, classes=2))
    assert "AP low" not in found["c0"]
    assert "F1 low" in found["c0"]
    found["c0"]["AP"] = 0.5
    assert "AP, AP50 and AR100 of so many classes have no interval" in breakdowns.table(
        [cell(found)], "md", "class"
    )


# --- PaliGemma's own kinds of error ------------------------------------------------------------------------


def mask(box: tuple[int, int, int, int], pixels: tuple[int, int, int, int] | None = None) -> Mask:
    """A mask of 100 x 100 pixels: its box, and the pixels it has, both y0, x0, y1, x1."""
    from pycocotools import mask as cocomask

    array = np.zeros(SIZE, dtype=np.uint8, order="F")
    if pixels:
        array[pixels[0] : pixels[2], pixels[1] : pixels[3]] = 1
    place = Box(*(v / 100 for v in box), "cat")
    return Mask(SIZE, cocomask.encode(array)["counts"].decode(), place, "cat")


REGION = {"size": SIZE, "box": (10, 10, 30, 30), "segmentation": [[10, 10, 30, 10, 30, 30, 10, 30]]}
LARGE = {"size": SIZE, "box": (0, 0, 99, 99), "segmentation": [[0, 0, 99, 0, 99, 99, 0, 99]]}


@pytest.mark.parametrize("spelling", ["mask_iou", "cumulative_iou", "box_accuracy", "box_iou"])
def test_one_box_or_mask_is_odd_as_many_are(spelling: str) -> None:
    metric = registry.make("metrics", spelling)
    empty, vanished = mask((10, 10, 30, 30)), mask((10, 10, 10, 30))
    whole = mask((0, 0, 100, 100), (0, 0, 100, 100))
    assert metric.remarks([(whole,)], [REGION]) == {"boxes around the whole image": 1}
    assert metric.remarks([(whole,)], [LARGE]) == {}
    assert metric.remarks([(empty,), (vanished,), None, ()], [REGION] * 4) == {"masks without a pixel": 1}
    assert metric.remarks([(whole.box,)], [REGION]) == {"boxes around the whole image": 1}
    if "mask" in metric.takes:
        bare = {key: value for key, value in REGION.items() if key != "box"}
        assert metric.remarks([(whole,)], [bare]) == {"boxes around the whole image": 1}


@pytest.mark.parametrize("spelling", ["coco_ap", "detection_f1", "tide", "sweep_f1"])
@pytest.mark.parametrize("region", ["boxes", "masks"])
def test_metrics_of_objects_count_the_same_oddities(spelling: str, region: str) -> None:
    metric = registry.make("metrics", f"{spelling}(region={region!r})")
    things: list[Any] = [mask((0, 0, 100, 100)), mask((10, 10, 30, 30), (10, 10, 30, 30))] * 2
    things = things if region == "masks" else [thing.box for thing in things]
    target = {"size": SIZE, "image_id": 1, "categories": ("dog",), "objects": []}
    assert metric.remarks([things], [target]) == {
        "boxes with a label that is no category": 4,
        "of them 'cat'": 4,
        "boxes that the answer repeats": 2,
        "boxes around the whole image": 2,
        **({"masks without a pixel": 2} if region == "masks" else {}),
    }


LOC, SWAP, FLAT = "<loc0100>" * 2 + "<loc0500>" * 2, "<loc0500>" * 2 + "<loc0100>" * 2, "<loc0100>" * 4
SEG = "<seg001>" * 16
ODD = {
    "objects": ["", "a cat", "<loc0001> cat", SWAP + " cat", FLAT + " cat"],
    "start": ["cat " + LOC],
    "first": [],
}
ODD_MASKS = {"objects": [LOC + " cat", LOC + "<seg001> cat"], "start": [LOC + " " + SEG]}


def test_each_kind_says_what_usually_causes_it() -> None:
    found = [location_tokens.lacking(t, form) for form, texts in ODD.items() for t in texts]
    found += [location_tokens.lacking(t, form, mask=True) for form, ts in ODD_MASKS.items() for t in ts]
    found += [location_tokens.skipped(f"{LOC} cat ; {bad} cat") for bad in (SWAP, FLAT)]
    found += [oddities.WHOLE, oddities.REPEATED, oddities.EMPTY, CUT, "a box without a whole pixel"]
    found += labels.strange(["owl", "dog"], ["cat", "dog"])
    found = [what for what in found if not what.startswith("of them")]
    assert len(set(found)) >= 15
    assert all(found)
    for what in found:
        score = Score("t", "m", "", 0.5, None, None, 20, 20, "all", 0, remarks={what: 3})
        (line,) = causes.odd(score, {})
        assert len(line) > len(what) + 10
        assert causes.own(score) == {what: {"n": 3}}


def test_a_task_without_tide_has_its_own_kinds_of_error() -> None:
    remarks = {CUT: 12, "boxes around the whole image": 3, "a thing of which nobody knows the cause": 4}
    score = Score("t", "box_iou", "s", 0.5, 0.4, 0.6, 20, 20, "all", 0, remarks=remarks)
    task = {"decode": {"max_new_tokens": 128}}
    cells = [leaderboard.Cell(score, "r", "m", (), task_file=task)]
    text = breakdowns.table(cells, "md", "error")
    assert "| cut at max_new_tokens | 12 |" in text
    assert "12 of 20 answers were cut at 128 new tokens: raise decode.max_new_tokens" in text
    assert "nobody" not in text
    found = json.loads(breakdowns.table(cells, "json", "error"))
    assert [(line["error"], line["n"]) for line in found] == list(remarks.items())[:2]
