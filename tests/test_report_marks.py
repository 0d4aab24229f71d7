"""The report's pictures are what a model was shown: letters and boxes drawn in, turned, frames of videos."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_runs import load
from stub import Stub, checkpoint
from test_every_task import fixture

import evalkit
from evalkit.evaluation import plan as planning
from evalkit.evaluation.predict import Session, run
from evalkit.images.thumbnail import thumbnail
from evalkit.tasks import loader
from evalkit.tasks.dataset import DatasetCache, Selection
from evalkit.types import ImageRef, Mark
from evalkit.viewer.pictured import Pictured, pictured

RED, WHITE = (254, 0, 0), (255, 255, 255)


def built(folder: Path, name: str) -> tuple[Path, dict[str, Any]]:
    """A report of a task's files in their official form, and its records by id."""
    data, root = fixture(folder / "data", name)
    model = checkpoint(Stub(lambda request: "a"))
    plan = planning.plan(data, model, folder / "runs", Selection())
    run([plan], Session(model, DatasetCache([root])))
    report = evalkit.build_report(folder / "runs", output=folder / "R").parent
    return report, {record["id"]: record for record in load(report / "data/0/samples/0.js")[1]}


def pixels(report: Path, image: dict[str, Any]) -> np.ndarray[Any, Any]:
    found = np.asarray(Image.open(report / image["src"]).convert("RGB")).astype(int)
    assert found.shape[:2] == (image["height"], image["width"]), "not resized: small pictures are as they are"
    return found


def test_letters_are_drawn_into_diagrams_as_the_model_saw_them(tmp_path: Path) -> None:
    report, records = built(tmp_path, "ai2d_test")
    (rows,) = (tmp_path / "runs").glob("*/rows.jsonl")
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    lettered = [line for line in lines if "drawn" in line]
    assert len(lettered) == 1 < len(lines), "questions without letters have none"
    (mark,) = lettered[0]["drawn"][0]["marks"]
    assert mark["text"] in "AB"
    assert "font" not in mark
    (image,) = records[lettered[0]["id"]]["images"]
    assert image["drawn"] == "1 label drawn in"
    y0, x0, y1, x1 = (round(side) for side in mark["box"])
    box = pixels(report, image)[y0 : y1 + 1, x0 : x1 + 1]
    assert np.abs(box - 255).max(axis=2).mean() < 128, "a white box"
    assert box.min() < 128, "with a letter"
    other = next(line["id"] for line in lines if "drawn" not in line)
    assert "drawn" not in records[other]["images"][0]


def test_the_widget_that_a_caption_is_of_has_its_box(tmp_path: Path) -> None:
    report, records = built(tmp_path, "widgetcap_test")
    ((image,),) = [record["images"] for record in records.values()]
    assert image["drawn"] == "1 box drawn in"
    picture = pixels(report, image)
    red = np.abs(picture - RED).max(axis=2) < 60
    assert red.any()
    plain = np.asarray(Image.open(next((tmp_path / "data").rglob("1234.jpg"))).convert("RGB")).astype(int)
    assert not (np.abs(plain - RED).max(axis=2) < 60).any(), "the original has none"


def test_frames_of_a_video_are_shown_in_their_order(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    folder = tmp_path / "data"
    folder.mkdir()
    with av.open(str(folder / "v.mp4"), "w") as video:
        stream = video.add_stream("mpeg4", rate=1)
        stream.width = stream.height = 64
        for k in range(4):
            grey = np.full((64, 64, 3), 60 * k + 20, np.uint8)
            video.mux(stream.encode(av.VideoFrame.from_ndarray(grey)))
        video.mux(stream.encode())
    asked = {"id": "1", "image": "v.mp4", "question": "?", "answers": ["a"]}
    (folder / "q.jsonl").write_text(json.dumps(asked))
    task = folder / "clip_test.yaml"
    task.write_text(
        "version: 1\nabout: clips\nlicense: none\nparser: text\nmetrics: [exact_match]\n"
        "data:\n  format: questions(frames=4, stride=1)\n  split: test\n"
        "  sources: [{path: q.jsonl, images: .}]\nprompt: '{question}'\n"
    )
    model = checkpoint(Stub(lambda request: "a"))
    datasets = DatasetCache([folder])
    plan = planning.plan(datasets.get(loader.load(str(task))), model, tmp_path / "runs", Selection())
    run([plan], Session(model, datasets))
    report = evalkit.build_report(tmp_path / "runs", output=tmp_path / "R").parent
    (record,) = load(report / "data/0/samples/0.js")[1]
    shades = [pixels(report, image).mean() for image in record["images"]]
    assert shades == pytest.approx([20, 80, 140, 200], abs=12)


def test_a_turned_image_is_shown_upright_and_its_marks_after_that() -> None:
    plain, buffer = Image.new("RGB", (40, 20)), io.BytesIO()
    plain.paste((0, 0, 255), (0, 0, 10, 20))
    plain.save(buffer, "PNG")
    mark = Mark("outline", (0.5, 0.1, 0.9, 0.9))
    data, size = thumbnail(buffer.getvalue(), 40, "ignore", ImageRef("x", turn=1, marks=(mark,)))
    assert size == (40, 20)
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert shown.shape == (40, 20, 3)
    assert shown[38, 2, 2] > 150, "left becomes below"
    assert shown[19, 10, 0] > 100, "an edge of the box"


@pytest.mark.parametrize(
    "drawn",
    [
        None, 3, [3], [{"marks": 7}], [{"marks": [{"kind": "label"}]}], [{"marks": [None]}],
        [{"marks": [{"kind": "label", "box": [0, 0, "x", 1]}]}], [{"turn": "1"}], [],
        [{"marks": [{"kind": "label", "box": [0, 0, 1e999, 1]}]}],
        [{"marks": [{"kind": "outline", "box": [0, 0, 1, 1], "unit": "canvas"}]}],
        [{"marks": [{"kind": "outline", "box": [0, 0, 1, 1], "colour": [0, 0, 300]}]}],
        [{"marks": [{"kind": "curse", "box": [0, 0, 1, 1]}]}],
    ],
)  # fmt: skip
def test_marks_that_are_none_are_left_out(drawn: Any) -> None:
    (found,) = pictured({"image": "", "image_path": "a.png", "drawn": drawn})
    assert (found.marks, found.turn, found.words) == ((), 0, "")


def test_what_is_drawn_is_part_of_a_pictures_key() -> None:
    """Two questions about one image with other marks have two pictures, without marks one."""

    def line(*boxes: list[float]) -> dict[str, Any]:
        marks = [{"kind": "outline", "box": box} for box in boxes]
        return {"image": "d" * 64, "image_path": "a.png", "drawn": [{"marks": marks} if marks else {}]}

    one, two, plain = (pictured(line(*boxes))[0] for boxes in ([[0, 0, 1, 1]], [[0, 0, 1, 0.5]], []))
    assert len({one.key, two.key, plain.key}) == 3
    assert plain == Pictured("d" * 64, "a.png")
    assert pictured(line([0, 0, 1, 1], [0, 0, 1, 1]))[0].words == "2 boxes drawn in"
