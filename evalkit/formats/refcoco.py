"""REFER's `refs(unc|umd|google).p` with instances.json: RefCOCO, RefCOCO+ and RefCOCOg.

Box and segmentation are both passed on; a segmentation is checked where a metric scores masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from evalkit.data.faults import Faults
from evalkit.data.pickles import read_pickle
from evalkit.data.records import Record, Unique, check_split, filled, listed, path_of
from evalkit.data.sources import image_ref
from evalkit.data.streamed import read_lists
from evalkit.errors import DataError
from evalkit.geometry import segmentations
from evalkit.types import Format, Sample, Source


@dataclass(frozen=True)
class RefCoco(Format):
    """One sample per sentence (not an object), id = sent_id, as the paper counts.

    Target: {"size": (h, w), "box": (y0, x0, y1, x1) in original pixels, "segmentation": polygons
    or run lengths as in the file, "iscrowd": 0 or 1}. `{sentence}` is REFER's cleaned `sent`, which
    the reference uses; `{raw}` is the text as people typed it.
    `image_name`: a %-template for the image's number, where file names differ from those in
    instances.json (COCO 2017's `%012d.jpg`).
    """

    image_name: str = ""

    fields: ClassVar[tuple[str, ...]] = ("sentence", "raw", "category")
    keys: ClassVar[tuple[str, ...]] = ("refs", "instances", "images")
    gives: ClassVar[tuple[str, ...]] = ("box", "mask")

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path, images = path_of(source, "refs", self.keys), path_of(source, "images", self.keys)
        faults = Faults()
        refs = _refs(read_pickle(path), str(path), split, faults)
        path = path_of(source, "instances", self.keys)
        wanted = {faults.made(partial(ref.integer, "ann_id")) for ref in refs}

        def needed(entry: dict[str, Any]) -> bool:
            """Whether to keep the entry: not if it has the mask of an object that no ref points to."""
            number = entry.get("id")
            return "segmentation" not in entry or type(number) is not int or number in wanted

        instances = _Instances(Record(read_lists(path, keep=needed), str(path)), faults)
        unique = Unique(refs[0].file if refs else str(path), "sent_id")
        for ref in refs:
            if type(ref.data.get("ann_id")) is int:
                yield from faults.made(partial(self._of, ref, instances, images, unique, source)) or ()
        faults.done()

    def _of(
        self, ref: Record, instances: _Instances, images: Path, unique: Unique, source: Source
    ) -> list[Sample]:
        """The samples of a ref, one a sentence."""
        image, annotation = instances.of(ref)
        size = image.size()
        x, y, w, h = annotation.box()
        target = {"size": size, "box": (y, x, y + h, x + w), "iscrowd": annotation.flag("iscrowd")}
        if source.uses("mask"):
            segmentation = annotation.get("segmentation", "it must be polygons or run lengths")
            annotation.refuse("segmentation", segmentations.problem(segmentation, size))
        if annotation.data.get("segmentation"):
            target["segmentation"] = annotation.data["segmentation"]
        name = filled(self.image_name, image.data["id"]) if self.image_name else image.name("file_name")
        picture = (image_ref(images, name),)
        category = instances.categories.get(annotation.integer("category_id"), "")
        found = []
        for sentence in ref.records("sentences"):
            number = sentence.identifier("sent_id")
            unique.add(number, ref)
            text = sentence.text("sent")
            fields = {
                "sentence": text,
                "raw": sentence.text("raw") if sentence.has("raw") else text,
                "category": category,
            }
            found.append(Sample(number, picture, fields, target, size=size, cluster=name))
        return found


def _refs(data: Any, file: str, split: str, faults: Faults) -> list[Record]:
    """The refs of the split in file order."""
    if not isinstance(data, list):
        raise DataError(f"{file}: top level: is not a list; it must be REFER's list of refs")
    present, chosen = set[Any](), []
    for ref in listed(data, file, "refs", faults):
        stated = faults.made(partial(ref.text, "split"))
        present.add(stated)
        if stated == split:
            chosen.append(ref)
    if present != {None}:
        check_split(file, split, present)
    return chosen


class _Instances:
    """The images, annotations and categories that the refs need, found by id."""

    def __init__(self, top: Record, faults: Faults) -> None:
        self.top = top
        self.images = _by_id(top, "images", "image id", faults)
        self.annotations = _by_id(top, "annotations", "annotation id", faults)
        self.categories: dict[Any, str] = {}
        for entry in top.records("categories", faults=faults) if top.has("categories") else ():
            if faults.tried(partial(entry.integer, "id"), partial(entry.text, "name")):
                self.categories[entry.data["id"]] = entry.data["name"]

    def of(self, ref: Record) -> tuple[Record, Record]:
        """The image and the annotation that a ref points to."""
        place = self.annotations.get(ref.data["ann_id"])
        if place is None:
            ref.wrong(
                "ann_id",
                f"{ref.data['ann_id']} is not an annotation of {self.top.file}; both must belong together",
            )
        annotation = self.top.element("annotations", place)
        annotation.place += f" (id {annotation.data['id']})"
        place = self.images.get(ref.integer("image_id"))
        if place is None:
            ref.wrong(
                "image_id",
                f"{ref.data['image_id']} is not an image of {self.top.file}; both must belong together",
            )
        image = self.top.element("images", place)
        if annotation.integer("image_id") != image.data["id"]:
            annotation.wrong("image_id", f"is not the image of the ref at {ref.place}, {image.data['id']}")
        return image, annotation


def _by_id(top: Record, key: str, what: str, faults: Faults) -> dict[int, int]:
    """The places of a list's entries by their ids, but for those that were not kept."""
    unique, found = Unique(top.file, what), dict[int, int]()
    top.records(key)  # refuses what is no list
    for place, data in enumerate(top.data[key]):
        if data is not None:
            entry = faults.made(partial(top.element, key, place))
            if entry and faults.tried(partial(entry.integer, "id")):
                faults.tried(partial(unique.add, entry.data["id"], entry))
                found[entry.data["id"]] = place
    return found
