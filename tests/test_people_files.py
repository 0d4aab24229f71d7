"""Files as people's tools write them: each gives the right value, or one sentence that says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from evalkit.cli.main import main
from evalkit.tasks.layouts.recognise import recognise

SIZE = (64, 48)


def coco(folder: Path, classes: Sequence[str] = ("cat", "dog")) -> Path:
    """Two images with a box each."""
    folder.mkdir(parents=True)
    boxes = [[4, 4, 20, 10], [30, 8, 12, 12]]
    for n in range(2):
        Image.new("RGB", SIZE, (40 * n, 90, 200)).save(folder / f"{n}.jpg")
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 64, "height": 48} for n in range(2)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": n % len(classes), "bbox": box, "area": box[2] * box[3],
             "iscrowd": 0} for n, box in enumerate(boxes)
        ],
        "categories": [{"id": n, "name": name} for n, name in enumerate(classes)],
    }  # fmt: skip
    (folder / "_annotations.coco.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("Möbel", "Möbel_test"),
        ("Mäbel", "Mäbel_test"),
        ("Mo\u0308bel", "Möbel_test"),  # as macOS may write it
        ("家具", "家具_test"),
        ("my data (new)", "my_data_new_test"),
        ("_x_", "x_test"),
    ],
)
def test_a_task_is_called_as_its_folder(folder: str, name: str, tmp_path: Path) -> None:
    coco(tmp_path / folder / "test")
    found = recognise(tmp_path / folder)
    assert found.name(found.drafts[0]) == name


def test_tasks_of_names_with_letters_of_every_script_run_and_are_kept_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    answers = [{"id": str(n), "text": "<loc0085><loc0064><loc0298><loc0383> cat"} for n in range(2)]
    Path("a.jsonl").write_text("\n".join(map(json.dumps, answers)))
    for folder in ("Möbel", "Mäbel"):
        coco(Path(folder, "test"))
        words = ["run", "--model", "replay:a.jsonl", "--data", folder, "--output-path", "out"]
        assert main(words) == 0, capsys.readouterr().err
    assert sorted(path.name for path in Path("out/tasks").iterdir()) == ["Mäbel_test.yaml", "Möbel_test.yaml"]
    capsys.readouterr()
    assert main(["table", "out"]) == 0
    shown = capsys.readouterr().out
    assert "Möbel_test" in shown
    assert "Mäbel_test" in shown
    kept = ["--tasks", "out/tasks/Möbel_test.yaml", "--data-root", "Möbel", "--output-path", "again"]
    assert main(["run", "--model", "replay:a.jsonl", *kept]) == 0
