"""A user's own data as JSON lines; big_vision's {"image", "prefix", "suffix"} lines work as they are.

The question is not fixed here: a task's prompt may name any string field of a line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from evalkit.data.readers import read_lines
from evalkit.data.records import Record, Unique, check_split, name_problem, path_of
from evalkit.data.sources import image_ref
from evalkit.errors import DataError
from evalkit.types import Format, ImageRef, Sample, Size, Source

_TEXTS = ("answer", "answers", "references", "suffix")
_RESERVED = {*_TEXTS, "id", "image", "images", "size", "bbox", "segmentation", "iscrowd", "objects", "split"}


@dataclass(frozen=True)
class JsonLines(Format):
    """One sample per line, in UTF-8; blank lines are skipped.

    id          string or whole number; by default the line's number from 0, as big_vision counts
    image       a file name below the source's `images` (by default the file's own folder), or an
                absolute path; or `images`, a list of them
    target      at most one of
                answer: "..."  ·  answers: ["..."]  ·  references: ["..."]  ·  suffix: "..."
                bbox: [x, y, w, h] in pixels, with size, and segmentation / iscrowd as in COCO
                objects: [{category, bbox, area?, iscrowd?, segmentation?}], with size
                none of them: a question without answer, target ()
    size        [height, width] of the image; needed with bbox and objects
    split       used only where lines state it: lines of other splits are left out
    group, cluster   what scores are broken down by; what is resampled together (by default the image)

    Every other field that is a string or a number may be named in the prompt, and `group` too.
    `categories`: all category names for `objects`; by default those that occur.
    """

    categories: tuple[str, ...] = ()

    fields: ClassVar[tuple[str, ...]] = ()
    keys: ClassVar[tuple[str, ...]] = ("path",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path = path_of(source, "path", self.keys)
        images = source.path("images") if "images" in source.entry else path.parent
        lines = _chosen(path, split)
        categories = self.categories or _categories(lines)
        unique = Unique(str(path), "id")
        for number, line in lines:
            name = line.identifier("id") if line.has("id") else str(number)
            unique.add(name)
            refs, names = _images(line, images)
            size = _size(line)
            yield Sample(
                id=name,
                images=refs,
                fields=_fields(line),
                target=_target(line, size, categories, number),
                size=size,
                group=line.identifier("group") if line.has("group") else "",
                cluster=line.identifier("cluster") if line.has("cluster") else " ".join(names),
            )


def _chosen(path: Path, split: str) -> list[tuple[int, Record]]:
    """The lines of the split, each with its number from 0."""
    lines, present = [], set()
    for number, data in read_lines(path):
        line = Record(data, str(path), f"line {number + 1}")
        stated = line.text("split") if line.has("split") else split
        present.add(stated)
        if stated == split:
            lines.append((number, line))
    if not present:
        raise DataError(f"{path}: is empty; it must hold one JSON object a line")
    check_split(str(path), split, present)
    return lines


def _images(line: Record, images: Path) -> tuple[tuple[ImageRef, ...], list[str]]:
    if line.has("image") == line.has("images"):
        line.wrong("image", "must be given, as image: one file name, or images: a list of them, not both")
    names = [line.text("image")] if line.has("image") else list(line.texts("images", least=1))
    for name in names:
        problem = name_problem(name, absolute=True)
        if problem:
            line.wrong("image" if line.has("image") else "images", problem)
    return tuple(image_ref(images, name) for name in names), names


def _fields(line: Record) -> dict[str, str]:
    """The fields that a prompt may name: every string or finite number that isn't target, image or id."""
    fields = {}
    for key, value in line.data.items():
        if key in _RESERVED:
            continue
        if type(value) is str:
            fields[key] = line.text(key)
        elif type(value) in (int, float) and math.isfinite(line.number(key)):
            fields[key] = str(value)
    return fields


def _size(line: Record) -> Size | None:
    if not line.has("size"):
        return None
    size = line.data["size"]
    if type(size) is not list or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        line.wrong("size", "must be [height, width], two whole numbers above 0")
    return size[0], size[1]


def _target(line: Record, size: Size | None, categories: tuple[str, ...], number: int) -> Any:
    given = [key for key in (*_TEXTS, "bbox", "objects") if line.has(key)]
    if len(given) > 1:
        line.wrong(given[1], f"is given together with {given[0]}; a line has one kind of target")
    if not given:
        return ()
    key = given[0]
    if key in ("answer", "suffix"):
        return (line.text(key),)
    if key in ("answers", "references"):
        return line.texts(key, least=1)
    if size is None:
        line.wrong("size", f"is missing; {key} needs the image's [height, width]")
    if key == "objects":
        objects = [_object(entry, size) for entry in line.records("objects")]
        for entry in objects:
            if entry["category"] not in categories:
                line.wrong("objects", f"category '{entry['category']}' is not in jsonl(categories=...)")
        return {"size": size, "image_id": number, "categories": categories, "objects": objects}
    x, y, w, h = line.box("bbox")
    target = {"size": size, "box": (y, x, y + h, x + w), "iscrowd": line.flag("iscrowd")}
    if line.data.get("segmentation"):
        target["segmentation"] = line.segmentation(size)
    return target


def _object(entry: Record, size: Size) -> dict[str, Any]:
    box = entry.box("bbox")
    found: dict[str, Any] = {
        "category": entry.text("category"),
        "box": box,
        "area": entry.number("area", least=0) if entry.has("area") else box[2] * box[3],
        "iscrowd": entry.flag("iscrowd"),
    }
    if entry.data.get("segmentation"):
        found["segmentation"] = entry.segmentation(size)
    return found


def _categories(lines: list[tuple[int, Record]]) -> tuple[str, ...]:
    """The category names that occur, sorted."""
    names = {
        entry.text("category")
        for _, line in lines
        if line.has("objects")
        for entry in line.records("objects")
    }
    return tuple(sorted(names))
