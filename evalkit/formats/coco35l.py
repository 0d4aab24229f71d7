"""COCO-35L's coco_mt_dev.jsonl: COCO captions translated by machine into 34 languages.

Thapliyal et al., 2022; schema as read by google-research/big_vision.
"""

from __future__ import annotations

import bz2
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from evalkit import door
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
        for number, line in _lines(path):
            record = Record(line, str(path), f"line {number + 1}")
            image = record.text("image_id").split("_")[0]
            language = record.text("trg_lang")
            if language == "de":
                captions.setdefault(("en", image), []).append(record.text("caption_tokenized"))
            captions.setdefault((language, image), []).append(record.text("translation_tokenized"))
        if not captions:
            raise DataError(f"{path}: is empty; it must hold one JSON object a line")
        names = _names(karpathy)
        for (language, image), texts in captions.items():
            if self.languages and language not in self.languages:
                continue
            if image not in names:
                raise DataError(f"{path}: image {image[:40]} is not in {karpathy}; both are of COCO 2014")
            ref, fields = image_ref(images, names[image]), {"language": language}
            name = f"{language}/{image}"
            yield Sample(name, (ref,), fields, tuple(texts), group=language, cluster=names[image])


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The lines of the file, as distributed (.bz2) or unpacked."""
    if path.suffix != ".bz2":
        yield from read_lines(path)
        return
    with door.guarded(path), door.opened(path) as packed, bz2.open(packed) as file:
        yield from parse_lines(file, path)


def _names(path: Path) -> dict[str, str]:
    """COCO id -> the image's path below the folder of images."""
    found = {}
    for image in Record(read_json(path), str(path)).records("images"):
        folder = f"{image.name('filepath')}/" if image.has("filepath") else ""
        found[str(image.integer("cocoid"))] = folder + image.name("filename")
    return found
