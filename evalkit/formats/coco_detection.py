"""COCO instances: instances_*.json, all objects of an image as one sample's target; or image_info_*.json.

Boxes, areas, crowd flags and masks are passed on as they are in the file; masks are checked where a metric
scores masks.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from evalkit.data.faults import Faults
from evalkit.data.records import Record, Unique, path_of
from evalkit.data.sources import image_ref, moved_to
from evalkit.data.streamed import read_lists
from evalkit.errors import DataError
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
        top = Record(read_lists(path), str(path))
        faults = Faults()
        named = _categories(top, faults)
        names = {k: name for k, name in named.items() if name not in self.leave_out}
        categories = tuple(names.values())
        fields = {"categories": " ; ".join(categories)}
        listed = _Images(top, images, faults)
        masks = source.uses("object masks")
        objects = None if self.hidden else _Objects(top, names, listed.sizes, masks, faults)
        faults.done(
            lambda: [
                Sample(str(n), (image_ref(images, name),), fields, (), size=size) for n, name, size in listed
            ]
        )
        for number, name, size in listed:
            shown = (image_ref(images, name),)
            whole = {"size": size, "image_id": number}
            every = [] if objects is None else objects.of(number)
            if self.ask == "image":
                target = () if self.hidden else {**whole, "categories": categories, "objects": every}
                yield Sample(str(number), shown, fields, target, size=size, cluster=name)
                continue
            of: dict[str, list[dict[str, Any]]] = {}
            for each in every:
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
    for category in top.records("categories", faults=faults):
        if faults.tried(partial(category.integer, "id"), partial(category.text, "name")):
            number, name = category.data["id"], category.data["name"]
            faults.tried(partial(ids.add, number, category), partial(unique_names.add, name, category))
            result.setdefault(number, name)
    return result


class _Images:
    """id, file and size of the images that are right, without later annotations of one page; `sizes` of all
    by id, None where that is not right."""

    def __init__(self, top: Record, images: Path, faults: Faults) -> None:
        self._top, self._images, self._right = top, images, array("I")
        self._moved: dict[str, str] = {}
        self.sizes: dict[int, Size | None] = {}
        alike: dict[Size, Size] = {}
        unique = Unique(top.file, "image id")
        for place, image in top.placed("images", faults=faults):
            checks = partial(image.integer, "id"), partial(self._found, image), image.size
            if faults.tried(*checks) and not image.data.get("precedence"):
                faults.tried(partial(unique.add, image.data["id"], image))
                self._right.append(place)
            if type(number := image.data.get("id")) is int:
                size = image.size() if Faults().tried(image.size) else None
                self.sizes[number] = alike.setdefault(size, size) if size else None

    def __iter__(self) -> Iterator[tuple[int, str, Size]]:
        for place in self._right:
            image = self._top.element("images", place)
            yield image.data["id"], self._found(image), image.size()

    def _found(self, image: Record) -> str:
        """The file's name, which may be an absolute path of another machine; two that would be one file are
        refused."""
        found, problem = moved_to(self._images, image.name("file_name", absolute=True), self._moved)
        if problem:
            image.wrong("file_name", problem)
        return found


class _Objects:
    """The objects of each image in file order, made again of the annotations when they are asked for, since
    a million take gigabytes. `masks`: whether their segmentations are scored."""

    def __init__(
        self,
        top: Record,
        names: Mapping[int, str],
        sizes: Mapping[int, Size | None],
        masks: bool,
        faults: Faults,
    ) -> None:
        self._top, self._names = top, names
        self._images = {number: place for place, number in enumerate(sizes)}
        unique = Unique(top.file, "annotation id")
        shown, right = array("I"), array("I")
        for place, annotation in top.placed("annotations", faults=faults):
            if faults.tried(partial(annotation.integer, "id")):
                faults.tried(partial(unique.add, annotation.data["id"], annotation))
                annotation.place += f" (id {annotation.data['id']})"
            if _is_right(annotation, sizes, names, masks, faults):
                shown.append(self._images[annotation.data["image_id"]])
                right.append(place)
        images = np.frombuffer(shown, np.uint32) if shown else np.zeros(0, np.uint32)
        self._order = np.argsort(images, kind="stable").astype(np.uint32)
        self._starts = np.searchsorted(images[self._order], np.arange(len(sizes) + 1)).astype(np.uint32)
        self._right = right

    def of(self, image: int) -> list[dict[str, Any]]:
        at = self._images[image]
        some = self._order[self._starts[at] : self._starts[at + 1]].tolist()
        found = (self._top.element("annotations", self._right[n]) for n in some)
        return [_object(each, self._names[each.data["category_id"]]) for each in found]


def _is_right(
    annotation: Record,
    sizes: Mapping[int, Size | None],
    names: Mapping[int, str],
    masks: bool,
    faults: Faults,
) -> bool:
    """Whether it is an object of an image whose size is right; all that is wrong is noted."""
    data = annotation.data
    if type(data.get("image_id")) is int and type(data.get("category_id")) is int:
        size = sizes.get(data["image_id"])  # at once, as nearly all are right
        if size and data["category_id"] in names and not (masks and data.get("segmentation")):
            try:
                _object(annotation, "")
            except DataError:
                pass
            else:
                return True
    right = faults.tried(
        partial(_image, annotation, sizes), partial(_category, annotation, names), annotation.box,
        partial(_area, annotation), partial(annotation.flag, "iscrowd"),
    )  # fmt: skip
    size = sizes[data["image_id"]] if right else None
    if not size:
        return False
    found = data.get("segmentation") if masks else None
    if not found:
        return True
    return faults.tried(lambda: annotation.refuse("segmentation", segmentations.problem(found, size)))


def _image(annotation: Record, sizes: Mapping[int, object]) -> None:
    if (number := annotation.integer("image_id")) not in sizes:
        annotation.wrong("image_id", f"{number} is not an image of this file; it must be an id under images")


def _category(annotation: Record, names: Mapping[int, str]) -> None:
    if (number := annotation.integer("category_id")) not in names:
        annotation.wrong("category_id", f"{number} is unknown; it must be an id under categories")


def _area(annotation: Record) -> float | None:
    return annotation.number("area", least=0) if annotation.data.get("area") is not None else None


def _object(annotation: Record, category: str) -> dict[str, Any]:
    box = annotation.box()
    found: dict[str, Any] = {
        "category": category,
        "box": box,
        "area": box[2] * box[3] if (area := _area(annotation)) is None else area,
        "iscrowd": annotation.flag("iscrowd"),
    }
    if annotation.data.get("segmentation"):  # converters write [] where there is no mask
        found["segmentation"] = annotation.data["segmentation"]
    return found
