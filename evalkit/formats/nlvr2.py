"""NLVR2's {train,dev,test1}.json: JSON lines of a statement about a left and a right photo.

Suhr et al., 2019; schema as in the repository lil-lab/nlvr.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from evalkit.data.faults import Faults
from evalkit.data.readers import line_records
from evalkit.data.records import Record, Unique, check_split, path_of
from evalkit.data.sources import image_ref
from evalkit.types import Format, Sample, Source

_IDENTIFIER = re.compile(r"([a-z0-9]+)-\d+-\d+-\d+")


@dataclass(frozen=True)
class Nlvr2(Format):
    """One sample per sentence, id = identifier, target = its label and pair.

    Target: {"answers": ("True",) or ("False",), "pair": the identifier without its third number}, or ()
    where the label is hidden. The samples of a pair have the same sentence about different photos. All
    photos of one set are a cluster.

    Two images, left then right: the identifier without its last number, and -img0.png, -img1.png
    (below `directory`, where a line states one). Identifiers begin with their split.
    """

    fields: ClassVar[tuple[str, ...]] = ("sentence",)
    keys: ClassVar[tuple[str, ...]] = ("path", "images")
    gives: ClassVar[tuple[str, ...]] = ("texts", "pair")

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path, images = path_of(source, "path", self.keys), path_of(source, "images", self.keys)
        unique, present, chosen = Unique(str(path), "identifier"), set[str](), list[Record]()
        faults = Faults()

        def keep(record: Record) -> None:
            name = record.text("identifier")
            spelled = _IDENTIFIER.fullmatch(name)
            if not spelled:
                record.wrong("identifier", f"is {name[:60]!r}; it must be split-set-pair-sentence")
            unique.add(name, record)
            present.add(spelled.group(1))
            if spelled.group(1) == split:
                chosen.append(record)

        def of(record: Record) -> Iterator[Sample]:
            name = record.data["identifier"]
            pair = name.rpartition("-")[0]
            folder = f"{record.identifier('directory')}/" if record.has("directory") else ""
            refs = tuple(image_ref(images, f"{folder}{pair}-img{side}.png") for side in (0, 1))
            target: Any = ()
            if record.has("label"):
                label = record.text("label")
                if label not in ("True", "False"):
                    record.wrong("label", f"is {label[:40]!r}; it must be 'True' or 'False'")
                prefix, group, _, sentence = name.split("-")
                target = {"answers": (label,), "pair": f"{prefix}-{group}-{sentence}"}
            fields = {"sentence": record.text("sentence")}
            yield Sample(name, refs, fields, target, cluster=pair.rpartition("-")[0])

        for _, record in line_records(path, faults):
            faults.tried(partial(keep, record))
        if present or not faults.said():
            check_split(str(path), split, present)
        yield from faults.of_all(chosen, of)
