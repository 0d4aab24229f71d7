"""MMVP's Questions.csv with its folder of numbered images: pairs that look alike to CLIP.

Tong et al., 2024; columns as on the dataset's card.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from evalkit.data.faults import Faults
from evalkit.data.readers import read_table
from evalkit.data.records import Record, Unique, path_of
from evalkit.data.sources import image_ref
from evalkit.types import Format, Sample, Source

_OPTION = re.compile(r"\(([a-z])\)\s*(.*?)\s*(?=\([a-z]\)|$)")


@dataclass(frozen=True)
class Mmvp(Format):
    """One sample per question, id = Index, target = the right option's text; rows 2k-1 and 2k are a pair.

    A pair is one cluster. Target: {"answers": (text,), "pair": "k"}.
    """

    suffix: str = ".jpg"  # image file = Index + suffix

    fields: ClassVar[tuple[str, ...]] = ("question", "options")
    keys: ClassVar[tuple[str, ...]] = ("path", "images")
    gives: ClassVar[tuple[str, ...]] = ("texts", "pair")

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path, images = path_of(source, "path", self.keys), path_of(source, "images", self.keys)
        unique, faults = Unique(str(path), "Index"), Faults()

        def of(entry: tuple[int, dict[str, str]]) -> Iterator[Sample]:
            number, row = entry
            if "lndex" in row:  # as the published table spells it
                row = {"Index": row["lndex"], **row}
            record = Record(row, str(path), f"row {number}")
            index = record.text("Index").strip()
            if not index.isdecimal() or not 0 < int(index) < 1 << 32:
                record.wrong("Index", f"is {index[:40]!r}; it must be a number from 1")
            unique.add(int(index), record)
            options = dict(_OPTION.findall(record.text("Options")))
            letter = record.text("Correct Answer").strip().strip("()").lower()
            if letter not in options:
                record.wrong("Correct Answer", f"is {letter[:40]!r}; the options are: {', '.join(options)}")
            pair = str((int(index) + 1) // 2)
            yield Sample(
                id=str(int(index)),
                images=(image_ref(images, f"{int(index)}{self.suffix}"),),
                fields={"question": record.text("Question"), "options": record.data["Options"]},
                target={"answers": (options[letter],), "pair": pair},
                cluster=f"pair {pair}",
            )

        yield from faults.of_all(read_table(path, faults=faults), of)
