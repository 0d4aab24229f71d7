"""COCO-35L's coco_mt_dev.jsonl: COCO captions translated by machine into 34 languages.

Thapliyal et al., 2022; schema as read by google-research/big_vision.
"""

from __future__ import annotations

import bz2
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from evalkit import door
from evalkit.data.faults import Faults
from evalkit.data.readers import parse_lines, read_json, read_lines
from evalkit.data.records import Record, path_of
from evalkit.data.sources import image_ref
from evalkit.errors import DataError
from evalkit.types import Format, Sample, Source


@dataclass(frozen=True)
class Coco35l(Format):
    """One sample per image and language, id = `<language>/<COCO id>`, group = language.

    Target: the `translation_tokenized` of the image's captions in that language; for English, the
    `caption_tokenized` of the lines that translate into German, as in the reference. `karpathy` is
    dataset_coco.json, which gives each image's path below `images`. `languages`: read only these.
    """

    languages: tuple[str, ...] = ()

    fields: ClassVar[tuple[str, ...]] = ("language",)
    keys: ClassVar[tuple[str, ...]] = ("path", "karpathy", "images")
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path, images = path_of(source, "path", self.keys), path_of(source, "images", self.keys)
        karpathy = path_of(source, "karpathy", self.keys)
        captions: dict[tuple[str, str], list[str]] = {}
        faults = Faults()
        for number, line in _lines(path, faults):
            faults.tried(partial(_keep, line, str(path), number, captions))
        if not captions:
            faults.done()
            raise DataError(f"{path}: is empty; it must hold one JSON object a line")
        names = _names(karpathy, faults)

        def of(entry: tuple[tuple[str, str], list[str]]) -> Iterator[Sample]:
            (language, image), texts = entry
            if self.languages and language not in self.languages:
                return
            if image not in names:
                raise DataError(f"{path}: image {image[:40]!r} is not in {karpathy}; both are of COCO 2014")
            ref, fields = image_ref(images, names[image]), {"language": language}
            name = f"{language}/{image}"
            yield Sample(name, (ref,), fields, tuple(texts), group=language, cluster=names[image])

        yield from faults.of_all(captions.items(), of)


def _keep(line: Any, file: str, number: int, captions: dict[tuple[str, str], list[str]]) -> None:
    """Keeps the captions of a line."""
    record = Record(line, file, f"line {number + 1}")
    image = record.text("image_id").split("_")[0]
    language = record.text("trg_lang")
    if language == "de":
        captions.setdefault(("en", image), []).append(record.text("caption_tokenized"))
    captions.setdefault((language, image), []).append(record.text("translation_tokenized"))


def _lines(path: Path, faults: Faults) -> Iterator[tuple[int, Any]]:
    """The lines of the file, as distributed (.bz2) or unpacked."""
    if path.suffix != ".bz2":
        yield from read_lines(path, faults)
        return
    with door.guarded(path), door.opened(path) as packed, bz2.open(packed) as file:
        yield from parse_lines(file, path, faults)


def _names(path: Path, faults: Faults) -> dict[str, str]:
    """COCO id -> the image's path below the folder of images."""
    found = dict[str, str]()

    def keep(image: Record) -> None:
        folder = f"{image.name('filepath')}/" if image.has("filepath") else ""
        found[str(image.integer("cocoid"))] = folder + image.name("filename")

    for image in Record(read_json(path), str(path)).records("images", faults=faults):
        faults.tried(partial(keep, image))
    return found
