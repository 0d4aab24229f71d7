"""Rows with all objects of an image, as Hugging Face's detection datasets have them: `objects.bbox` and
`objects.category`, from Parquet or Arrow files, an imagefolder's metadata, or the hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

from evalkit.data import rows
from evalkit.data.faults import Faults
from evalkit.data.records import Record
from evalkit.errors import ImageError
from evalkit.types import Format, ImageRef, Remarks, Sample, Size, Source


@dataclass(frozen=True)
class ObjectRows(Format):
    """One sample a row, id = the row's number from 0.

    image       the column of the image; in an imagefolder's metadata a file name below `images`
    objects     the column that holds the two below, as lists or as a list of objects; '': they are columns
    bbox, category   four numbers in pixels each; a name, or a number in `names` or of a ClassLabel
    order       of the four: `xywh` as COCO's, `xyxy` corners as Pascal VOC's
    names       the classes' names by number, where the rows do not state them
    height, width    columns of the image's size; else its header says it

    `path` of the source is a folder with Parquet or Arrow files (also what `save_to_disk` writes), or an
    imagefolder's metadata.jsonl or .csv; or the source names a dataset of the hub.
    Target: as coco_detection's; `image_id` is the row's number.
    """

    image: str = "image"
    objects: str = "objects"
    bbox: str = "bbox"
    category: str = "category"
    order: Literal["xywh", "xyxy"] = "xywh"
    names: tuple[str, ...] = ()
    height: str = "height"
    width: str = "width"

    fields: ClassVar[tuple[str, ...]] = ("categories",)  # "person ; bicycle ; ...", as `detect` lists them
    keys: ClassVar[tuple[str, ...]] = ("path",)
    hub: ClassVar[bool] = True
    gives: ClassVar[tuple[str, ...]] = ("objects",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        faults = Faults()
        found = rows.read(source, split, self.image, faults)
        path = (self.objects, self.category) if self.objects else (self.category,)
        named = self.names or found.names(*path)
        every = []
        for row in found.every:
            given = faults.made(partial(self._objects, row.record, named, source.remarks))
            if given is not None:
                every.append((row, given))
        used = dict.fromkeys(str(one["category"]) for _, objects in every for one in objects)
        categories = named or tuple(used)
        fields = {"categories": " ; ".join(categories)}
        for row, objects in every:
            target: Any = ()
            measured = faults.made(lambda: (self._size(row.record, row.image, source.remarks),))  # noqa: B023 – called at once
            size = measured[0] if measured else None
            if size:
                for one in objects:
                    _tell_beyond(row.record, one["box"], size, source.remarks)
                target = {"size": size, "image_id": row.number, "categories": categories, "objects": objects}
            yield Sample(str(row.number), (row.image,), fields, target, size=size, cluster=row.called)
        faults.done()

    def without_target(self, source: Source, split: str) -> str:
        return "their images cannot be read"

    def _size(self, record: Record, image: ImageRef, remarks: Remarks) -> Size | None:
        from evalkit.images.prepare import header_size  # Pillow is imported where images are read

        height, width = (str(record.data.get(side)) for side in (self.height, self.width))
        if height.isdigit() and width.isdigit():  # of CSV they are texts
            size = int(height), int(width)
            record.bound(self.height, size)
            return size
        try:
            return header_size(image, exif="apply")  # as `datasets` shows images, so as boxes were drawn
        except ImageError as error:
            remarks.add("image", f"{error}; it is not scored")
            return None

    def _objects(self, record: Record, named: tuple[str, ...], remarks: Remarks) -> list[dict[str, Any]]:
        objects = []
        for number, (box, label) in enumerate(self.pairs(record)):
            where = f"{record.file}: {record.place}: object {number}"
            problem, category = _category(label, named)
            problem = problem or _box_problem(box, self.order)
            if problem:
                remarks.add(problem.partition(" ")[0], f"{where}: {problem}; it is left out")
                continue
            x, y, w, h = map(float, box)
            if self.order == "xyxy":
                w, h = w - x, h - y
            objects.append({"category": category, "box": (x, y, w, h), "area": w * h, "iscrowd": 0})
        return objects

    def held(self, record: Record) -> Any:
        """What a row says of its objects. Raises DataError where a CSV file's cell is no JSON."""
        held: Any = record.get(self.objects, "it must hold the objects") if self.objects else record.data
        try:
            return json.loads(held) if isinstance(held, str) else held
        except ValueError:
            record.wrong(self.objects, "is not JSON")

    def pairs(self, record: Record) -> list[tuple[Any, Any]]:
        """(box, category) of each object as the row has them. Raises DataError for lists of two lengths."""
        held = self.held(record)
        if held is None or held == []:
            return []
        if isinstance(held, list):
            if not all(isinstance(one, dict) for one in held):
                record.wrong(self.objects, f"must be a list of objects with {self.bbox} and {self.category}")
            return [(one.get(self.bbox), one.get(self.category)) for one in held]
        boxes, labels = (
            (held.get(key) for key in (self.bbox, self.category)) if isinstance(held, dict) else "  "
        )
        if not isinstance(boxes, list) or not isinstance(labels, list):
            record.wrong(self.objects, f"must hold the lists {self.bbox} and {self.category}")
        if len(boxes) != len(labels):
            record.wrong(self.objects, f"holds {len(boxes)} boxes and {len(labels)} categories")
        return list(zip(boxes, labels, strict=True))


def _category(label: Any, named: tuple[str, ...]) -> tuple[str, str]:
    """What is wrong with a category, and its name."""
    if isinstance(label, str) and label.strip():
        return "", label.strip()
    if type(label) is not int:
        return f"category is {label!r}; it must be a name or a number", ""
    if not named:
        return "", f"class {label}"
    if not 0 <= label < len(named):
        return f"category is {label}; there are 0 to {len(named) - 1}", ""
    return "", named[label]


def _box_problem(box: Any, order: str) -> str:
    if not isinstance(box, (list, tuple)) or len(box) != 4:
        return "box must be four numbers"
    if not all(type(side) in (int, float) and abs(side) < 1 << 31 for side in box):
        return f"box is {box}; it must be four finite numbers"
    if order == "xywh" and min(box[2:]) < 0:
        return f"box is {list(box)}; width and height must not be negative"
    if order == "xyxy" and (box[2] < box[0] or box[3] < box[1]):
        return f"box is {list(box)}; as corners its sides would be negative"
    return ""


def _tell_beyond(record: Record, box: tuple[float, ...], size: Size, remarks: Remarks) -> None:
    over = max(-box[0], -box[1], box[0] + box[2] - size[1], box[1] + box[3] - size[0])
    if over > 1:  # less is rounding
        said = f"a box is {over:.0f} pixels over the image's edge; it is kept as it is"
        remarks.add("over", f"{record.file}: {record.place}: {said}")
