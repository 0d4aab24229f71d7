"""TextVQA's TextVQA_0.5.1_*.json: questions about text in photos, ten answers each.

Knows no metric; images are taken as distributed (the reference turns some upright first).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from evalkit.records import Record, Unique, check_split, path_of
from evalkit.sources import image_ref, read_json
from evalkit.types import Format, Sample, Source


@dataclass(frozen=True)
class TextVqa(Format):
    """One sample a question, id = question_id, target = the answers (() where a test split has none).

    Records that state a set_name are read only for the split asked for.
    """

    suffix: str = ".jpg"  # image file = image_id + suffix

    fields: ClassVar[tuple[str, ...]] = ("question",)
    keys: ClassVar[tuple[str, ...]] = ("path", "images")

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path, images = path_of(source, "path", self.keys), path_of(source, "images", self.keys)
        top = Record(read_json(path), str(path))
        records = list(top.records("data"))
        stated = {record.text("set_name") for record in records if record.has("set_name")}
        if stated:
            check_split(str(path), split, stated)
        unique = Unique(str(path), "question_id")
        for record in records:
            if record.data.get("set_name", split) != split:
                continue
            number = record.identifier("question_id")
            unique.add(number)
            target: tuple[str, ...] = ()
            if record.has("answers") or not split.startswith("test"):
                target = record.texts("answers", least=0 if split.startswith("test") else 1)
            name = record.name("image_id") + self.suffix
            size = record.size("image_height", "image_width") if record.has("image_height") else None
            fields = {"question": record.text("question")}
            yield Sample(number, (image_ref(images, name),), fields, target, size=size, cluster=name)
