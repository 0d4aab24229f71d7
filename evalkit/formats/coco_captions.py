"""COCO captions: the original captions_*.json, or Karpathy's dataset_coco.json with its splits.

All references of an image are its target, unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from evalkit.data.readers import read_json
from evalkit.data.records import Record, Unique, check_split, path_of
from evalkit.data.sources import image_ref
from evalkit.types import Format, Sample, Size, Source


@dataclass(frozen=True)
class CocoCaptions(Format):
    """One sample per image, id = COCO image id, target = its captions (tuple of str) in file order.

    The original file is one split and doesn't say which, so `split` is not checked; an image's
    `domain` (nocaps) is its group. Karpathy's file names a split for each image, and only the
    requested one is read; its `filepath` (train2014, val2014) is a folder below `images`.
    """

    fields: ClassVar[tuple[str, ...]] = ()
    keys: ClassVar[tuple[str, ...]] = ("path", "images")
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path, images = path_of(source, "path", self.keys), path_of(source, "images", self.keys)
        top = Record(read_json(path), str(path))
        if "dataset" in top.data or "annotations" not in top.data:
            return _karpathy(top, images, split)
        return _original(top, images)


def _karpathy(top: Record, images: Path, split: str) -> Iterator[Sample]:
    unique, present = Unique(top.file, "cocoid"), set[Any]()
    chosen = []
    for image in top.records("images"):
        present.add(image.text("split"))
        if image.data["split"] == split:
            chosen.append(image)
    check_split(top.file, split, present)
    for image in chosen:
        unique.add(image.integer("cocoid"))
        captions = tuple(sentence.text("raw") for sentence in image.records("sentences"))
        if not captions:
            image.wrong("sentences", "is empty; an image needs at least one caption")
        name = image.name("filename")
        if image.has("filepath"):
            name = f"{image.name('filepath')}/{name}"
        yield _sample(image.integer("cocoid"), images, name, captions, None)


def _original(top: Record, images: Path) -> Iterator[Sample]:
    captions: dict[int, list[str]] = {}
    listed = list(top.records("images"))
    unique = Unique(top.file, "image id")
    for image in listed:
        unique.add(image.integer("id"))
        captions[image.data["id"]] = []
    for annotation in top.records("annotations"):
        number = annotation.integer("image_id")
        if number not in captions:
            annotation.wrong(
                "image_id", f"{number} is not an image of this file; it must be an id under images"
            )
        captions[number].append(annotation.text("caption"))
    for image in listed:
        references = tuple(captions[image.data["id"]])
        if not references:
            image.wrong("", "has no caption under annotations; every image needs one")
        size = image.size() if image.has("height") else None
        group = image.text("domain") if image.has("domain") else ""
        yield _sample(image.data["id"], images, image.name("file_name"), references, size, group)


def _sample(
    number: int, images: Path, name: str, captions: tuple[str, ...], size: Size | None, group: str = ""
) -> Sample:
    return Sample(
        id=str(number),
        images=(image_ref(images, name),),
        fields={},
        target=captions,
        size=size,
        group=group,
        cluster=name,
    )
