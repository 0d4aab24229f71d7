"""Rows of Hugging Face datasets, read by `datasets` from a folder in the hub's layout, or streamed.

Does not know what a row means.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

from evalkit import door
from evalkit.data import containers
from evalkit.data.records import check_split
from evalkit.errors import DataError
from evalkit.files import spool
from evalkit.types import ImageRef, Source


def place(source: Source) -> str:
    """The source's name in messages: the folder, or hub:org/name."""
    return str(source.path("folder")) if source.entry.get("folder") else f"hub:{source.entry['hub']}"


def load(source: Source, split: str, name: str = "") -> Any:
    """The rows of the split, of the configuration `name` (default: the entry's).

    Raises DataError for whatever `datasets` cannot load.
    """
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    import datasets

    entry, where = source.entry, place(source)
    folder = where if entry.get("folder") else ""
    wanted = str(entry.get("split", split))
    if "[" in wanted:
        raise DataError(f"{where}: split: '{wanted}' is a part of a split; name the split and use --limit")
    config = name or entry.get("name")
    if folder and any(os.path.exists(os.path.join(folder, known)) for known in _SAVED):
        return _saved(datasets, folder, wanted)
    try:
        if not folder:
            more = {"revision": entry["revision"], "streaming": True}
            return datasets.load_dataset(entry["hub"], config, split=wanted, **more)
        builder = datasets.load_dataset_builder(folder, config)
        for files in (builder.config.data_files or {}).values():
            for file in files:  # which the folder's card may name
                door.check(file)
        builder.download_and_prepare()
        return builder.as_dataset(split=wanted)
    except Exception as error:  # its loaders raise dozens of kinds
        problem = " ".join(str(error).split())[:300]
        raise DataError(f"{where}: cannot be loaded ({type(error).__name__}: {problem})") from None


_SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` writes


def _saved(datasets: Any, folder: str, split: str) -> Any:
    """What `save_to_disk` wrote; its Arrow files are used where they are."""
    with door.guarded(folder):
        found = datasets.load_from_disk(folder)
        if isinstance(found, datasets.DatasetDict):
            check_split(folder, split, set(found))
            found = found[split]
        for file in found.cache_files:
            door.check(file["filename"])
        return found


def read(
    rows: Any, image: str, source: Source, limit: int | None = None
) -> Iterator[tuple[int, dict[str, Any], tuple[ImageRef, ...]]]:
    """(number, the row without pixels, references to the images in the column `image`) of every row; `image`
    is "" if there is no such column.

    `limit`: at most so many rows of a stream.
    """
    import datasets

    kinds = rows.features or {}
    pictures = [name for name, kind in kinds.items() if isinstance(kind, datasets.Image)]
    if not source.entry.get("folder"):
        for name in pictures:
            rows = rows.cast_column(name, datasets.Image(decode=False))
        for number, row in enumerate(itertools.islice(rows, limit)):
            files = [spool(cell) for cell in _cells(row.pop(image, None))]
            refs = tuple(ImageRef(str(file), within=door.places([file])) for file in files)
            yield number, row, refs
        return
    if len(rows) == 0:
        return
    if not image:
        yield from ((number, row, ()) for number, row in enumerate(_dicts(rows, len(rows))))
        return
    tables = [
        (p["filename"], door.also(p["filename"], source.root, source.path("folder")))
        for p in rows.cache_files
    ]
    places = ((path, near, i) for path, near in tables for i in range(containers.row_count(path)))
    counts = _counts(rows, image)
    plain = rows.remove_columns([n for n in kinds if n == image or n in pictures])
    for number, (row, (path, near, place), count) in enumerate(
        zip(_dicts(plain, len(rows)), places, counts, strict=True)
    ):
        if count is None:
            yield number, row, (ImageRef(path, f"{place}/{image}", within=near),)
        else:
            yield (
                number,
                row,
                tuple(ImageRef(path, f"{place}.{i}/{image}", within=near) for i in range(count)),
            )


def _dicts(rows: Any, count: int) -> Iterator[dict[str, Any]]:
    """Rows as dicts, even if no column is left."""
    return iter(rows) if rows.column_names else ({} for _ in range(count))


def _counts(rows: Any, image: str) -> Iterator[int | None]:
    """How many images each row's cell holds: None for a single one, 0 for none. Reads no image bytes."""
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
