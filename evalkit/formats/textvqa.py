"""TextVQA's TextVQA_0.5.1_*.json: questions about text in photos, ten answers each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from evalkit.data.faults import Faults
from evalkit.data.readers import read_json, read_table
from evalkit.data.records import Record, Unique, check_split, path_of
from evalkit.data.sources import image_ref
from evalkit.errors import DataError
from evalkit.types import Format, Sample, Source


@dataclass(frozen=True)
class TextVqa(Format):
    """One sample per question, id = question_id, target = the answers (() where a test split has none).

    Records that state a set_name are read only if it is the requested split. The source's `rotation`,
    Open Images' table (ImageID, ..., Rotation), says which photos are rotated: they are turned upright,
    as the reference does. Without it they stay as they are.
    """

    suffix: str = ".jpg"  # image file = image_id + suffix

    fields: ClassVar[tuple[str, ...]] = ("question",)
    keys: ClassVar[tuple[str, ...]] = ("path", "images")
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path, images = path_of(source, "path", self.keys), path_of(source, "images", self.keys)
        top = Record(read_json(path), str(path))
        faults = Faults()
        records = list(top.records("data", faults=faults))
        stated = {faults.made(partial(r.text, "set_name")) for r in records if r.has("set_name")}
        if named := {name for name in stated if name}:
            check_split(str(path), split, named)
        turns = _turns(source.path("rotation")) if "rotation" in source.entry else {}
        unique = Unique(str(path), "question_id")

        def of(record: Record) -> Iterator[Sample]:
            if record.data.get("set_name", split) != split:
                return
            number = record.identifier("question_id")
            unique.add(number, record)
            target: tuple[str, ...] = ()
            if record.has("answers") or not split.startswith("test"):
                target = record.texts("answers", least=0 if split.startswith("test") else 1)
            image = record.name("image_id")
            name = image + self.suffix
            size = record.size("image_height", "image_width") if record.has("image_height") else None
            fields = {"question": record.text("question")}
            ref = image_ref(images, name, turn=turns.get(image, 0))
            if size and ref.turn % 2:
                size = size[1], size[0]
            yield Sample(number, (ref,), fields, target, size=size, cluster=name)

        yield from faults.of_all(records, of)


def _turns(path: Path) -> dict[str, int]:
    """Image -> quarter turns counter-clockwise, for images that need any."""
    found = {}
    for number, row in read_table(path):
        degrees = row.get("Rotation", "0")
        if degrees in ("", "0.0", "0"):
            continue
        if degrees not in ("90.0", "180.0", "270.0") or "ImageID" not in row:
            raise DataError(
                f"{path}: row {number}: Rotation must be 0.0, 90.0, 180.0 or 270.0, next to ImageID"
            )
        found[row["ImageID"]] = round(float(degrees)) // 90
    return found
