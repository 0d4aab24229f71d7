"""Crossmodal-3600's captions.jsonl: human captions of 3,600 photos in 36 languages.

Thapliyal et al., 2022; schema as in google.github.io/crossmodal-3600.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from evalkit.data.faults import Faults
from evalkit.data.readers import line_records
from evalkit.data.records import Record, Unique, path_of
from evalkit.data.sources import image_ref
from evalkit.errors import DataError
from evalkit.types import Format, Sample, Source


@dataclass(frozen=True)
class Xm3600(Format):
    """One sample per image and language, id = `<language>/<image/key>`, group = language.

    Target: the captions in that language as written, or tokenized (`references="caption/tokenized"`).
    Which of them the published figures used isn't known; they differ most in languages that don't
    put spaces between words. `languages`: read only these.
    """

    references: Literal["caption", "caption/tokenized", "caption/tokenized/lowercase"] = "caption"
    languages: tuple[str, ...] = ()

    fields: ClassVar[tuple[str, ...]] = ("language", "locale")
    keys: ClassVar[tuple[str, ...]] = ("path", "images")
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path, images = path_of(source, "path", self.keys), path_of(source, "images", self.keys)
        unique, faults = Unique(str(path), "image/key"), Faults()

        def of(line: tuple[int, Record]) -> Iterator[Sample]:
            _, record = line
            key = record.name("image/key")
            unique.add(key, record)
            locale = record.text("image/locale") if record.has("image/locale") else ""
            ref = image_ref(images, f"{key}.jpg")
            for language, entry in record.data.items():
                if not isinstance(entry, dict) or (self.languages and language not in self.languages):
                    continue
                captions = record.record(language).texts(self.references, least=1)
                fields = {"language": language, "locale": locale}
                yield Sample(f"{language}/{key}", (ref,), fields, captions, group=language, cluster=key)

        yield from faults.of_all(line_records(path, faults), of)
        if not unique.seen:
            raise DataError(f"{path}: is empty; it must hold one JSON object per image")
