"""COCO instances: instances_*.json, all objects of an image as one sample's target; or image_info_*.json.

Boxes, areas, crowd flags and masks are passed on as they are in the file; masks are checked where a metric
scores masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal

from evalkit.data.faults import Faults
from evalkit.data.readers import read_json
from evalkit.data.records import Record, Unique, path_of
from evalkit.data.sources import image_ref
from evalkit.geometry import segmentations
from evalkit.registry import ADDED
from evalkit.types import Format, Sample, Size, Source


@dataclass(frozen=True)
class CocoDetection(Format):
    """One sample per image (images without objects too), id = COCO image id.

    Target: {"size": (h, w), "image_id": int, "categories": every category's name (one shared
    tuple), "objects": [{"category": name, "box": (x, y, w, h) pixels, "area": pixels,
    "iscrowd": 0 or 1, "segmentation": as in the file, where it has one}]}.
    The file is one split and doesn't say which, so `split` is not checked. Pages that DocLayNet
    had annotated two or three times count once (entries with `precedence` above 0 are left out).
    `hidden`: the file has only images and categories (image_info_*.json); every target is ().
    `leave_out`: categories that are no class, such as the one above all others that Roboflow writes; an
    object of one is an error.

    `ask`: `image` is one sample an image, whose target has all its objects. `category` is one for every image
    and category, id = image id:category id, with the objects of this category alone: for models that are
    asked `detect {category}`. AP over these is that over images. `present` leaves out the categories that
    the image does not show, so what is found of them costs nothing: such an AP is higher.
    """

    hidden: bool = False
    leave_out: tuple[str, ...] = field(default=(), metadata=ADDED)
    ask: Literal["image", "category", "present"] = field(default="image", metadata=ADDED)

    fields: ClassVar[tuple[str, ...]] = ("categories",)  # "person ; bicycle ; ...", as `detect` lists them
    keys: ClassVar[tuple[str, ...]] = ("path", "images")
    gives: ClassVar[tuple[str, ...]] = ("objects", "object masks")

    def __post_init__(self) -> None:
        if self.hidden and self.ask == "present":
            raise ValueError("ask='present' needs a file with objects, and hidden=True says that it has none")
        if self.ask != "image":
            object.__setattr__(self, "fields", ("category", "categories"))

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path, images = path_of(source, "path", self.keys), path_of(source, "images", self.keys)
        top = Record(read_json(path), str(path))
        faults = Faults()
        named = _categories(top, faults)
        names = {k: name for k, name in named.items() if name not in self.leave_out}
        categories = tuple(names.values())
        fields = {"categories": " ; ".join(categories)}
        every = list(top.records("images"))
        listed = _images(top, every, faults)
        objects = {} if self.hidden else _objects(top, names, every, source.uses("object masks"), faults)
        faults.done(
            lambda: [
                Sample(str(n), (image_ref(images, name),), fields, (), size=size) for n, name, size in listed
            ]
        )
        for number, name, size in listed:
            shown = (image_ref(images, name),)
            whole = {"size": size, "image_id": number}
            if self.ask == "image":
                every_one = {**whole, "categories": categories, "objects": objects.get(number)}
                target = () if self.hidden else every_one
                yield Sample(str(number), shown, fields, target, size=size, cluster=name)
                continue
            of: dict[str, list[dict[str, Any]]] = {}
            for each in objects.get(number, ()):
                of.setdefault(each["category"], []).append(each)
            for category_id, category in names.items():
                if self.ask == "present" and category not in of:
                    continue
                one = {**whole, "categories": (category,), "objects": of.get(category, [])}
                asked = {**fields, "category": category}
                target = () if self.hidden else one
                yield Sample(f"{number}:{category_id}", shown, asked, target, size=size, cluster=name)


def _categories(top: Record, faults: Faults) -> dict[int, str]:
    """id -> name in file order (COCO's ids have gaps: 80 classes in 1..90)."""
    ids, unique_names = Unique(top.file, "category id"), Unique(top.file, "category name")
    result: dict[int, str] = {}
    for category in top.records("categories"):
        if faults.tried(partial(category.integer, "id"), partial(category.text, "name")):
            number, name = category.data["id"], category.data["name"]
            faults.tried(partial(ids.add, number), partial(unique_names.add, name))
            result.setdefault(number, name)
    return result


def _images(top: Record, every: list[Record], faults: Faults) -> list[tuple[int, str, Size]]:
    """id, file and size of the images that are right, without later annotations of one page."""
    unique, found = Unique(top.file, "image id"), []
    for image in every:
        checks = partial(image.integer, "id"), partial(image.name, "file_name"), image.size
        if faults.tried(*checks) and not image.data.get("precedence"):
            faults.tried(partial(unique.add, image.data["id"]))
            found.append((image.data["id"], image.data["file_name"], image.size()))
    return found


def _objects(
    top: Record, names: dict[int, str], listed: list[Record], masks: bool, faults: Faults
) -> dict[int, list[dict[str, Any]]]:
    """image id -> its objects in file order; `masks`: whether their segmentations are scored."""
    sizes: dict[int, Size | None] = {}
    for image in listed:
        if type(number := image.data.get("id")) is int:
            sizes[number] = image.size() if Faults().tried(image.size) else None
    result: dict[int, list[dict[str, Any]]] = {number: [] for number in sizes}
    annotations = Unique(top.file, "annotation id")
    for annotation in top.records("annotations"):
        if faults.tried(partial(annotation.integer, "id")):
            faults.tried(partial(annotations.add, annotation.data["id"]))
            annotation.place += f" (id {annotation.data['id']})"
        right = faults.tried(
            partial(_image, annotation, sizes), partial(_category, annotation, names), annotation.box,
            partial(_area, annotation), partial(annotation.flag, "iscrowd"),
        )  # fmt: skip
        size = sizes[annotation.data["image_id"]] if right else None
        if size:
            number, label = annotation.data["image_id"], names[annotation.data["category_id"]]
            faults.tried(lambda: result[number].append(_object(annotation, label, size, masks)))  # noqa: B023
    return result


def _image(annotation: Record, sizes: Mapping[int, object]) -> None:
    if (number := annotation.integer("image_id")) not in sizes:
        annotation.wrong("image_id", f"{number} is not an image of this file; it must be an id under images")


def _category(annotation: Record, names: Mapping[int, str]) -> None:
    if (number := annotation.integer("category_id")) not in names:
        annotation.wrong("category_id", f"{number} is unknown; it must be an id under categories")


def _area(annotation: Record) -> float | None:
    return annotation.number("area", least=0) if annotation.has("area") else None


def _object(annotation: Record, category: str, size: Size, masks: bool) -> dict[str, Any]:
    box = annotation.box()
    found: dict[str, Any] = {
        "category": category,
        "box": box,
        "area": box[2] * box[3] if (area := _area(annotation)) is None else area,
        "iscrowd": annotation.flag("iscrowd"),
    }
    if annotation.data.get("segmentation"):  # converters write [] where there is no mask
        found["segmentation"] = annotation.data["segmentation"]
        if masks:
            annotation.refuse("segmentation", segmentations.problem(found["segmentation"], size))
    return found
