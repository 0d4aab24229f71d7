"""Any Hugging Face dataset through `datasets`, its columns named in the task's YAML. Knows no dataset.

A folder laid out like a hub repository (Parquet, JSON lines, imagefolder, webdataset) is the same.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from evalkit import members
from evalkit.errors import DataError, nearest
from evalkit.flat import FlatRecords
from evalkit.records import Record, Unique, path_of
from evalkit.sources import spool
from evalkit.types import ImageRef, Sample, Size, Source


@dataclass(frozen=True)
class Hub(FlatRecords):
    """One sample a row (see FlatRecords for which column is what; `image` may be a list of images).

    A source is {hub: org/name, revision: 40 hex digits, name: config, split: its split} or
    {folder: path, ...}; `split` left out is the task's. It is read from a folder `org/name` below a
    data root, or from the Hugging Face cache. With `stream: true` the first `rows` rows come over
    the network instead, their images kept in evalkit's cache. A column inside another (webdataset's
    json) is named with a dot: `json.question`.
    """

    keys: ClassVar[tuple[str, ...]] = ("folder",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        folder = str(path_of(source, "folder", self.keys)) if source.entry.get("folder") else ""
        where = folder or f"hub:{source.entry['hub']}"
        rows = _load(folder, source, split, where)
        unique = Unique(where, self.id or "id")
        columns = list(rows.features) if rows.features else []
        if columns and self.image and self.image.split(".")[0] not in columns:
            raise DataError(f"{where}: no column '{self.image}'{nearest(self.image, columns)}")
        for number, row, refs in _rows(rows, self.image, bool(folder), source.entry.get("rows")):
            record = Record(_flattened(row), where, f"row {number}")

            def pictures(
                record: Record, refs: tuple[ImageRef, ...] = refs, number: int = number
            ) -> tuple[tuple[ImageRef, ...], str, Size | None]:
                if not refs:
                    record.wrong(self.image, "is null or empty; every row needs an image")
                size = None
                if self.bbox:
                    from evalkit.images import header_size

                    size = record.size(self.height, self.width) if record.has(self.height) else None
                    size = size or header_size(refs[0])
                return refs, f"row {number}", size

            if not self.wanted(record, split):
                continue
            for sample in self.read(record, number, pictures):
                unique.add(sample.id)
                yield sample


def _load(folder: str, source: Source, split: str, where: str) -> Any:
    """The rows of the split. Raises DataError in one sentence for whatever `datasets` cannot load."""
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    import datasets

    entry = source.entry
    wanted = str(entry.get("split", split))
    if "[" in wanted:
        raise DataError(f"{where}: split: '{wanted}' cuts the split; name it whole and use --limit")
    more = {} if folder else {"revision": entry["revision"], "streaming": True}
    try:
        return datasets.load_dataset(folder or entry["hub"], entry.get("name"), split=wanted, **more)
    except Exception as error:  # its loaders fail in dozens of ways
        problem = " ".join(str(error).split())[:300]
        raise DataError(f"{where}: cannot be loaded ({type(error).__name__}: {problem})") from None


def _rows(
    rows: Any, image: str, on_disk: bool, limit: Any
) -> Iterator[tuple[int, dict[str, Any], tuple[ImageRef, ...]]]:
    """(number, the row without pixels, where its images lie)."""
    import datasets

    kinds = rows.features or {}
    pictures = [name for name, kind in kinds.items() if isinstance(kind, datasets.Image)]
    if not on_disk:
        for name in pictures:
            rows = rows.cast_column(name, datasets.Image(decode=False))
        for number, row in enumerate(itertools.islice(rows, limit)):
            refs = tuple(ImageRef(str(spool(cell))) for cell in _cells(row.pop(image, None)))
            yield number, row, refs
        return
    if len(rows) == 0:
        return
    places = ((p["filename"], i) for p in rows.cache_files for i in range(members.row_count(p["filename"])))
    counts = _counts(rows, image)
    plain = rows.remove_columns([n for n in kinds if n == image or n in pictures])
    for number, (row, (path, place), count) in enumerate(
        zip(_dicts(plain, len(rows)), places, counts, strict=True)
    ):
        if count is None:
            yield number, row, (ImageRef(path, f"{place}/{image}"),)
        else:
            yield number, row, tuple(ImageRef(path, f"{place}.{i}/{image}") for i in range(count))


def _dicts(rows: Any, count: int) -> Iterator[dict[str, Any]]:
    """Rows as dicts, also where no column is left."""
    return iter(rows) if rows.column_names else ({} for _ in range(count))


def _counts(rows: Any, image: str) -> Iterator[int | None]:
    """How many images each row's cell holds: None for one by itself, 0 for none. No bytes are read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for chunk in rows.data.column(image).chunks:
        if pa.types.is_list(chunk.type) or pa.types.is_large_list(chunk.type):
            yield from (length or 0 for length in pc.list_value_length(chunk).to_pylist())
        else:
            yield from (None if there else 0 for there in pc.is_valid(chunk).to_pylist())


def _cells(value: Any) -> Iterator[bytes]:
    for cell in value if isinstance(value, list) else [value]:
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if isinstance(data, bytes):
            yield data


def _flattened(row: dict[str, Any]) -> dict[str, Any]:
    """Columns inside others as `outer.inner`; the outer ones stay as they are."""
    inner = {f"{k}.{i}": v for k, value in row.items() if isinstance(value, dict) for i, v in value.items()}
    return {**row, **inner}
