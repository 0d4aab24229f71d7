"""MaRVL's marvl-<language>.jsonl: NLVR2-like statements in five languages about two photos.

Liu et al., 2021; layout of the files as in marvl-challenge/marvl-code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from evalkit.data.faults import Faults
from evalkit.data.readers import line_records
from evalkit.data.records import Record, Unique, path_of, paths_of
from evalkit.data.sources import image_ref
from evalkit.types import Format, Sample, Source


@dataclass(frozen=True)
class Marvl(Format):
    """One sample per statement, target = ("True",) or ("False",), group = language, left image first.

    The source's `path` maps languages to files. The path of an image is
    `<images>/<language>/images/<concept>/<left_img>`, unless `layout` says otherwise.
    """

    layout: str = "{language}/images/{concept}/{image}"

    fields: ClassVar[tuple[str, ...]] = ("sentence", "language")
    keys: ClassVar[tuple[str, ...]] = ("path", "images")
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        images, faults = path_of(source, "images", self.keys), Faults()
        for group, path in paths_of(source, "path", self.keys).items():
            unique = Unique(str(path), "id")
            yield from faults.each(line_records(path, faults), partial(self._of, images, group, unique))
        faults.done()

    def _of(self, images: Path, group: str, unique: Unique, line: tuple[int, Record]) -> Iterator[Sample]:
        """The sample of a line."""
        number, record = line
        language = group or record.text("language")
        name = record.identifier("id") if record.has("id") else str(number)
        unique.add(name, record)
        label = record.get("label", "it must be true or false")
        if type(label) is not bool:
            record.wrong("label", "must be true or false")
        places = [self._place(record, language, side) for side in ("left_img", "right_img")]
        yield Sample(
            id=f"{language}/{name}",
            images=tuple(image_ref(images, place) for place in places),
            fields={"sentence": record.text("caption"), "language": language},
            target=(str(label),),
            group=language,
            cluster=" ".join(places),
        )

    def _place(self, record: Record, language: str, side: str) -> str:
        place = self.layout.replace("{language}", language).replace("{image}", record.name(side))
        return place.replace("{concept}", record.name("concept")) if "{concept}" in place else place
