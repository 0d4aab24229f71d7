"""Makes own_layouts.json: the world of own_world.py as other tools write it, and label lines as ultralytics
judges them.

Needs supervision and ultralytics, in an environment of their own, with `tests` and evalkit on the path.
ultralytics asks for torchvision's version when it is imported, and for nothing else of it here: a folder
`torchvision-0.29.1.dist-info` with a METADATA of three lines will do.
python tests/golden/make_own_layouts.py
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import own_world as world
import supervision
import ultralytics
from ultralytics.data.converter import convert_coco
from ultralytics.data.split import autosplit
from ultralytics.data.utils import verify_image_label

LINES = [
    "0 .5 .5 .2 .2", "1.0 .5 .5 .2 .2", "2 .5 .5 .2 .2", "-1 .5 .5 .2 .2", "0.5 .5 .5 .2 .2", "0,.5,.5,.2,.2",
    "cat .5 .5 .2 .2", "0 .5 .5 .2", "0 .5 .5 .2 .2 .9", "0 .1 .1 .5 .1 .5 .5", "0 .1 .1 .5 .1 .5 .5 .1",
    "0 .1 .1 .5 .1 .5 .5 .1 .5", "0 .5 .5 1.01 .2", "0 .5 .5 1.02 .2", "0 -.009 .5 .1 .2", "0 -.02 .5 .1 .2",
    "0 .5 .5 -.005 .2", "0 .5 .5 0 .2", "0 .9 .5 .5 .5", "0 32 24 10 10", "0 10 10 50 10 50 50",
    "0 0 0 1 0 1 1", "0 -.005 0 1 0 1 1", "0 -.03 0 1 0 1 1", "0 0 0 1.03 0 1 1", "0 .5 .5 inf .2", "",
]  # fmt: skip


def files(folder: Path) -> dict[str, str]:
    texts = (p for p in sorted(folder.rglob("*")) if p.suffix in (".txt", ".xml", ".yaml"))
    return {str(p.relative_to(folder)): p.read_text() for p in texts}


def of_supervision(folder: Path) -> dict[str, dict[str, str]]:
    world.pictures(folder / "images")
    found = {}
    for name in world.SIZES:
        things = world.of(name)
        boxes = np.array([[t.box[0], t.box[1], t.box[0] + t.box[2], t.box[1] + t.box[3]] for t in things])
        classes = np.array([world.CLASSES.index(t.category) for t in things])
        made = supervision.Detections(xyxy=boxes.astype(float), class_id=classes) if things else None
        found[str(folder / "images" / name)] = made or supervision.Detections.empty()
    data = supervision.DetectionDataset(list(world.CLASSES), list(found), found)
    data.as_yolo(None, str(folder / "yolo/labels"), str(folder / "yolo/data.yaml"))
    data.as_pascal_voc(None, str(folder / "voc/annotations"))
    return {"yolo": files(folder / "yolo"), "voc": files(folder / "voc")}


def of_ultralytics(folder: Path) -> dict[str, dict[str, str]]:
    world.coco(folder, True)
    content = json.loads((folder / "coco.json").read_text())
    for each in content["categories"]:
        each["id"] += 1  # it takes COCO's, which begin at 1
    for each in content["annotations"]:
        each["category_id"] += 1
    (folder / "annotations").mkdir()
    (folder / "annotations/instances_val.json").write_text(json.dumps(content))
    found = {}
    for name, polygons in (("boxes", False), ("polygons", True)):
        convert_coco(str(folder / "annotations"), str(folder / name), use_segments=polygons, cls91to80=False)
        found[name] = files(folder / name)
    world.pictures(folder / "split" / "images")
    autosplit(folder / "split" / "images", weights=(0.0, 1.0, 0.0))
    found["split"] = files(folder / "split")
    return found


def judged(folder: Path) -> list[list[object]]:
    """Each line with the number of objects that ultralytics reads, or -1 where it refuses the file."""
    world.pictures(folder)
    found: list[list[object]] = []
    for line in LINES:
        (folder / "a.txt").write_text(line)
        labels = verify_image_label(
            (str(folder / "a.png"), str(folder / "a.txt"), "", False, 2, 0, 0, False)
        )[1]
        found.append([line, -1 if labels is None else len(labels)])
    return found


if __name__ == "__main__":
    top = Path(tempfile.mkdtemp())
    result = {
        "versions": {"supervision": supervision.__version__, "ultralytics": ultralytics.__version__},
        "supervision": of_supervision(top / "s"),
        "ultralytics": of_ultralytics(top / "u"),
        "lines": judged(top / "l"),
    }
    Path(__file__).with_name("own_layouts.json").write_text(json.dumps(result, indent=1) + "\n")
    shutil.rmtree(top)
