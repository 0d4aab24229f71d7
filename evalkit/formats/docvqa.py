"""DocVQA's {split}_v1.0.json (with or without question types): questions about scanned pages.

All accepted answers are the target, unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from evalkit.data.faults import Faults
from evalkit.data.readers import read_json
from evalkit.data.records import Record, Unique, check_split, path_of
from evalkit.data.sources import image_ref
from evalkit.types import Format, Sample, Source


@dataclass(frozen=True)
class DocVqa(Format):
    """One sample per question, id = questionId, target = its answers (() for test).

    The file's `image` is "documents/<page>.png"; the folder is dropped where `images` is itself
    a folder (or archive) of that name.
    """

    fields: ClassVar[tuple[str, ...]] = ("question",)
    keys: ClassVar[tuple[str, ...]] = ("path", "images")
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path, images = path_of(source, "path", self.keys), path_of(source, "images", self.keys)
        top = Record(read_json(path), str(path))
        if top.has("dataset_split"):
            check_split(str(path), split, {top.text("dataset_split")})
        unique, faults = Unique(str(path), "questionId"), Faults()

        def of(record: Record) -> Iterator[Sample]:
            number = record.identifier("questionId")
            unique.add(number, record)
            target: tuple[str, ...] = ()
            if record.data.get("answers") is not None or not split.startswith("test"):
                target = record.texts("answers", least=0 if split.startswith("test") else 1)
            name = record.name("image")
            folder, _, page = name.partition("/")
            if page and folder == images.stem:
                name = page
            fields = {"question": record.text("question")}
            yield Sample(number, (image_ref(images, name),), fields, target, cluster=name)

        yield from faults.of_all(top.records("data", faults=faults), of)
