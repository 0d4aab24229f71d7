"""YOLO's data.yaml with images and label files, as ultralytics and Roboflow write them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from evalkit import door
from evalkit.data import same_images, yolo
from evalkit.data.records import Record
from evalkit.data.same_images import Pictures
from evalkit.data.split_names import SPLITS
from evalkit.errors import DataError
from evalkit.tasks.layouts import place
from evalkit.tasks.layouts.place import Place
from evalkit.tasks.layouts.reading import Draft, Reading, object_tokens, task
from evalkit.types import Remarks

NAME = "YOLO"
LOOKED = 1000  # label files that are looked at
SPARE = 1.25  # by how much the longest target may be longer than the longest of these


def look(there: Place, asked: str | None, verb: str = "") -> list[Reading]:
    """One reading for each data.yaml that names classes and splits."""
    found = []
    for name in there.named(".yaml", ".yml"):
        try:
            top = yolo.described(there.root / name)
        except DataError:
            continue
        if (top.data.get("names") or top.data.get("nc")) and any(top.data.get(k) for k in yolo.SPLITS):
            found += _reading(there, name, top, asked, verb)
    return found


def why_not(there: Place) -> str:
    """Why the data.yaml that lies there describes no dataset: a slip in it, or a key that it lacks; ''
    without one."""
    for name in there.named(".yaml", ".yml"):
        named = Path(name).stem in ("data", "dataset")
        try:
            top = yolo.described(there.root / name)
        except DataError as error:
            return str(error)
        if named or top.data.keys() & {"names", "nc"}:
            lacking = "names" if not (top.data.get("names") or top.data.get("nc")) else "test, val or train"
            keys = ", ".join(map(str, list(top.data)[:12]))
            return f"{top.file}: has no {lacking}; its keys are {keys}"
    return ""


def _reading(there: Place, name: str, top: Record, asked: str | None, verb: str) -> list[Reading]:
    splits, gone = dict[str, str](), []
    for key in yolo.SPLITS:
        if top.data.get(key):
            try:
                yolo.places(top, key)
                splits["" if key == yolo.ALL else SPLITS.get(key, key)] = name
            except DataError as error:
                gone.append(str(error))
    if not splits:
        raise DataError(gone[0] if gone else f"{there.root / name}: names no split")
    split, remarks = place.preferred(splits, asked), Remarks()
    classes = yolo.names(top, remarks)
    images = [path for path, _ in yolo.images(top, split or yolo.ALL, remarks)]
    rows = [_rows(path) for path in images[:: max(1, len(images) // LOOKED)]]
    polygons = any(len(row) > 5 for some in rows for row in some)
    notes = [*remarks.said(), *(f"{why}; that split is left out" for why in gone)]
    if polygons and verb != "segment":
        notes.append("there are polygons too: --verb segment asks for masks")
    wanted = verb or "detect"
    labels = [[_name(row, classes) for row in some] for some in rows]
    tokens = int(object_tokens(labels, wanted == "segment") * (SPARE if len(images) > len(rows) else 1))
    content = task(
        wanted, about=f"The objects of {name}", spelled="yolo", split=split, source={"path": name},
        prompt=f"{wanted} {{categories}}", tokens=tokens,
    )  # fmt: skip
    return [
        Reading(
            NAME, there.root, name, split, splits, [Draft(wanted, len(images), content)], classes, notes,
            pictures=lambda each: _pictures(top, each),
        )
    ]  # fmt: skip


def _pictures(top: Record, split: str) -> Pictures:
    """The images of a split."""
    return same_images.Files([path for path, _ in yolo.images(top, split or yolo.ALL, Remarks())])


def _rows(image: str) -> list[list[str]]:
    """The lines of an image's label file, in words; [] without the file."""
    path = Path(yolo.labels_of(image))
    if not os.path.exists(path):
        return []
    with door.guarded(path):
        return [line.split() for line in door.text(path).split("\n") if line.strip()]


def _name(row: Sequence[str], classes: Sequence[str]) -> str:
    number = row[0].partition(".")[0]
    return classes[int(number)] if number.isdigit() and int(number) < len(classes) else ""
