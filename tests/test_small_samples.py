"""Few images, scores at their ends, means over groups: intervals are honest or there are none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from benchmarks import small_samples as simulated
from evalkit import registry
from evalkit.comparison import gate
from evalkit.comparison.compare import flags
from evalkit.report.leaderboard import Cell, grid
from evalkit.stats import intervals, paired
from evalkit.types import Box, Metric, Rows, Score, Share


def rows_of(values: Any) -> Rows:
    return np.stack([np.asarray(values, float), np.ones(len(values))], axis=1)


def over_groups(scores: dict[str, list[float]], of: str = "exact_match") -> tuple[Any, Rows]:
    metric: Any = registry.make("metrics", f"group_mean(of={of!r}, groups={list(scores)!r})")
    groups = [name for name, values in scores.items() for _ in values]
    return metric, metric.spread(rows_of([v for values in scores.values() for v in values]), groups)


# --- by simulation: a short one; `python -m benchmarks.small_samples` is the longer -------------------------


@pytest.mark.parametrize(
    "case",
    [simulated.groups_of((0.95, 0.95), (5, 5)), simulated.groups_of((0.99, 0.99), (5, 5)),
     simulated.groups_of((0.98,) * 3, (30,) * 3), simulated.groups_of((0.995, 0.9), (100, 2)),
     simulated.groups_of((0.99,) * 10, (10,) * 10, 0.9), simulated.groups_of((0.7, 0.8), (200, 300)),
     simulated.mean_of("nearly always 1", 5, 1), simulated.mean_of("rarely 0", 30, 5),
     simulated.areas_of(0.6, 1.0, 5), simulated.areas_of(0.95, 1.0, 30), simulated.f1_of(0.99, 20)],
    ids=lambda case: case.name,
)  # fmt: skip
def test_intervals_of_few_images_hold(case: simulated.Case) -> None:
    """Before: 41, 9, 81, 19, 21, 96 % for the means over groups, 35 % for F1 of 50 images."""
    held, without, _ = simulated.measured(case, 200)
    assert held >= 0.92
    assert without == 0


@pytest.mark.parametrize(("images", "held"), [(5, 0.95), (20, 0.95)])
def test_ap_of_few_images_holds(images: int, held: float) -> None:
    """Resamples of 20 images held it in 76 of 100: AP of few images is too high."""
    assert simulated.measured(simulated.ap_of(images, 0.7, 0.5, 0.03), 40)[0] >= held


def test_errors_of_differences_of_means_over_groups() -> None:
    for images in (5, 20):
        held, small = simulated.errors(images, (0.95, 0.9), 0.2, 100)
        assert held >= 0.95
        assert small <= 0.05


# --- the ends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n", [2, 5, 30, 100])
def test_a_mean_over_groups_is_never_certain(share: float, n: int) -> None:
    """`100.0 ±0.0`, `50.0 ±0.0` (one group all right, one all wrong) and `0.0 ±0.0` are gone."""
    scores = {"a": [float(share > 0)] * n, "b": [float(share == 1)] * n}
    metric, rows = over_groups(scores)
    low, high, method = intervals.interval(metric, rows, range(2 * n))
    assert metric.reduce(rows) == share
    assert low is not None
    assert high is not None
    assert 0 <= low <= share <= high <= 1
    assert (high - low) / 2 > 1 / (4 * n)
    assert (high - low) / 2 < 2 / math.sqrt(n)
    assert method == "groups(exact)"


@pytest.mark.parametrize("value", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("clusters", [2, 9, 40])
@pytest.mark.parametrize("most", [1, 3])
def test_rows_that_are_all_alike_are_not_certain(value: float, clusters: int, most: int) -> None:
    index = [i // most for i in range(clusters * most)]
    low, high, _ = intervals.interval(Share(), rows_of([value] * len(index)), index)
    assert low is not None
    assert high is not None
    assert high - low > 1 / (3 * clusters)
    assert low <= value <= high


def cats(images: int) -> list[dict[str, Any]]:
    """Targets of one cat in the upper left quarter each."""
    objects = [{"category": "cat", "box": (0, 0, 50, 50), "area": 2500, "iscrowd": 0}]
    size = {"size": (100, 100), "categories": ["cat"], "objects": objects}
    return [{**size, "image_id": i} for i in range(images)]


def every_wrapper(good: bool, images: int) -> list[tuple[Metric, Rows]]:
    """Every kind of score, of `images` images that are all right or all wrong."""
    value, made = float(good), []
    made.append(
        (
            registry.make("metrics", "cumulative_iou"),
            np.array([[4 * value * k, 4.0 * k] for k in range(1, 1 + images)]),
        )
    )
    for figure in ("accuracy", "f1", "precision", "recall"):
        row = [value, 0, 0, 1 - value, 0, 0]
        made.append((registry.make("metrics", f"yes_no(figure='{figure}')"), np.array([row] * images)))
    made.append(
        (registry.make("metrics", "mean_type_accuracy"), [["ab"[i % 2], value] for i in range(images)])
    )
    pairs = np.array([[value, 1], [0, 0]] * images)[:images]
    made.append((registry.make("metrics", "paired_accuracy"), pairs))
    targets = [{"id": str(i), "answers": ("a",)} for i in range(images)]
    gqa = registry.make("metrics", "gqa")
    made.append((gqa, gqa.rows(["a" if good else "b"] * images, targets)))
    ap = registry.make("metrics", "coco_ap")
    box = Box(0, 0, 0.5, 0.5, "cat") if good else Box(0.6, 0.6, 0.9, 0.9, "cat")
    made.append((ap, ap.rows([(box,)] * images, cats(images))))
    half = images // 2
    groups = {"a": [value] * half, "b": [value] * (images - half)}
    made += [over_groups(groups), over_groups(groups, "anls(threshold=0.5)")]
    return made


@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize("images", [4, 120])
def test_no_wrapper_is_certain_at_its_ends(good: bool, images: int) -> None:
    for metric, rows in every_wrapper(good, images):
        assert metric.reduce(rows) == pytest.approx(float(good), abs=1e-3)
        low, high, method = intervals.interval(metric, rows, range(images))
        assert low is not None, metric
        assert high is not None
        assert high - low > 1 / images, f"{metric} {method} [{low}, {high}]"
        assert low - 1e-9 <= metric.reduce(rows) <= high + 1e-9


def test_ap_and_cumulative_iou_of_two_images_are_wide() -> None:
    """They showed ±0.7 and ±0.9 beside ±49.4."""
    ap: Any = registry.make("metrics", "coco_ap")
    answers = [(Box(0, 0, 0.45, 0.45, "cat"),), (Box(0, 0, 0.46, 0.45, "cat"),)]
    low, high, _ = intervals.interval(ap, ap.rows(answers, cats(2)), range(2))
    assert low is not None
    assert high is not None
    assert high - low > 0.8
    areas = np.array([[62.0, 100.0], [63.0, 100.0]])
    low, high, _ = intervals.interval(registry.make("metrics", "cumulative_iou"), areas, range(2))
    assert low is not None
    assert high is not None
    assert high - low > 0.8


def test_one_large_area_is_hardly_more_than_one_image() -> None:
    metric = registry.make("metrics", "cumulative_iou")
    areas = np.array([[8e6, 1e7], *[[5.0, 10.0]] * 199])
    assert intervals.effective_size(metric, areas, np.arange(200)) == pytest.approx(1.0, abs=0.01)
    low, high, _ = intervals.interval(metric, areas, range(200))
    assert low is not None
    assert high is not None
    assert high - low > 0.8


@pytest.mark.parametrize("images", [2, 9])
def test_an_unbounded_score_of_few_images_has_none(images: int) -> None:
    rate = registry.make("metrics", "error_rates")
    rows = rate.rows(["abc"] * images, [("abd",)] * images)
    assert intervals.interval(rate, rows, range(images)) == (None, None, "none")
    same = intervals.interval(rate, rate.rows(["abc"] * 300, [("abc",)] * 300), range(300))
    assert same == (None, None, "none"), "300 times no error says nothing of how large a rare one is"


def test_rows_that_cannot_be_drawn_one_by_one_have_none() -> None:
    """`no_interval` said why, and nothing asked it."""
    metric = registry.make("metrics", "bleu(ptb='batch')")
    rows = metric.rows(["a red car"] * 40, [("a blue car", "the car")] * 40)
    assert intervals.interval(metric, rows, range(40)) == (None, None, "none")
    found = paired.difference(metric, rows, rows, np.arange(40))
    assert math.isnan(found.low)


def test_many_images_are_as_before() -> None:
    """What has enough spread of its own keeps its method and its width."""
    rng = np.random.default_rng(0)
    values = rng.beta(4, 2, 400)
    assert intervals.interval(Share(), rows_of(values), range(400))[2] == "t"
    union = rng.uniform(1, 2, 400)
    found = intervals.interval(
        registry.make("metrics", "cumulative_iou"), np.stack([union * values, union], axis=1), range(400)
    )
    assert found[2] == "bootstrap(2000)"
    right = (rng.random(400) < 0.7).astype(float)
    assert intervals.interval(Share(), rows_of(right), range(400))[2] == "wilson"
    metric, rows = over_groups({"a": list(right[:200]), "b": list(right[200:])})
    low, high, method = intervals.interval(metric, rows, range(400))
    assert method == "groups(wilson)"
    plain = intervals.interval(Share(), rows_of(right), range(400))
    assert high - low == pytest.approx(plain[1] - plain[0], rel=0.02)  # type: ignore[operator]


def test_languages_of_one_image_go_together() -> None:
    """36 languages of 50 images say hardly more than one where all are right or wrong together."""
    rng = np.random.default_rng(1)
    right = (rng.random(50) < 0.6).astype(float)
    names = [f"l{k}" for k in range(36)]
    metric, rows = over_groups({name: list(right) for name in names})
    index = list(range(50)) * 36
    low, high, _ = intervals.interval(metric, rows, index)
    alone = intervals.interval(Share(), rows_of(right), range(50))
    assert high - low == pytest.approx(alone[1] - alone[0], rel=0.05)  # type: ignore[operator]
    apart = intervals.interval(metric, rows, range(50 * 36))
    assert apart[1] - apart[0] < 0.3 * (high - low)  # type: ignore[operator]


# --- comparisons -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [4, 40])
def test_nothing_changed_in_few_images_is_no_equivalence(images: int) -> None:
    """A gate passed what changed no row of a mean over groups, or of AP, of 4 images."""
    for metric, rows in every_wrapper(True, images):
        found = paired.difference(metric, rows, rows, np.arange(images))
        assert found.high - found.low > 2 / images, metric
        assert found.p_above(-0.01) > gate.ENOUGH
        assert flags(found, 0.01) == ()
        assert found.p == 1.0


def test_enough_images_that_do_not_change_are_equivalent() -> None:
    for metric, rows in every_wrapper(True, 1000):
        found = paired.difference(metric, rows, rows, np.arange(1000))
        assert flags(found, 0.01) == ("equivalent within 1",), metric


def test_no_interval_is_no_reason_to_call_one_the_best() -> None:
    def cell(model: str, value: float) -> Cell:
        score = Score("t", "cer", "targets:x", value, None, None, 5, 5, "all", 0, lower_is_better=True)
        return Cell(score, model, model, ())

    assert len(grid([cell("a", 0.1), cell("b", 0.4)]).best) == 2


SILENT = (
    "detection_f1", "detection_f1(average='macro')", "coco_ap", "coco_ap(iou=0.5)", "tide", "sweep_f1",
    "label_f1", "json_fields",
)  # fmt: skip


@pytest.mark.parametrize("name", SILENT)
def test_samples_that_say_nothing_make_nothing_surer(name: str) -> None:
    """Six objects found in six images: 44 images more that show nothing leave it at six. An image that shows
    nothing, and where something is detected, does count."""
    metric: Metric = registry.make("metrics", name)
    boxes = "boxes" in metric.wants
    box = {"category": "cat", "box": (10, 10, 50, 50), "area": 2500, "iscrowd": 0}
    there = {"size": (100, 100), "categories": ("cat",), "objects": [box]} if boxes else ('{"a": 1}',)
    found = (Box(0.1, 0.1, 0.6, 0.6, "cat"),) if boxes else '{"a": 1}'
    empty = {**there, "objects": []} if isinstance(there, dict) else ("{}",) if "json" in name else ("",)
    nothing = () if boxes else empty[0]  # type: ignore[index]

    def of(targets: list[Any], answers: list[Any]) -> tuple[Any, Any]:
        named = [{**t, "image_id": n} if isinstance(t, dict) else t for n, t in enumerate(targets)]
        rows, index = metric.rows(answers, named), np.arange(len(targets))
        assert metric.reduce(rows) == 1 or answers[-1] != nothing
        return intervals.interval(metric, rows, index.tolist()), paired.difference(metric, rows, rows, index)

    few, few_alike = of([there] * 6, [found] * 6)
    many, many_alike = of([there] * 6 + [empty] * 44, [found] * 6 + [nothing] * 44)
    assert many == few
    assert many_alike.low < -0.2
    assert many_alike.low == pytest.approx(few_alike.low, abs=0.15)  # Student's t knows more images
    more, _ = of([there] * 6 + [empty], [found] * 7)
    assert more[0] is not None
    assert more[0] < 1


@pytest.mark.parametrize("name", ["coco_ap", "detection_f1"])
def test_many_samples_that_say_nothing_are_not_many_samples(name: str) -> None:
    """Thirty images with an object, 21 found: a hundred without one bring no bootstrap of thirty."""
    metric: Metric = registry.make("metrics", name)
    box = {"category": "cat", "box": (10, 10, 50, 50), "area": 2500, "iscrowd": 0}
    there = {"size": (100, 100), "categories": ("cat",), "objects": [box]}
    found = [(Box(0.1, 0.1, 0.6, 0.6, "cat"),) if n % 10 < 7 else () for n in range(30)]

    def of(silent: int) -> Any:
        targets = [{**there, "image_id": n} for n in range(30)]
        targets += [{**there, "image_id": 30 + n, "objects": []} for n in range(silent)]
        rows = metric.rows([*found, *[()] * silent], targets)
        return intervals.interval(metric, rows, list(range(len(targets))))

    assert of(0)[2] == "exact"
    assert of(100) == of(0)
