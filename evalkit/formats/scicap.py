"""SciCap: figures of arXiv papers, one caption file per figure and one list of figures per split.

Hsu et al., 2021; layout as in the repository tingyaohsu/SciCap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from evalkit.data.faults import Faults
from evalkit.data.readers import read_json
from evalkit.data.records import Record, Unique, path_of
from evalkit.data.sources import image_ref
from evalkit.errors import DataError
from evalkit.types import Format, Sample, Source


@dataclass(frozen=True)
class SciCap(Format):
    """One sample per figure of `<lists>/<split>/file_idx.json`, target = its one caption.

    `version` says which caption: the key in `<captions>/<split>/<figure>.json` whose `caption` is read.
    """

    version: str = "1-lowercase-and-token-and-remove-figure-index"

    fields: ClassVar[tuple[str, ...]] = ()
    keys: ClassVar[tuple[str, ...]] = ("lists", "captions", "images")
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        lists, captions = path_of(source, "lists", self.keys), path_of(source, "captions", self.keys)
        images = path_of(source, "images", self.keys)
        path = lists / split / "file_idx.json"
        names = read_json(path)
        if not isinstance(names, list):
            raise DataError(f"{path}: top level: is not a list; it must list the figures' file names")
        listed = Record({"files": names}, str(path))
        unique, faults = Unique(str(path), "figure"), Faults(each_file=True)

        def of(place: int) -> Iterator[Sample]:
            inner = Record({f"[{place}]": names[place]}, str(path))
            name = inner.name(f"[{place}]")
            unique.add(name, Record({}, str(path), f"[{place}]"))
            stem = name.removesuffix(".png")
            file = captions / split / f"{stem}.json"
            caption = Record(read_json(file), str(file)).record(self.version).text("caption")
            ref = image_ref(images, f"{split}/{name}")
            yield Sample(stem, (ref,), {}, (caption,), cluster=name)

        yield from faults.of_all(range(len(listed.data["files"])), of)
