"""Rows of Parquet and Arrow files as the hub and `datasets` lay them out: a folder's files by split, what is
known of their columns, and where each row's image is. Copies nothing, and knows no meaning of a row."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit import door
from evalkit.data import containers, folders
from evalkit.data.same_images import BLOCK
from evalkit.data.split_names import SPLITS, split_of
from evalkit.errors import DataError
from evalkit.types import ImageRef

MOST = 4 << 30  # bytes of Parquet files whose images are compared: unlike Arrow's they have to be read


@dataclass(frozen=True)
class Table:
    """The files of one split."""

    files: Sequence[str]
    columns: Sequence[str]
    features: Mapping[str, Any]  # as `datasets` states them; {} where it did not write the files

    @property
    def count(self) -> int:
        return sum(map(containers.row_count, self.files))

    def rows(self, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The rows, only these columns."""
        for path in self.files:
            yield from containers.rows(path, wanted)

    def images(self, column: str) -> Iterator[ImageRef]:
        """Where the image of each row is."""
        for path in self.files:
            for row in range(containers.row_count(path)):
                yield ImageRef(path, f"{row}/{column}")

    def names(self, *path: str) -> tuple[str, ...]:
        """The names of a ClassLabel, in a column or in one inside of it; () where there are none."""
        return class_names(self.features, path)


def of(files: Sequence[str]) -> Table:
    """The table of some files. Raises DataError for one that is none, or has other columns than the first."""
    columns, features = containers.columns(files[0])
    for path in files[1:]:
        others = containers.columns(path)[0]
        if set(others) != set(columns):
            raise DataError(
                f"{path}: has the columns {', '.join(others)}; {files[0]} has {', '.join(columns)}"
            )
    return Table(files, columns, features)


def by_split(files: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Configuration ('' where there is one alone) -> split -> its files, of names relative to a folder.

    A split is what the last word says (`data/train-00000-of-00002.parquet`,
    `train/data-00000-of-00001.arrow`); folders that say none are configurations, but for `data`.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for name in sorted(files):
        parts = os.path.dirname(name).split(os.sep)
        config = [part for part in parts if part not in ("", "data") and not split_of(part)]
        found.setdefault(os.sep.join(config), {}).setdefault(split_of(name), []).append(name)
    return found


def in_folder(folder: str, split: str) -> Table:
    """The table of a split in a folder. Raises DataError where there is none."""
    names = [folders.below(path, folder) for path in folders.files(folder)]
    configs = by_split([name for name in names if name.lower().endswith(containers.TABLES)])
    if not configs:
        raise DataError(f"{folder}: holds no .parquet or .arrow file")
    if len(configs) > 1:
        raise DataError(
            f"{folder}: holds {len(configs)} tables; name the folder of one: {', '.join(configs)}"
        )
    (splits,) = configs.values()
    wanted = SPLITS.get(split.lower(), split)
    wanted = "" if wanted == "all" and "" in splits else wanted
    if wanted not in splits:
        there = ", ".join(each or "(unnamed)" for each in splits)
        raise DataError(f"{folder}: has no split '{split}'; there are: {there}")
    return of([os.path.join(folder, name) for name in splits[wanted]])


def class_names(features: Mapping[str, Any], path: Sequence[str]) -> tuple[str, ...]:
    """The names of the ClassLabel at a path of columns, whatever lists it is inside of."""
    found: Any = features
    for name in path:
        found = _inside(found)
        found = found.get(name) if isinstance(found, Mapping) else None
    found = _inside(found)
    names = found.get("names") if isinstance(found, Mapping) and found.get("_type") == "ClassLabel" else None
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _inside(feature: Any) -> Any:
    """What a list is of."""
    while True:
        if isinstance(feature, list) and len(feature) == 1:
            feature = feature[0]
        elif isinstance(feature, Mapping) and feature.get("_type") in ("List", "LargeList", "Sequence"):
            feature = feature.get("feature")
        else:
            return feature


@dataclass(frozen=True)
class Cells:
    """The images in a column of tables, compared as files are."""

    table: Table
    column: str

    def sizes(self) -> Iterator[tuple[str, int]]:
        parquet = [path for path in self.table.files if not path.lower().endswith(".arrow")]
        if (size := sum(map(os.path.getsize, parquet))) > MOST:
            raise DataError(
                f"{parquet[0]}: its split has {size >> 30} GiB of Parquet files, which is not read for that"
            )
        for path in self.table.files:
            for row, size in containers.cell_sizes(path, self.column):
                yield f"{path}::{row}/{self.column}", size

    def missing(self) -> list[str]:
        return []

    def block(self, name: str) -> bytes:
        data = self._bytes(name)
        start = max(0, (len(data) - BLOCK) // 2)
        return data[start : start + BLOCK]

    def digest(self, name: str) -> bytes:
        return hashlib.sha256(self._bytes(name)).digest()

    def _bytes(self, name: str) -> bytes:
        path, _, member = name.rpartition("::")
        return containers.read(path, member, door.WHOLE)
