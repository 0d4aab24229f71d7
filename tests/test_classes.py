"""Intervals of classes: each as of a score of its own, over the images that show the class."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from evalkit import registry
from evalkit.metrics import coco_ap
from evalkit.report import breakdowns, leaderboard
from evalkit.stats import f1, intervals, parts
from evalkit.types import Box, Score

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
    monkeypatch.setattr(coco_ap, "_curve", lambda *a, real=coco_ap._curve: curves.append(1) or real(*a))
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
    assert "| cat | 50.0 ±15.0 | 12 |" in text
    assert "| dog | 25.0 ±5.0 | 200 |" in text
    assert "fewer than 100 images, so the interval is rough: cat (12)" in text
    assert "±15.0" in breakdowns.table([cell(rows)], "html", "class")
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
