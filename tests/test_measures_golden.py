"""The measures against the packages that publish them: tests/golden/measures.json, made by
make_measures.py."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from parity_regions import detections

from evalkit import registry
from evalkit.types import Box

GOLDEN = json.loads((Path(__file__).parent / "golden" / "measures.json").read_text(encoding="utf-8"))
PARITY = (
    Path(os.environ.get("EVALKIT_PARITY") or Path(__file__).parents[2] / "shared" / "parity") / "coco_ap.json"
)
NAMES = ("a", "b", "c", "d")
SIZE = (512, 512)
ERRORS = {
    "Cls": "classification", "Loc": "localisation", "Both": "both", "Dupe": "duplicate", "Bkg": "background",
    "Miss": "missed", "FalsePos": "false positive", "FalseNeg": "false negative",
}  # fmt: skip


def scored(spelling: str, answers: Any, targets: Any) -> float:
    metric = registry.make("metrics", spelling)
    return float(metric.reduce(metric.rows(list(answers), list(targets))))


def images(found: list[dict[str, Any]], crowds: bool = True) -> tuple[list[Any], list[Any]]:
    """Recorded images as answers and targets."""
    answers, targets = [], []
    for image in found:
        given = []
        for each in image["boxes"]:
            x, y, w, h = (v / 512 for v in each["box"])
            given.append(Box(y, x, y + h, x + w, NAMES[each["class"]], each["score"]))
        objects = [
            {"category": NAMES[o["class"]], "box": tuple(o["box"]), "area": 1.0, "iscrowd": o["crowd"]}
            for o in image["objects"]
            if crowds or not o["crowd"]
        ]
        answers.append(tuple(given))
        targets.append({"size": SIZE, "image_id": image["image"], "categories": NAMES, "objects": objects})
    return answers, targets


def same_as_tidecv(answers: Any, targets: Any, theirs: dict[str, Any], region: str = "boxes") -> None:
    metric = registry.make("metrics", f"tide(rank='logprob', region='{region}')")
    rows = metric.rows(answers, targets)
    errors = metric.breakdowns(rows)["error"]
    assert metric.reduce(rows) == pytest.approx(theirs["AP"], abs=1e-12)
    assert {ERRORS[k]: n for k, n in theirs["counts"].items()} == {
        name: errors[name]["n"] for name in list(ERRORS.values())[:6]
    }
    for short, gain in theirs["gains"].items():
        assert errors[ERRORS[short]]["ΔAP"] == pytest.approx(gain, abs=1e-12), short


@pytest.mark.parametrize("case", GOLDEN["tide"], ids=lambda case: f"AP {case['AP']:.2f}")
def test_errors_as_tidecv(case: dict[str, Any]) -> None:
    assert min(case["counts"].values()) > 0  # every kind of error occurs
    same_as_tidecv(*images(case["images"]), case)


@pytest.mark.skipif(
    not PARITY.is_file(), reason="the reference evaluators' outputs are not here (EVALKIT_PARITY)"
)
@pytest.mark.parametrize("name", GOLDEN["recorded"])
def test_errors_of_cocos_results_as_tidecv(name: str) -> None:
    case = next(c for c in json.loads(PARITY.read_text())["cases"] if c["id"] == name)
    inputs = case["inputs"]
    apart = [d | {"score": d["score"] - 1e-9 * k} for k, d in enumerate(inputs["detections"])]
    answers, targets, _ = detections(inputs | {"detections": apart})
    region = "boxes" if inputs["iou_type"] == "bbox" else "masks"
    same_as_tidecv(answers, targets, GOLDEN["recorded"][name], region)


@pytest.mark.parametrize("k", range(3))
def test_confusion_as_supervision(k: int) -> None:
    answers, targets = images(GOLDEN["tide"][k]["images"], crowds=False)
    metric = registry.make("metrics", "detection_f1")
    parts = metric.breakdowns(metric.rows(answers, targets))
    names = (*NAMES, "(background)")
    ours = [[parts["confusion"].get(row, {}).get(column, 0) for column in names] for row in names]
    assert ours == GOLDEN["confusion"][k]


@pytest.mark.parametrize("k", range(3))
def test_classes_as_pycocotools_counts_them(k: int) -> None:
    """Where no object is contested, precision and recall of both metrics are the same."""
    answers, targets = images(GOLDEN["tide"][k]["images"])
    f1, ap = (registry.make("metrics", s) for s in ("detection_f1", "coco_ap"))
    one, two = (m.breakdowns(m.rows(answers, targets))["class"] for m in (f1, ap))
    for name in NAMES:
        for figure in ("given", "wanted"):
            assert one[name].get(figure, 0) == pytest.approx(two.get(name, {}).get(figure, 0), abs=1)
        assert one[name]["F1"] == pytest.approx(two[name]["F1"] if name in two else 0.0, abs=0.03)
    assert ap.reduce(ap.rows(answers, targets)) == pytest.approx(
        sum(c["AP"] for c in two.values() if "AP" in c) / sum("AP" in c for c in two.values())
    )


@pytest.mark.parametrize("k", range(0, len(GOLDEN["json"]), 10))
def test_json_as_anls_star_and_donut(k: int) -> None:
    for case in GOLDEN["json"][k : k + 10]:
        given, wanted = [case["given"]], [(case["wanted"],)]
        assert scored("anls_star", given, wanted) == pytest.approx(case["anls_star"], abs=1e-9), case
        assert scored("ted", given, wanted) == pytest.approx(case["ted"], abs=1e-9), case
        assert scored("json_fields(lists='flat')", given, wanted) == pytest.approx(
            case["flat_f1"], abs=1e-9
        ), case


def test_error_rates_as_jiwer() -> None:
    texts = GOLDEN["texts"]
    for name in ("cer", "wer"):
        ours = scored(name, texts["given"], [(text,) for text in texts["wanted"]])
        assert ours == pytest.approx(texts[name], abs=1e-12)


def test_label_sets_as_scikit_learn() -> None:
    labels = GOLDEN["labels"]
    given, wanted = [", ".join(some) for some in labels["given"]], [tuple(some) for some in labels["wanted"]]
    for average in ("micro", "macro", "samples"):
        assert scored(f"label_f1(average={average!r})", given, wanted) == pytest.approx(
            labels[average], abs=1e-12
        )
    metric = registry.make("metrics", "label_f1")
    classes = metric.breakdowns(metric.rows(given, wanted))["class"]
    assert {name: each["F1"] for name, each in classes.items()} == pytest.approx(labels["each"])
