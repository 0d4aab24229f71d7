"""YOLO datasets: a data.yaml, folders of images, and a label file for each image.

Lines are judged as ultralytics 8.4 does (data/utils.py: verify_image_label), but where it leaves out an image
for one wrong line, only that line is left out, and said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from evalkit import door
from evalkit.data import yolo
from evalkit.data.records import path_of
from evalkit.data.sequences import Values
from evalkit.errors import DataError, ImageError
from evalkit.geometry import segmentations
from evalkit.types import Format, ImageRef, Remarks, Sample, Size, Source

_BEYOND = 0.01  # ultralytics takes values from -0.01 to 1.01
_STRAIGHT = 0.002  # of the image: an edge that moves by less is level or upright


class _Row(NamedTuple):
    """A line of a label file: [cx, cy, w, h], or corners [x, y, x, y, ...], as shares of the image."""

    line: int
    category: int
    values: tuple[float, ...]


class _Labelled(NamedTuple):
    """An image with what its label file says; `name` is its id."""

    path: str
    name: str
    labels: str
    rows: list[_Row]
    readable: bool  # whether there is a label file that is text, or none

    @classmethod
    def of(cls, image: tuple[str, str], packed: tuple[Any, ...]) -> _Labelled:
        (path, name), (rows, readable) = image, packed
        return cls(path, name, yolo.labels_of(path), [_Row(*row) for row in rows], readable)


@dataclass(frozen=True)
class Yolo(Format):
    """One sample per image, in the order of their paths; id = the image's path below its folder.

    `path` of the source is data.yaml, or the folder that holds it; the split is one of its keys (`valid` is
    `val`). An image without label file has no object. Where the images are several folders or a list, ids are
    paths below the dataset's folder.
    Target: as coco_detection's, with `box` in pixels of the upright image, whose size its header states;
    `image_id` counts the images. A line of seven numbers or more is a polygon, with `segmentation`, bounding
    box and area of it. A box over the edge is kept as it is: ultralytics validates on it so.

    `polygons`: lines of four corners are polygons also where they may be rotated boxes, which are refused.
    """

    polygons: bool = False

    fields: ClassVar[tuple[str, ...]] = ("categories",)  # "person ; bicycle ; ...", as `detect` lists them
    keys: ClassVar[tuple[str, ...]] = ("path",)
    gives: ClassVar[tuple[str, ...]] = ("objects", "object masks")

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        top = yolo.described(path_of(source, "path", self.keys))
        names = yolo.names(top, source.remarks)
        images = yolo.images(top, split, source.remarks)
        every = _labelled(images, len(names), yolo.keypoints(top), source.remarks)
        for place in yolo.places(top, split):
            _tell_unused(place, {yolo.labels_of(path) for path, _ in images}, source.remarks)
        if not self.polygons:
            _refuse_rotated(images, every)
        categories = tuple(dict.fromkeys(names))
        fields = {"categories": " ; ".join(categories)}
        for number, image in enumerate(map(_Labelled.of, images, every)):
            ref = ImageRef(image.path)
            size = _size(ref, source.remarks) if image.readable else None
            target: Any = ()
            if size:
                objects = [_object(image, row, names, size, source) for row in image.rows]
                target = {"size": size, "image_id": number, "categories": categories, "objects": objects}
            yield Sample(image.name, (ref,), fields, target, size=size, cluster=image.name)

    def without_target(self, source: Source, split: str) -> str:
        return "they cannot be read, or their labels cannot"


def _labelled(images: list[tuple[str, str]], classes: int, keypoints: int, remarks: Remarks) -> Values:
    """The labels of the images, of which `_Labelled.of` makes both. Raises DataError where none of them
    is usable."""
    every, unlabelled, usable, wrong = Values(), 0, False, ""
    for path, _ in images:
        labels = yolo.labels_of(path)
        try:
            text, readable = door.text(labels), True
        except FileNotFoundError:
            text, readable, unlabelled = "", True, unlabelled + 1
            said = f"{labels}: is not there; its image counts as one without objects"
            remarks.add("unlabelled", said, usual=True)
        except (OSError, UnicodeDecodeError) as error:
            text, readable = "", False
            why = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else "is not UTF-8 text"
            remarks.add("text", f"{labels}: {why}; its image is not scored")
        rows, first = _rows(labels, text, classes, keypoints, remarks)
        wrong = wrong or first
        usable = usable or bool(rows)
        every.append(([tuple(row) for row in rows], readable))
    if unlabelled == len(every):
        first = yolo.labels_of(images[0][0])
        raise DataError(f"{first}: is not there, and no other image has labels either")
    if wrong and not usable:
        raise DataError(f"{wrong}; no other line is right either")
    return every


def _tell_unused(place: str, used: set[str], remarks: Remarks) -> None:
    for path in yolo.label_files(place):
        if path not in used:
            remarks.add("unused", f"{path}: there is no image for these labels; they are left out")


def _size(ref: ImageRef, remarks: Remarks) -> Size | None:
    """(height, width) of the upright image; None where it cannot be read."""
    from evalkit.images.prepare import header_size  # not at the top: `evalkit list` imports the formats

    try:
        return header_size(ref, exif="apply")
    except ImageError as error:
        remarks.add("image", f"{error}; it is not scored")
        return None


# --- label lines -------------------------------------------------------------------------------


def _rows(labels: str, text: str, classes: int, keypoints: int, remarks: Remarks) -> tuple[list[_Row], str]:
    """The lines of a label file that are right, and what is wrong with the first of the others."""
    rows, first, seen = [], "", set[tuple[float, ...]]()
    for number, line in enumerate(text.split("\n"), 1):
        parts = line.split()
        if keypoints and len(parts) == 5 + keypoints:
            parts = parts[:5]
        if not parts:
            continue
        if problem := _problem(parts, classes):
            where = f"{labels}: line {number}: {problem[1]}"
            remarks.add(problem[0], f"{where}; the line is left out")
            first = first or where
            continue
        values = tuple(map(float, parts))
        if values in seen:
            remarks.add("repeated", f"{labels}: line {number}: is there twice; it counts once")
            continue
        seen.add(values)
        rows.append(_Row(number, int(values[0]), values[1:]))
    if len({len(row.values) > 4 for row in rows}) == 2:
        said = f"{labels}: has boxes and polygons; each line is read as what it is"
        remarks.add("mixed", said, usual=True)
    return rows, first


def _problem(parts: list[str], classes: int) -> tuple[str, str] | None:
    """The kind of mistake in a line, and what is wrong."""
    try:
        values = [float(part) for part in parts]
    except ValueError:
        return "words", f"is {' '.join(parts)[:60]!r}; it must be numbers with blanks between them"
    if not all(map(math.isfinite, values)):
        return "infinite", f"holds {next(v for v in values if not math.isfinite(v))}; numbers must be finite"
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        more = ", as predictions with a confidence have" if len(values) == 6 else ""
        right = "it must be `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 ...`"
        return "columns", f"holds {len(values)} numbers{more}; {right}"
    if values[0] != int(values[0]) or not 0 <= values[0] < classes:
        return (
            "class",
            f"class {parts[0][:20]} is not in data.yaml, which has 0 to {classes - 1}",
        )
    box = values[1:] if len(values) == 5 else _around(values[1::2], values[2::2])
    if far := [value for value in box if not -_BEYOND <= value <= 1 + _BEYOND]:
        return "far", f"reaches {far[0]:g}; numbers are shares of the image, from 0 to 1"
    if min(box[2:]) < 0:
        return "negative", f"holds {min(box[2:]):g} as a side; width and height must not be negative"
    return None


def _around(xs: list[float], ys: list[float]) -> list[float]:
    """[cx, cy, w, h] around points."""
    x0, y0, x1, y1 = min(xs), min(ys), max(xs), max(ys)
    return [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]


def _refuse_rotated(images: list[tuple[str, str]], every: Values) -> None:
    """Raises DataError where all lines have four corners and some are turned: most likely rotated boxes.

    Their lines look like those of polygons, and data.yaml does not say which they are.
    """
    first, n = "", 0
    for image in map(_Labelled.of, images, every):
        for row in image.rows:
            if len(row.values) != 8:
                return
            first = first or ("" if _straight(row.values) else f"{image.labels}: line {row.line}")
            n += 1
    if first:
        raise DataError(
            f"{first}: is a turned box, if all {n:,} lines with four corners are boxes; PaliGemma answers "
            "upright ones only; if they are polygons, write yolo(polygons=True)"
        )


def _straight(values: tuple[float, ...]) -> bool:
    """Whether every edge is level or upright."""
    xs, ys = values[::2], values[1::2]
    return all(min(abs(xs[i] - xs[i - 1]), abs(ys[i] - ys[i - 1])) < _STRAIGHT for i in range(len(xs)))


def _object(
    image: _Labelled, row: _Row, names: tuple[str, ...], size: Size, source: Source
) -> dict[str, Any]:
    """An object in pixels."""
    (height, width), where = size, f"{image.labels}: line {row.line}:"
    polygon = list[float]()
    if len(row.values) == 4:
        cx, cy, w, h = row.values
        box = ((cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height)
        area = box[2] * box[3]
    else:
        xs, ys = [x * width for x in row.values[::2]], [y * height for y in row.values[1::2]]
        polygon = [part for point in zip(xs, ys, strict=True) for part in point]
        box = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
        area = abs(sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(len(xs)))) / 2
        if source.uses("object masks") and (wrong := segmentations.problem([polygon], size)):
            raise DataError(f"{where} {wrong[1]}")
    over = max(-box[0], -box[1], box[0] + box[2] - width, box[1] + box[3] - height)
    if over > 1:  # less is rounding
        source.remarks.add("over", f"{where} is {over:.0f} pixels over the image's edge; it is kept as it is")
    if not box[2] or not box[3]:
        source.remarks.add("flat", f"{where} is a box without area; it is kept, and no answer can match it")
    found = {"category": names[row.category], "box": box, "area": area, "iscrowd": 0}
    return {**found, "segmentation": [polygon]} if polygon else found
