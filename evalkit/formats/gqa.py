"""GQA's {split}_questions.json: questions by id, with the data for the official script's other figures.

Hudson and Manning, 2019; schema as distributed (questions1.2).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from evalkit.data.faults import Faults
from evalkit.data.hub import load, place, read
from evalkit.data.readers import read_json
from evalkit.data.records import Record, Unique, path_of
from evalkit.data.sources import image_ref
from evalkit.errors import DataError
from evalkit.types import Format, ImageRef, Sample, Source


@dataclass(frozen=True)
class Gqa(Format):
    """One sample per question, group = its structural type, image = imageId + ".jpg".

    Target: {"answers": (answer,), "id": question id, "balanced": bool, "words": how many in the question}
    and, where the annotations have them, "structural", "semantic", "detailed" (the question's types),
    "group" (its global group), "entailed" (ids of the questions whose answers follow), "steps" (how many
    in the program; those that the official script does not count are left out).

    A hub source has the questions in the config `name` and the images in the config `images`, whose `id`
    is the questions' imageId (lmms-lab/GQA); it gives the same samples as the file.
    """

    fields: ClassVar[tuple[str, ...]] = ("question",)
    keys: ClassVar[tuple[str, ...]] = ("path", "images")
    gives: ClassVar[tuple[str, ...]] = ("texts", "question")

    hub: ClassVar[bool] = True

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        if "hub" in source.entry:
            yield from _of_hub(source, split)
            return
        path, images = path_of(source, "path", self.keys), path_of(source, "images", self.keys)
        top, faults = Record(read_json(path), str(path)), Faults()

        def of(entry: tuple[str, Record]) -> Iterator[Sample]:
            name, record = entry
            number = Record({"id": name}, str(path), "top level").identifier("id")
            image = record.name("imageId") + ".jpg"
            yield _sample(number, record, image_ref(images, image), image)

        yield from faults.of_all(top.entries(faults), of)


def _of_hub(source: Source, split: str) -> Iterator[Sample]:
    """Samples from rows of questions, joined with the rows of their images."""
    where = place(source)
    if "images" not in source.entry:
        raise DataError(f"{where}: data.sources: no 'images'; it names the config that holds the images")
    pictures: dict[str, ImageRef] = {}
    faults, unique = Faults(), Unique(where, "id")
    rows = load(source, split, str(source.entry["images"]))
    for number, row, refs in read(rows, "image", source):
        faults.tried(
            partial(_keep, Record(row, where, f"{source.entry['images']} row {number}"), refs, pictures)
        )

    def of(entry: tuple[int, dict[str, Any], tuple[ImageRef, ...]]) -> Iterator[Sample]:
        number, row, _ = entry
        record = Record(row, where, f"row {number}")
        name, image = record.identifier("id"), record.name("imageId")
        unique.add(name, record)
        if image not in pictures:
            record.wrong("imageId", f"{image[:40]!r} is not an image of the config {source.entry['images']}")
        yield _sample(name, record, pictures[image], f"{image}.jpg")

    rows = load(source, split)
    yield from faults.of_all(read(rows, "", source, source.entry.get("rows")), of)


def _keep(record: Record, refs: tuple[ImageRef, ...], pictures: dict[str, ImageRef]) -> None:
    """Keeps the image of a row under its id."""
    if not refs:
        record.wrong("image", "is null; every row needs an image")
    pictures[record.identifier("id")] = refs[0]


def _sample(number: str, record: Record, image: ImageRef, cluster: str) -> Sample:
    target = _target(number, record)
    fields = {"question": record.text("question")}
    return Sample(number, (image,), fields, target, group=target.get("structural", ""), cluster=cluster)


def _target(number: str, record: Record) -> dict[str, Any]:
    target: dict[str, Any] = {
        "answers": (record.text("answer"),),
        "id": number,
        "balanced": record.data.get("isBalanced") is not False,
        "words": len(record.text("question").split()),
    }
    if record.data.get("types") is not None:
        types = record.record("types")
        for kind in ("structural", "semantic", "detailed"):
            if types.data.get(kind) is not None:
                target[kind] = types.text(kind)
    if record.data.get("groups") is not None:
        groups = record.record("groups")
        if groups.data.get("global") is not None:
            target["group"] = groups.text("global")
    if record.data.get("entailed") not in (None, ""):
        target["entailed"] = _listed(record, "entailed")
    if record.data.get("semantic") is not None:
        target["steps"] = sum(_is_step(each.data) for each in record.records("semantic"))
    return target


def _listed(record: Record, key: str) -> tuple[str, ...]:
    """A list of ids; copies on the hub may write it as a string."""
    value = record.data[key]
    if not isinstance(value, str):
        return record.texts(key)
    try:
        parsed = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        record.wrong(key, "spells no list; it must be like ['1', '2']")
    return Record({key: parsed}, record.file, record.place).texts(key)


def _is_step(operation: dict[str, Any]) -> bool:
    """Whether the operation counts, as in getStepsNum (MILVLG/openvqa gqa_eval.py @ f8f9966f)."""
    description = f"{operation.get('operation')}: {operation.get('argument')}"
    return not any(word in description for word in ("exist", "query: name", "choose name"))
