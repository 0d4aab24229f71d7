"""ChartQA's {split}_human.json and {split}_augmented.json: a list of {imgname, query, label}.

The source says which of the two files is read, or both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from evalkit.data.faults import Faults
from evalkit.data.readers import read_json
from evalkit.data.records import Record, listed, path_of, paths_of
from evalkit.data.sources import image_ref
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
        faults = Faults()
        for group, path in paths_of(source, "path", self.keys).items():
            records = listed(read_json(path), str(path), "{imgname, query, label}", faults)
            yield from faults.each(records, partial(_samples, images, group))
        faults.done()


def _samples(images: Path, group: str, record: Record) -> Iterator[Sample]:
    name = record.name("imgname")
    fields = {"question": record.text("query")}
    target = (record.text("label"),)
    index = record.place.strip("[]")
    number = f"{group}/{index}" if group else index
    yield Sample(number, (image_ref(images, name),), fields, target, group=group, cluster=name)
