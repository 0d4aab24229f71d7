"""GrandStaff: images of piano systems with **kern transcriptions, and one list of files per split.

Ríos-Vila et al., 2023; layout as distributed (<piece>/<segment>.{jpg,krn}).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from evalkit.data.faults import Faults
from evalkit.data.readers import read_text
from evalkit.data.records import Record, Unique, path_of
from evalkit.data.sources import image_ref
from evalkit.errors import DataError
from evalkit.types import Format, Sample, Source


@dataclass(frozen=True)
class Kern(Format):
    """One sample per line of `<lists>/<split>.txt`, id = the path without suffix, target = (its text,).

    `suffix` is the transcription's: .krn (**kern) or .bekrn (SMT's basic extended form). `image` is
    the image's: ".jpg" as engraved, "_distorted.jpg" as if photographed.
    """

    suffix: str = ".krn"
    image: str = ".jpg"

    fields: ClassVar[tuple[str, ...]] = ()
    keys: ClassVar[tuple[str, ...]] = ("lists", "images")
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        lists, images = path_of(source, "lists", self.keys), path_of(source, "images", self.keys)
        path = lists / f"{split}.txt"
        names = read_text(path, "a split is a list of files").split("\n")
        unique = Unique(str(path), "file")
        faults = Faults(each_file=True)

        def of(entry: tuple[int, str]) -> Iterator[Sample]:
            number, line = entry
            record = Record({"file": line.strip()}, str(path), f"line {number}")
            stem = record.name("file")
            for end in (self.suffix, ".krn", ".bekrn", ".jpg", ".png"):
                stem = stem.removesuffix(end)
            unique.add(stem, record)
            transcription = images / f"{stem}{self.suffix}"
            text = read_text(transcription).rstrip("\n")
            if not text:
                raise DataError(f"{transcription}: is empty; it must hold a transcription")
            yield Sample(stem, (image_ref(images, f"{stem}{self.image}"),), {}, (text,), cluster=stem)

        yield from faults.of_all(((n, line) for n, line in enumerate(names, 1) if line.strip()), of)
