"""docs/my-data.md as it stands: every command of the page runs, in its order, on a folder as Roboflow exports
it and the demo's checkpoint."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from evalkit import demo
from evalkit.cli.main import main
from evalkit.demo import data, world

PAGE = Path(__file__).parent.parent / "docs" / "my-data.md"
SHAPES = world.SHAPES


def roboflow(root: Path) -> None:
    """Splits of two scenes each, with the super-category that Roboflow puts before the classes."""
    for split, seeds in (("train", (0, 1)), ("valid", (2, 3)), ("test", (4, 5))):
        (root / split).mkdir(parents=True)
        images, objects = [], []
        for number, seed in enumerate(seeds):
            scene, name = world.make(seed), f"{seed}_jpg.rf.{seed:032x}.jpg"
            Image.fromarray(world.render(scene)).save(root / split / name, quality=95)
            images.append({"id": number, "file_name": name, "height": world.SIZE, "width": world.SIZE})
            objects += [
                data.annotation(len(objects) + k, number, thing, world.SIZE)
                for k, thing in enumerate(scene.things)
            ]
        categories = [{"id": 0, "name": "shapes", "supercategory": "none"}]
        categories += [
            {"id": 1 + n, "name": name, "supercategory": "shapes"} for n, name in enumerate(SHAPES)
        ]
        content = {"images": images, "annotations": objects, "categories": categories}
        (root / split / "_annotations.coco.json").write_text(json.dumps(content))


def commands() -> list[str]:
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text(), re.S | re.M)
    lines = "".join(blocks).replace("\\\n", " ").split("\n")
    return [line for line in lines if line.startswith("evalkit ")]


def test_every_command_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    roboflow(Path("my-dataset"))
    Path("my-finetune").symlink_to(demo.checkpoint("later", 224))
    with open("theirs.csv", "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([("image_id", "caption"), (0, ""), (1, "")])
    shown = {}
    assert len(commands()) >= 10
    for command in commands():
        status = main(shlex.split(command, comments=True)[1:])
        out, err = capsys.readouterr()
        assert status == 0, f"{command}: {out}{err}"
        shown[command.partition("#")[0].strip()] = out
    (classes,) = (out for command, out in shown.items() if command.endswith("results --per class"))
    assert [name for name in SHAPES if name in classes]
    assert Path("report/index.html").exists()
    assert Path("suspects.jsonl").exists()
