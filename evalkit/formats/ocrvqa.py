"""OCR-VQA's dataset.json: several templated questions about each book cover.

Mishra et al., 2019; schema as distributed by ocr-vqa.github.io.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from evalkit.data.faults import Faults
from evalkit.data.readers import read_json
from evalkit.data.records import Record, check_split, path_of
from evalkit.data.sources import image_ref
from evalkit.types import Format, Sample, Source

SPLITS = {1: "train", 2: "val", 3: "test"}
SUFFIXES = (".jpg", ".png", ".gif", ".jpeg")


@dataclass(frozen=True)
class OcrVqa(Format):
    """One sample per question, id = `<book>-<index>`, target = (answer,).

    The cover is `<images>/<book>` with the suffix of its URL, or with any other suffix that exists. Books
    without a cover are kept: missing images are reported when the run begins.
    """

    fields: ClassVar[tuple[str, ...]] = ("question", "title", "author", "genre")
    keys: ClassVar[tuple[str, ...]] = ("path", "images")
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path, images = path_of(source, "path", self.keys), path_of(source, "images", self.keys)
        top = Record(read_json(path), str(path))
        check_split(str(path), split, set(SPLITS.values()))
        faults = Faults()
        yield from faults.of_all(top.entries(faults), partial(self._of, images, split))

    def _of(self, images: Path, split: str, entry: tuple[str, Record]) -> Iterator[Sample]:
        """The samples of a book, one a question."""
        book, record = entry
        number = record.integer("split")
        if number not in SPLITS:
            record.wrong("split", f"is {number}; it must be 1 (train), 2 (val) or 3 (test)")
        if SPLITS[number] != split:
            return
        name = _cover(record, images, book)
        questions, answers = record.texts("questions"), record.texts("answers")
        if len(questions) != len(answers):
            record.wrong("answers", f"holds {len(answers)}, questions {len(questions)}; one for each")
        extra = {"title": "title", "author": "authorName", "genre": "genre"}
        about = {key: record.text(name) if record.has(name) else "" for key, name in extra.items()}
        for place, (question, answer) in enumerate(zip(questions, answers, strict=True)):
            fields = {"question": question, **about}
            ref = image_ref(images, name)
            yield Sample(f"{book}-{place}", (ref,), fields, (answer,), cluster=name)


def _cover(record: Record, images: Path, book: str) -> str:
    """The file name of a book's cover."""
    url = record.text("imageURL") if record.has("imageURL") else ""
    try:
        stated = os.path.splitext(urlsplit(url).path)[1].lower()
    except ValueError:
        stated = ""
    first = stated if stated in SUFFIXES else ".jpg"
    there = (s for s in (first, *SUFFIXES) if os.path.isdir(images) and os.path.isfile(images / f"{book}{s}"))
    named = Record({"book": f"{book}{next(there, first)}"}, record.file, record.place)
    return named.name("book")
