"""Rows with an image each, wherever they lie: a folder of Parquet or Arrow files, an imagefolder's metadata,
or a dataset of the hub. Does not know what the other columns mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from evalkit.data import hub, tables
from evalkit.data.elements import Elements
from evalkit.data.faults import Faults
from evalkit.data.readers import line_records, read_table
from evalkit.data.records import Record, listed
from evalkit.data.sources import image_ref
from evalkit.data.streamed import read_lists
from evalkit.errors import DataError, nearest
from evalkit.types import ImageRef, Source


class Row(NamedTuple):
    """A row without its image's bytes; `called` names the image."""

    number: int
    record: Record
    image: ImageRef
    called: str


@dataclass(frozen=True)
class Rows:
    """The rows of a split."""

    every: Iterator[Row]
    features: Mapping[str, Any] = field(default_factory=dict)  # as `datasets` states them

    def names(self, *path: str) -> tuple[str, ...]:
        """The names of the ClassLabel at a path of columns; () where there are none."""
        return tables.class_names(self.features, path)


def read(source: Source, split: str, image: str, faults: Faults) -> Rows:
    """The rows of a source: of what its `path` names, else of its dataset of the hub. `image` is the column
    of images. Rows that are wrong are left to `faults`. Raises DataError."""
    if "path" not in source.entry:
        return _of_hub(source, split, image, faults)
    path = source.path("path")
    if not path.is_dir():
        images = source.path("images") if "images" in source.entry else path.parent
        return Rows(_of_file(path, images, image, faults))
    table = tables.in_folder(str(path), split)
    if image not in table.columns:
        raise DataError(f"{path}: no column '{image}'{nearest(image, table.columns)}")
    return Rows(_of_table(table, image), table.features)


def _of_table(table: tables.Table, image: str) -> Iterator[Row]:
    others = [name for name in table.columns if name != image]
    for number, (row, ref) in enumerate(zip(table.rows(others), table.images(image), strict=True)):
        yield Row(number, Record(row, ref.path, f"row {number}"), ref, f"row {number}")


def _of_file(path: Path, images: Path, image: str, faults: Faults) -> Iterator[Row]:
    for number, record in enumerate(records(path, faults)):
        if (name := faults.made(partial(record.name, image))) is not None:
            yield Row(number, record, image_ref(images, name), name)


def records(path: Path, faults: Faults) -> Iterator[Record]:
    """The records of CSV, TSV, JSON lines or a JSON list. What is none is left to `faults`."""
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        for number, row in read_table(path, faults=faults):
            yield Record(row, str(path), f"row {number}")
    elif suffix == ".json":
        data = read_lists(path)
        yield from listed(data if isinstance(data, Elements) else [data], str(path), "records", faults)
    else:
        yield from (record for _, record in line_records(path, faults))


def _of_hub(source: Source, split: str, image: str, faults: Faults) -> Rows:
    loaded, where = hub.load(source, split), hub.place(source)
    columns = list(loaded.features) if loaded.features else []
    if columns and image not in columns:
        raise DataError(f"{where}: no column '{image}'{nearest(image, columns)}")

    def every() -> Iterator[Row]:
        for number, row, refs in hub.read(loaded, image, source, source.entry.get("rows")):
            record = Record(row, where, f"row {number}")
            if len(refs) == 1:
                yield Row(number, record, refs[0], f"row {number}")
            else:
                said = f"holds {len(refs)} images; it must hold one"
                faults.tried(partial(record.wrong, image, said))

    return Rows(every(), loaded.features.to_dict() if loaded.features else {})
