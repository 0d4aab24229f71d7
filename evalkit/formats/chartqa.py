"""ChartQA's {split}_human.json and {split}_augmented.json: a list of {imgname, query, label}.

The source says which of the two files is read, or both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from evalkit.data.readers import read_json
from evalkit.data.records import Record, path_of, paths_of
from evalkit.data.sources import image_ref
from evalkit.errors import DataError
from evalkit.types import Format, Sample, Source


@dataclass(frozen=True)
class ChartQa(Format):
    """One sample per record, id = its index in the list (the file has no ids), target = (label,).

    `path` may map groups to files; ids are then `group/index`. The files don't state their split, so
    `split` is not checked.
    """

    fields: ClassVar[tuple[str, ...]] = ("question",)
    keys: ClassVar[tuple[str, ...]] = ("path", "images")
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        images = path_of(source, "images", self.keys)
        for group, path in paths_of(source, "path", self.keys).items():
            data = read_json(path)
            if not isinstance(data, list):
                raise DataError(
                    f"{path}: top level: is not a list; it must be a list of {{imgname, query, label}}"
                )
            for index, entry in enumerate(data):
                record = Record(entry, str(path), f"[{index}]")
                name = record.name("imgname")
                fields = {"question": record.text("query")}
                target = (record.text("label"),)
                number = f"{group}/{index}" if group else str(index)
                yield Sample(number, (image_ref(images, name),), fields, target, group=group, cluster=name)
