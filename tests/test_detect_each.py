"""Detection as people ask it: AP50 and AP75 as metrics, and one question a category of a COCO file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stub_runs import Weighted

from evalkit import models, registry
from evalkit.cli.main import main
from evalkit.errors import UserError
from evalkit.runs import store
from evalkit.types import Box, Sample, Source

NAMES = ("cat", "dog", "owl")


def instances(images: int = 8, seed: int = 0) -> dict[str, Any]:
    """A COCO file: no to three objects an image, of three categories whose ids have gaps."""
    rng = np.random.default_rng(seed)
    found = []
    for image in range(images):
        for _ in range(image % 4):
            y, x = rng.integers(0, 40, 2).tolist()
            found.append(
                {"image_id": image, "category_id": int(rng.choice([3, 5, 9])), "bbox": [x, y, 20, 16]}
            )
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 60, "width": 80} for i in range(images)],
        "categories": [{"id": n, "name": name} for n, name in zip((3, 5, 9), NAMES, strict=True)],
        "annotations": [{**a, "id": i, "iscrowd": 0, "area": 320} for i, a in enumerate(found)],
    }


def read(folder: Path, spelling: str, content: dict[str, Any] | None = None) -> list[Sample]:
    (folder / "i.json").write_text(json.dumps(content or instances()))
    source = Source(folder, {"path": "i.json", "images": "images"})
    return list(registry.make("formats", spelling).samples(source, "val"))


def boxes(samples: list[Sample], seed: int = 1) -> dict[tuple[int, str], tuple[Box, ...]]:
    """Detections by image and category: most objects, a little off, and some that are not there."""
    rng = np.random.default_rng(seed)
    found: dict[tuple[int, str], list[Box]] = {}
    for sample in samples:
        number = sample.target["image_id"]
        for each in sample.target["objects"]:
            x, y, w, h = each["box"]
            off = rng.normal(0, 1.5)
            box = Box(
                (y + off) / 60, x / 80, (y + h + off) / 60, (x + w) / 80, each["category"], rng.random()
            )
            found.setdefault((number, each["category"]), []).append(box)
        if rng.random() < 0.5:
            name = str(rng.choice(NAMES))
            found.setdefault((number, name), []).append(Box(0.5, 0.5, 0.9, 0.9, name, rng.random()))
    return {key: tuple(some) for key, some in found.items()}


# --- AP50 --------------------------------------------------------------------------------------------------


def test_ap_at_one_threshold_is_cocos(tmp_path: Path) -> None:
    samples = read(tmp_path, "coco_detection")
    found = boxes(samples)
    answers = [tuple(b for n in NAMES for b in found.get((s.target["image_id"], n), ())) for s in samples]
    targets = [s.target for s in samples]
    whole = registry.make("metrics", "coco_ap(rank='logprob')")
    details = whole.details(whole.rows(answers, targets))
    values = []
    for step in range(50, 100, 5):
        one = registry.make("metrics", f"coco_ap(rank='logprob', iou={step / 100})")
        values.append(one.reduce(one.rows(answers, targets)))
    assert values[0] == details["AP50"]
    assert values[5] == details["AP75"]
    assert whole.reduce(whole.rows(answers, targets)) == pytest.approx(np.mean(values))
    assert values[0] > values[-1]


def test_the_threshold_is_one_of_cocos_and_named(tmp_path: Path) -> None:
    spelled = registry.spell(registry.make("metrics", "coco_ap(iou=.5)"))
    assert spelled == "coco_ap(rank='constant', region='boxes', agnostic=False, iou=0.5)"
    assert registry.spell(registry.make("metrics", spelled)) == spelled
    assert "iou" not in registry.spell(registry.make("metrics", "coco_ap")), (
        "older runs keep their signatures"
    )
    for wrong, sentence in (
        (0.4, "iou=0.4 is not one of 0.5, 0.55, 0.6"),
        (50, "iou=50"),
        ("'a'", "must be"),
    ):
        with pytest.raises(UserError, match=sentence):
            registry.make("metrics", f"coco_ap(iou={wrong})")


# --- one question a category -------------------------------------------------------------------------------


def test_a_sample_for_every_image_and_category(tmp_path: Path) -> None:
    whole, each = read(tmp_path, "coco_detection"), read(tmp_path, "coco_detection(ask='category')")
    assert [s.id for s in each] == [f"{i}:{c}" for i in range(8) for c in (3, 5, 9)]
    assert [s.fields["category"] for s in each[:3]] == list(NAMES)
    assert each[0].fields["categories"] == "cat ; dog ; owl"
    assert len({s.cluster for s in each}) == 8, "questions of one image are drawn together"
    for sample in each:
        name = sample.fields["category"]
        image = next(s for s in whole if s.target["image_id"] == sample.target["image_id"])
        assert sample.target["categories"] == (name,)
        assert sample.target["objects"] == [o for o in image.target["objects"] if o["category"] == name]
    shown = read(tmp_path, "coco_detection(ask='present')")
    assert [s.id for s in shown] == [s.id for s in each if s.target["objects"]]
    assert [s.target for s in shown] == [s.target for s in each if s.target["objects"]]


@pytest.mark.parametrize("rank", ["constant", "logprob"])
def test_the_same_boxes_have_the_same_ap(tmp_path: Path, rank: str) -> None:
    whole, each = read(tmp_path, "coco_detection"), read(tmp_path, "coco_detection(ask='category')")
    found = boxes(whole)
    metric = registry.make("metrics", f"coco_ap(rank='{rank}')")
    one = [tuple(b for n in NAMES for b in found.get((s.target["image_id"], n), ())) for s in whole]
    many = [found.get((s.target["image_id"], s.fields["category"]), ()) for s in each]
    a, b = metric.rows(one, [s.target for s in whole]), metric.rows(many, [s.target for s in each])
    assert 0 < metric.reduce(a) < 1
    assert metric.reduce(a) == pytest.approx(metric.reduce(b), abs=1e-12)
    assert metric.details(a) == pytest.approx(metric.details(b), abs=1e-12)


def test_a_box_of_what_was_not_asked_for_is_said_and_does_not_count(tmp_path: Path) -> None:
    each = read(tmp_path, "coco_detection(ask='category')")
    metric = registry.make("metrics", "coco_ap")
    answers: list[Any] = [()] * len(each)
    answers[0] = (Box(0, 0, 1, 1, "dog"), Box(0, 0, 1, 1, "wolf"))
    said = metric.remarks(answers, [s.target for s in each])
    assert said["boxes of a category that was not asked for"] == 1
    assert said["boxes with a label that is no category"] == 1
    assert metric.reduce(metric.rows(answers, [s.target for s in each])) == 0.0


def test_a_file_without_objects_has_no_present_ones(tmp_path: Path) -> None:
    content = {key: instances()[key] for key in ("images", "categories")}
    asked = read(tmp_path, "coco_detection(hidden=True, ask='category')", content)
    assert {s.target for s in asked} == {()}
    assert len(asked) == 24
    with pytest.raises(UserError, match="ask='present' needs a file with objects"):
        read(tmp_path, "coco_detection(hidden=True, ask='present')", content)


def test_the_task_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image
    from stub import checkpoint

    monkeypatch.chdir(tmp_path)
    (tmp_path / "custom/images").mkdir(parents=True)
    content = instances()
    (tmp_path / "custom/instances.json").write_text(json.dumps(content))
    for i in range(8):
        Image.new("RGB", (80, 60), (i * 9, 0, 0)).save(tmp_path / f"custom/images/{i}.png")
    asked = []

    def answer(request: Any) -> str:
        asked.append(request.prompt.strip())
        number, category = map(int, request.id.split(":"))
        name = NAMES[(3, 5, 9).index(category)]
        found = []
        for a in content["annotations"]:
            if (a["image_id"], a["category_id"]) == (number, category):
                x, y, w, h = a["bbox"]
                places = (y / 60, x / 80, (y + h) / 60, (x + w) / 80)
                found.append("".join(f"<loc{round(1023 * p):04}>" for p in places) + f" {name}")
        return " ; ".join(found)

    model = Weighted(answer)
    monkeypatch.setattr(models, "open_checkpoint", lambda *_: checkpoint(model))
    assert main(["run", "--model", "x", "--tasks", "custom_detect_each", "--data-root", "."]) == 0
    out = capsys.readouterr().out
    assert set(asked) == {f"detect {name}" for name in NAMES}
    (folder,) = store.find([Path("results")])
    scores = {s.metric: s for s in store.scores_of(folder)}
    assert list(scores) == ["coco_ap", "coco_ap(iou=0.5)", "coco_ap(iou=0.75)"]
    assert scores["coco_ap(iou=0.5)"].value == 1.0
    assert scores["coco_ap"].invalid == 0, "a blank answer says that it is not there"
    assert "coco_ap(iou=0.75)" in out
    assert scores["coco_ap"].clusters == 8
