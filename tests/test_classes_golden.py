"""Figures of classes against the packages that publish them: tests/golden/classes.json, made by
make_classes.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_measures_golden import GOLDEN as MEASURES
from test_measures_golden import SIZE, images

from evalkit import registry
from evalkit.types import Mask

GOLDEN = json.loads((Path(__file__).parent / "golden" / "classes.json").read_text(encoding="utf-8"))


def classes(spelling: str, answers: Any, targets: Any) -> Any:
    metric = registry.make("metrics", spelling)
    return metric.breakdowns(metric.rows(answers, targets))["class"]


def masks(answers: list[Any], targets: list[Any]) -> tuple[list[Any], list[Any]]:
    """Half of each box as its mask, a triangle."""
    from pycocotools import mask as cocomask

    def corners(x: float, y: float, w: float, h: float) -> list[list[float]]:
        return [[x, y, x + w, y, x, y + h]]

    found = []
    for answer in answers:
        made = []
        for box in answer:
            y0, x0, y1, x1 = (v * 512 for v in box.coordinates)
            shape = cocomask.merge(cocomask.frPyObjects(corners(x0, y0, x1 - x0, y1 - y0), *SIZE))
            made.append(Mask(SIZE, shape["counts"].decode(), box, box.label))
        found.append(tuple(made))
    wanted = [
        {**t, "objects": [o | {"segmentation": corners(*o["box"])} for o in t["objects"]]} for t in targets
    ]
    return found, wanted


@pytest.mark.parametrize("k", range(3))
@pytest.mark.parametrize("region", ["boxes", "masks"])
def test_average_precision_of_each_class_as_pycocotools(k: int, region: str) -> None:
    answers, targets = images(MEASURES["tide"][k]["images"])
    for target in targets:
        for each in target["objects"]:
            each["area"] = each["box"][2] * each["box"][3]
    if region == "masks":
        answers, targets = masks(answers, targets)
    found = classes(f"coco_ap(rank='logprob', region={region!r})", answers, targets)
    theirs = GOLDEN["bbox" if region == "boxes" else "segm"][k]
    assert len(theirs) == 3
    for name, figures in theirs.items():
        assert {f: found[name][f] for f in figures} == pytest.approx(figures, abs=1e-12), name


@pytest.mark.parametrize("k", range(3))
def test_detections_of_each_class_as_supervision(k: int) -> None:
    answers, targets = images(MEASURES["tide"][k]["images"], crowds=False)
    theirs = GOLDEN["supervision"][k]
    metric = registry.make("metrics", "detection_f1")
    rows = metric.rows(answers, targets)
    details, found = metric.details(rows), metric.breakdowns(rows)["class"]
    assert {f: details[f] for f in theirs["all"]} == pytest.approx(theirs["all"], abs=1e-6)
    for figure, each in theirs["each"].items():
        for name, value in each.items():
            assert found[name].get(figure, 0.0) == pytest.approx(value, abs=1e-6), (figure, name)


def test_labels_as_scikit_learn() -> None:
    recorded = MEASURES["labels"]
    given = [", ".join(some) for some in recorded["given"]]
    found = classes("label_f1", given, [tuple(some) for some in recorded["wanted"]])
    assert found.keys() == GOLDEN["labels"].keys()
    for name, figures in GOLDEN["labels"].items():
        ours = [found[name].get(f, 0.0) for f in ("precision", "recall", "F1", "wanted")]
        assert ours == pytest.approx(figures, abs=1e-12), name
