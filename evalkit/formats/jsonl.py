"""A user's own data as JSON lines; big_vision's {"image", "prefix", "suffix"} lines work as they are.

The question is not fixed here: a task's prompt may name any string field of a line.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from evalkit.data.faults import Faults
from evalkit.data.readers import line_records
from evalkit.data.records import Record, Unique, check_split, layout, meant_key, name_problem, path_of
from evalkit.data.sources import below, image_ref
from evalkit.errors import DataError
from evalkit.geometry import segmentations
from evalkit.types import Format, ImageRef, Sample, Size, Source

_TEXTS = ("answer", "answers", "references", "suffix")
_TARGETS = (*_TEXTS, "bbox", "objects", "segmentation")
_KINDS = frozenset(_TARGETS)
_RESERVED = {*_TARGETS, "id", "image", "images", "size", "iscrowd", "split"}
_SHOWN = 20  # keys that a message lists


@dataclass(frozen=True)
class JsonLines(Format):
    """One sample per line, in UTF-8; blank lines are skipped.

    id          string or whole number; by default the line's number from 0, as big_vision counts
    image       a file name below the source's `images` (by default the file's own folder), or an
                absolute path into a data root; or `images`, a list of them. An absolute path of Windows is
                looked for below `images` by its end
    target      at most one of
                answer: "..."  ·  answers: ["..."]  ·  references: ["..."]  ·  suffix: "..."
                bbox: [x, y, w, h] in pixels, with size, and segmentation / iscrowd as in COCO
                segmentation without bbox, with size
                objects: [{category, bbox, area?, iscrowd?, segmentation?}], with size
                none of them, or null, or an empty list of texts: a question without answer, target ()
    size        [height, width] of the image; needed with bbox and objects
    split       used only where lines state it: lines of other splits are left out
    group, cluster   what scores are broken down by; what is resampled together (by default the image)

    Every other field that is a string or a number may be named in the prompt, and `group` too.
    `categories`: all category names for `objects`; by default those that occur.
    """

    categories: tuple[str, ...] = ()

    fields: ClassVar[tuple[str, ...]] = ()
    keys: ClassVar[tuple[str, ...]] = ("path",)
    gives: ClassVar[tuple[str, ...]] = ("texts", "box", "mask", "objects", "object masks")

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path = path_of(source, "path", self.keys)
        images = source.path("images") if "images" in source.entry else path.parent
        categories = self.categories or None
        unique = Unique(str(path), "id")
        moved: dict[str, str] = {}
        masks = source.uses("mask", "object masks")
        shown: Any = None
        refs, names = tuple[ImageRef, ...](), list[str]()
        faults = Faults()

        def sample(number: int, line: Record, given: list[str]) -> Sample:
            nonlocal shown, refs, names
            data = line.data
            name = line.identifier("id") if "id" in data else str(number)
            unique.add(name, line)
            if shown is None or data.get("image") != shown or "images" in data:  # else as the line before
                refs, names = _images(line, images, moved)
                shown = data.get("image")
            size = _size(line)
            return Sample(
                name,
                refs,
                _fields(line),
                _target(line, given, size, categories or (), number, masks),
                size,
                line.identifier("group") if "group" in data else "",
                line.identifier("cluster") if "cluster" in data else " ".join(names),
            )

        for number, line, given in _chosen(path, split, faults):
            if categories is None and line.data.get("objects") is not None:  # all that occur, of all lines
                categories = _categories(path, split)
            if made := faults.made(partial(sample, number, line, given)):
                yield made
        faults.done()

    def without_target(self, source: Source, split: str) -> str:
        seen, n = Counter[str](), 0
        for _, line, given in _chosen(path_of(source, "path", self.keys), split, Faults()):
            if not given:
                seen.update(list(line.data))
                n += 1
        keys = ", ".join(f"{key[:40]!r} ({n:,})" for key, n in seen.most_common(_SHOWN))
        near = {key: meant_key(key, _TARGETS) for key in seen if key not in _RESERVED}
        hint = "; ".join(f"{key!r} probably stands for {name}" for key, name in near.items() if name)
        void = [key for key in _TARGETS if key in seen]
        return (
            f"{'this line has' if n == 1 else 'these lines have'} the keys {keys}"
            + (f", but {void[0]} is null or empty" if void else "")
            + f"; a target is one of {', '.join(_TARGETS)}"
            + (f"; {hint}" if hint else "")
        )


def _chosen(path: Path, split: str, faults: Faults) -> Iterator[tuple[int, Record, list[str]]]:
    """The lines of the split, each with its number from 0 and the keys of its target; none is kept. What is
    no such line is left to `faults`. Raises DataError where there is none."""
    present = set[str]()
    for number, line in line_records(path, faults):
        if (found := faults.made(partial(_looked_at, line, split))) is not None:
            stated, given = found
            present.add(stated)
            if stated == split:
                yield number, line, given
    if split in present or faults.said():
        return
    if not present:
        raise DataError(f"{path}: is empty; it must hold one JSON object a line")
    check_split(str(path), split, present)


def _looked_at(line: Record, split: str) -> tuple[str, list[str]]:
    """The line's split and the keys of its target. Raises DataError."""
    given = _given(line)
    if not given and (wrong := layout(line.data)):
        line.wrong("", wrong)
    return line.text("split") if "split" in line.data else split, given


def _images(line: Record, images: Path, moved: dict[str, str]) -> tuple[tuple[ImageRef, ...], list[str]]:
    """The images and their names. `moved`: files found for absolute paths of Windows, and those paths; two
    that would be one file are refused."""
    if line.has("image") == line.has("images"):
        line.wrong("image", "must be given, as image: one file name, or images: a list of them, not both")
    names = [line.text("image")] if line.has("image") else list(line.texts("images", least=1))
    key = "image" if line.has("image") else "images"
    refs = []
    for name in names:
        problem = name_problem(name, absolute=True)
        if problem:
            line.wrong(key, problem)
        found = below(images, name)
        refs.append(image_ref(images, found))
        if found != name and moved.setdefault(found, name) != name:
            line.wrong(key, f"is {name!r}; {found} is what {moved[found]!r} is already; give other names")
    return tuple(refs), names


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
    line.bound("size", (size[0], size[1]))
    return size[0], size[1]


def _given(line: Record) -> list[str]:
    """The keys of the line's target. A mask may stand alone or with its box."""
    data = line.data
    found = [key for key in data if key in _KINDS and data[key] is not None]
    if len(found) == 1 and data[found[0]] != []:  # as nearly all have it
        return found
    if len(found) > 1:
        found.sort(key=_TARGETS.index)
    void = {key for key in ("answers", "references", "segmentation") if line.data.get(key) == []}
    if "bbox" in found:
        void.add("segmentation")
    return [key for key in found if key not in void]


def _target(
    line: Record, given: list[str], size: Size | None, categories: tuple[str, ...], number: int, masks: bool
) -> Any:
    """The target, whose keys are `given`; `masks`: whether a segmentation is scored."""
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
        objects = [_object(entry, size, masks) for entry in line.records("objects")]
        for entry in objects:
            if entry["category"] not in categories:
                line.wrong("objects", f"category '{entry['category']}' is not in jsonl(categories=...)")
        return {"size": size, "image_id": number, "categories": categories, "objects": objects}
    target: dict[str, Any] = {"size": size}
    if key == "bbox":
        x, y, w, h = line.box("bbox")
        target["box"] = (y, x, y + h, x + w)
    return target | {"iscrowd": line.flag("iscrowd"), **_mask(line, size, masks)}


def _object(entry: Record, size: Size, masks: bool) -> dict[str, Any]:
    box = entry.box("bbox")
    return {
        "category": entry.text("category"),
        "box": box,
        "area": entry.number("area", least=0) if entry.has("area") else box[2] * box[3],
        "iscrowd": entry.flag("iscrowd"),
        **_mask(entry, size, masks),
    }


def _mask(record: Record, size: Size, used: bool) -> dict[str, Any]:
    """The segmentation, if there is one; checked where it is used."""
    found = record.data.get("segmentation")
    if found and used:
        record.refuse("segmentation", segmentations.problem(found, size))
    return {"segmentation": found} if found else {}


def _categories(path: Path, split: str) -> tuple[str, ...]:
    """The category names that occur, sorted. What is wrong is left out: it is said where the lines are
    read."""
    names, faults = set[str](), Faults()
    for _, line, _ in _chosen(path, split, faults):
        if line.data.get("objects") is not None:
            for entry in faults.made(partial(line.records, "objects", faults=faults)) or ():
                names.update(faults.made(lambda: (entry.text("category"),)) or ())  # noqa: B023 – called at once
    return tuple(sorted(names))
