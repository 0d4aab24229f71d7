"""Any Hugging Face dataset, read with `datasets`; the task's YAML names its columns.

A folder laid out like a hub repository (Parquet, JSON lines, imagefolder, webdataset) works too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from evalkit.data.faults import Faults
from evalkit.data.flat_records import FlatRecords
from evalkit.data.hub import load, place, read
from evalkit.data.records import Record, Unique
from evalkit.errors import DataError, nearest
from evalkit.types import ImageRef, Sample, Size, Source


@dataclass(frozen=True)
class Hub(FlatRecords):
    """One sample per row (FlatRecords says which column is what; `image` may be a list of images).

    A source is {hub: org/name, revision: 40 hex digits, name: config, split: its split} or
    {folder: path, ...}; without `split` it is the task's. It is read from a folder `org/name` below a
    data root, or from the Hugging Face cache. With `stream: true` the first `rows` rows are read from
    the network instead, and their images are kept in evalkit's cache. A column inside another
    (webdataset's json) is named with a dot: `json.question`.
    """

    keys: ClassVar[tuple[str, ...]] = ("folder",)
    hub: ClassVar[bool] = True

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        rows, where = load(source, split), place(source)
        unique = Unique(where, self.id or "id")
        columns = list(rows.features) if rows.features else []
        if columns and self.image and self.image.split(".")[0] not in columns:
            raise DataError(f"{where}: no column '{self.image}'{nearest(self.image, columns)}")
        faults = Faults()

        def of(entry: tuple[int, dict[str, Any], tuple[ImageRef, ...]]) -> Iterator[Sample]:
            number, row, refs = entry
            record = Record(_flattened(row), where, f"row {number}")

            def pictures(record: Record) -> tuple[tuple[ImageRef, ...], str, Size | None]:
                if not refs:
                    record.wrong(self.image, "is null or empty; every row needs an image")
                size = None
                if self.bbox:
                    from evalkit.images.prepare import header_size

                    size = record.size(self.height, self.width) if record.has(self.height) else None
                    size = size or header_size(refs[0], exif="apply")  # as `datasets` shows images
                return refs, f"row {number}", size

            if not self.wanted(record, split):
                return
            for sample in self.read(record, number, pictures):
                unique.add(sample.id, record)
                yield sample

        yield from faults.of_all(read(rows, self.image, source, source.entry.get("rows")), of)


def _flattened(row: dict[str, Any]) -> dict[str, Any]:
    """Columns inside others as `outer.inner`; the outer ones stay as they are."""
    inner = {f"{k}.{i}": v for k, value in row.items() if isinstance(value, dict) for i, v in value.items()}
    return {**row, **inner}
