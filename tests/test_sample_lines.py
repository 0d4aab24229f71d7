"""What rows.jsonl, `samples()` and `compare --samples` say of single samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stub import colours
from stub_runs import as_schema_1, go, right, wrong_at

import evalkit
from evalkit.cli.main import main
from evalkit.evaluation import sample_lines
from evalkit.report import comparison
from evalkit.types import Box, ImageRef, Mask, Prediction, Sample

BOX = Box(0.25, 0.5, 0.75, 1.0, "dog")


def line(target: object, answer: object, **more: object) -> dict[str, object]:
    images = (ImageRef("/data/a/1.png"), ImageRef("/other/b.zip", "2.png"))
    sample = Sample("s", images[: more.pop("images", 1)], {"question": "q?"}, target, size=(40, 60), **more)  # type: ignore[arg-type]
    prediction = Prediction(id="s", prompt="answer en q?", text="t")
    return sample_lines.line(sample, prediction, answer, False, "", {}, Path("/data"))


def test_texts() -> None:
    found = line(("a", "b"), "t")
    assert found == {
        "id": "s", "group": "", "image": "", "image_path": "a/1.png", "question": "q?",
        "prompt": "answer en q?", "target": ["a", "b"], "text": "t", "answer": "t", "rows": {},
    }  # fmt: skip
    assert line((), "t", images=2)["image_path"] == ["a/1.png", "/other/b.zip::2.png"]
    assert line({"answers": ("no",), "steps": 2}, "t")["target"] == {"answers": ["no"], "steps": 2}
    assert line({"a": Path("x")}, "t")["target"] == {"a": "x"}  # own formats may give anything


def test_boxes_are_pixels_from_left_to_right() -> None:
    target = {"size": (40, 60), "box": (10.0, 30.0, 30.0, 60.0), "iscrowd": 0, "segmentation": [[1, 2, 3]]}
    found = line(target, (BOX,))
    assert found["boxes"] == [[30.0, 10.0, 60.0, 30.0]]
    assert found["target"] == {"size": [40, 60], "iscrowd": 0, "boxes": [[30.0, 10.0, 60.0, 30.0]]}
    assert line(target, (Mask((40, 60), "", BOX),))["boxes"] == [[30.0, 10.0, 60.0, 30.0]]
    objects = [{"category": "dog", "box": (30, 10, 30, 20), "area": 1, "iscrowd": 1, "segmentation": []}]
    found = line({"size": (40, 60), "image_id": 1, "categories": ("dog",), "objects": objects}, (BOX, BOX))
    assert found["target"] == {
        "size": [40, 60], "boxes": [[30.0, 10.0, 60.0, 30.0]], "labels": ["dog"], "iscrowd": [1],
    }  # fmt: skip
    assert found["boxes"] == [[30.0, 10.0, 60.0, 30.0]] * 2
    assert "boxes" not in line(target, None)


def test_samples_show_what_was_asked(tmp_path: Path) -> None:
    task = colours(tmp_path / "data", images=4)
    lines = [json.loads(text) for text in (tmp_path / "data/colours.jsonl").read_text().split("\n") if text]
    lines[0]["answers"] = ["blue", "light\u2028blue"]
    (tmp_path / "data/colours.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    folder = go(task, tmp_path / "out", "a", lambda r: f"{right(r)}\u2028")  # a line break to some readers
    frame = evalkit.load(folder)[0].samples()
    first = frame.loc["q0-0"]
    assert first["question"] == "question 0?"
    assert first["prompt"] == "answer en question 0?"
    assert first["target"] == ["blue", "light\u2028blue"]
    assert first["text"] == "blue\u2028"
    assert Path(first["image_path"]).read_bytes() == (tmp_path / "data/pictures/0.png").read_bytes()
    assert list(frame.columns[:10]) == [
        "id", "group", "image", "image_path", "question", "prompt", "target", "text", "answer", "boxes",
    ]  # fmt: skip
    as_schema_1(folder)
    old = [json.loads(text) for text in (folder / "rows.jsonl").read_text().split("\n") if text]
    for entry in old:  # as an older evalkit wrote them
        for key in ("image_path", "question", "prompt", "target"):
            del entry[key]
    (folder / "rows.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in old))
    assert evalkit.load(folder)[0].samples().loc["q0-0"]["question"] is None
    assert len(str(evalkit.compare(folder, folder, samples=3))) > 0


def test_compare_shows_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = colours(tmp_path / "data", images=40)
    good = go(task, tmp_path / "a", "good", right)
    poor = go(
        task, tmp_path / "b", "poor", lambda r: "\x1b[31mred" if wrong_at(0.3)(r) == "grey" else right(r)
    )
    assert main(["compare", str(good), str(poor), "--samples", "2"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("lost: q") == 2
    assert "\x1b" not in out
    assert ", of 'pictures/" in out
    assert "lost: q0-" in out or "lost: q1" in out
    assert (
        "target 'red', A 'red', B '\\x1b[31mred'" in out or "target 'blue', A 'blue', B '\\x1b[31mred'" in out
    )
    base = tmp_path / "base.json"
    assert main(["baseline", "save", str(good), str(base)]) == 0
    capsys.readouterr()
    assert main(["compare", str(base), str(poor), "--samples", "1"]) == 0  # the file has texts alone
    assert "target '" in " ".join(capsys.readouterr().out.split())


def test_values_are_on_one_line() -> None:
    assert comparison.quoted(["yes", "yes", "no"]) == "'yes' | 'no'"
    assert comparison.quoted("a\n\x1b\u202e\x9b") == "'a\\n\\x1b\\u202e\\x9b'"
    assert len(comparison.quoted("x" * 1000)) == comparison.SHOWN
