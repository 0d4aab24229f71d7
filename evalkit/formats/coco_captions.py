"""COCO captions: the original captions_*.json, or Karpathy's dataset_coco.json with its splits.

All references of an image are its target, unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from evalkit.data.faults import Faults
from evalkit.data.records import Record, Unique, check_split, path_of
from evalkit.data.sources import image_ref
from evalkit.data.streamed import read_lists
from evalkit.types import Format, Sample, Size, Source


@dataclass(frozen=True)
class CocoCaptions(Format):
    """One sample per image, id = COCO image id, target = its captions (tuple of str) in file order.

    The original file is one split and doesn't say which, so `split` is not checked; an image's
    `domain` (nocaps) is its group, and one without a caption has no target, which is said. Karpathy's
    file names a split for each image, and only the requested one is read; its `filepath` (train2014,
    val2014) is a folder below `images`.
    """

    fields: ClassVar[tuple[str, ...]] = ()
    keys: ClassVar[tuple[str, ...]] = ("path", "images")
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path, images = path_of(source, "path", self.keys), path_of(source, "images", self.keys)
        top = Record(read_lists(path), str(path))
        if "dataset" in top.data or "annotations" not in top.data:
            return _karpathy(top, images, split)
        return _original(top, images)

    def without_target(self, source: Source, split: str) -> str:
        return "no caption under annotations names them"


def _karpathy(top: Record, images: Path, split: str) -> Iterator[Sample]:
    unique, present, faults = Unique(top.file, "cocoid"), set[Any](), Faults()
    for image in top.records("images", faults=faults):
        stated = faults.made(partial(image.text, "split"))
        present.add(stated)
        if stated == split and (sample := faults.made(partial(_of_karpathy, image, images, unique))):
            yield sample
    if present != {None}:
        check_split(top.file, split, present)
    faults.done()


def _of_karpathy(image: Record, images: Path, unique: Unique) -> Sample:
    unique.add(image.integer("cocoid"), image)
    captions = tuple(sentence.text("raw") for sentence in image.records("sentences"))
    if not captions:
        image.wrong("sentences", "is empty; an image needs at least one caption")
    name = image.name("filename")
    if image.has("filepath"):
        name = f"{image.name('filepath')}/{name}"
    return _sample(image.integer("cocoid"), images, name, captions, None)


def _original(top: Record, images: Path) -> Iterator[Sample]:
    captions, faults = dict[int, list[str]](), Faults()
    unique = Unique(top.file, "image id")
    for image in top.records("images", faults=faults):
        if faults.tried(partial(image.integer, "id")):
            faults.tried(partial(unique.add, image.data["id"], image))
            captions[image.data["id"]] = []
    for annotation in top.records("annotations", faults=faults):
        shown = faults.made(partial(_captions_of, annotation, captions))
        caption = faults.made(partial(annotation.text, "caption"))
        if shown is not None and caption is not None:
            shown.append(caption)
    for image in top.records("images", faults=Faults()):  # what is none is told already
        if type(number := image.data.get("id")) is int:
            sample = faults.made(partial(_of_original, image, images, tuple(captions[number])))
            if sample:
                yield sample
    faults.done()


def _captions_of(annotation: Record, captions: dict[int, list[str]]) -> list[str]:
    number = annotation.integer("image_id")
    if number not in captions:
        annotation.wrong("image_id", f"{number} is not an image of this file; it must be an id under images")
    return captions[number]


def _of_original(image: Record, images: Path, references: tuple[str, ...]) -> Sample:
    size = image.size() if image.has("height") else None
    group = image.text("domain") if image.has("domain") else ""
    return _sample(image.data["id"], images, image.name("file_name"), references, size, group)


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
