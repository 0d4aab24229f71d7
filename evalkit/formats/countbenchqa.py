"""CountBenchQA: big_vision's countbench_paired_questions.json with CountBench's Parquet table, or its copy
on the hub.

Questions: Beyer et al., 2024 (arXiv:2407.07726); images: Paiss et al., 2023.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from evalkit import door
from evalkit.data.faults import Faults
from evalkit.data.hub import load, place, read
from evalkit.data.readers import read_json
from evalkit.data.records import Record, path_of
from evalkit.errors import DataError
from evalkit.types import Format, ImageRef, Sample, Source


@dataclass(frozen=True)
class CountBenchQa(Format):
    """One sample per row that has an image, id = the row's index, target = the count as digits.

    Questions and rows belong together by position. Rows without an image are left out; in the
    published table 491 of 540 have one. `grey`: whether images with one channel are kept. The reference's
    builder (google-research/big_vision datasets/countbenchqa @ 0127fb6b) drops them, one of the 491;
    it doesn't say which one, so the header of every image is read (no pixel is decoded).

    A hub source has question, number and image in one table (vikhyatk/CountBenchQA).
    """

    grey: bool = True

    fields: ClassVar[tuple[str, ...]] = ("question",)
    keys: ClassVar[tuple[str, ...]] = ("questions", "table")
    gives: ClassVar[tuple[str, ...]] = ("texts",)
    hub: ClassVar[bool] = True

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        from evalkit.images.prepare import header_channels

        faults = Faults()
        of_hub = "hub" in source.entry
        rows = _of_hub(source, split, faults) if of_hub else _of_files(source, self.keys, faults)

        def of(entry: Row) -> Iterator[Sample]:
            row, record, number, ref = entry
            if self.grey or header_channels(ref) > 1:
                fields = {"question": record.text("question")}
                yield Sample(str(row), (ref,), fields, (str(number),), cluster=f"row {row}")

        yield from faults.of_all(rows, of)


Row = tuple[int, Record, int, ImageRef]  # index, record with the question, count, image


def _of_hub(source: Source, split: str, faults: Faults) -> Iterator[Row]:
    where = place(source)
    rows = load(source, split)
    for row, content, refs in read(rows, "image", source, source.entry.get("rows")):
        record = Record(content, where, f"row {row}")
        number = faults.made(partial(record.integer, "number")) if refs else None
        if number is not None:
            yield row, record, number, refs[0]


def _of_files(source: Source, keys: tuple[str, ...], faults: Faults) -> Iterator[Row]:
    path, table = path_of(source, "questions", keys), path_of(source, "table", keys)
    questions = read_json(path)
    if not isinstance(questions, list):
        raise DataError(f"{path}: top level: is not a list; it must be a list of {{question}}")
    numbers = _numbers(table)
    if len(numbers) != len(questions):
        raise DataError(
            f"{path}: holds {len(questions)} questions, {table} {len(numbers)} rows; they belong together"
        )
    for row, (entry, number) in enumerate(zip(questions, numbers, strict=True)):
        record = faults.made(partial(Record, entry, str(path), f"[{row}]"))
        if number is not None and record is not None:
            yield row, record, number, ImageRef(str(table), f"{row}/image")


def _numbers(path: Path) -> list[Any]:
    """Each row's count; None where the row has no image."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        door.check(path)
        table = pq.read_table(path, columns=["number", "image"])
        counts, images = table.column("number").to_pylist(), table.column("image")
        if not all(type(count) is int for count in counts):
            raise DataError(f"{path}: column number: holds something else than whole numbers")
        return [count if image.is_valid else None for count, image in zip(counts, images, strict=True)]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (pa.ArrowInvalid, KeyError) as error:
        why = str(error).split("\n")[0]
        raise DataError(f"{path}: is no Parquet table with columns number and image ({why})") from None
