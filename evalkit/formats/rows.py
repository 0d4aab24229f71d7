"""Parquet and Arrow files as the hub and `save_to_disk` lay them out, used where they lie; the task's YAML
names their columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from evalkit.data import rows
from evalkit.data.faults import Faults
from evalkit.data.flat_records import FlatRecords
from evalkit.types import Sample, Source


@dataclass(frozen=True)
class Rows(FlatRecords):
    """One sample per row (FlatRecords says which column is what), id = its number from 0.

    `path` of the source is a folder with the files, whose names say their split. `hub` reads these too, and
    what else `datasets` reads, but copies it into the cache of `datasets` first.
    """

    keys: ClassVar[tuple[str, ...]] = ("path",)
    hub: ClassVar[bool] = True

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        faults = Faults()

        def of(row: rows.Row) -> Iterator[Sample]:
            shown = ((row.image,), row.called, None)
            if self.wanted(row.record, split):
                yield from self.read(row.record, row.number, lambda _: shown)

        yield from faults.of_all(rows.read(source, split, self.image, faults).every, of)
