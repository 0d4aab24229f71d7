"""Rows of Hugging Face datasets: Parquet and Arrow files as the hub and `save_to_disk` have them, and an
imagefolder's metadata with objects."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from evalkit.data import containers, tables
from evalkit.data import rows as data_rows
from evalkit.data.faults import Faults
from evalkit.data.readers import unusual_separator
from evalkit.data.records import Record
from evalkit.data.same_images import Pictures
from evalkit.data.sources import image_ref
from evalkit.errors import DataError, ImageError
from evalkit.formats.object_rows import ObjectRows
from evalkit.tasks.layouts import box_order, doubts, paligemma, place
from evalkit.tasks.layouts import tables as flat
from evalkit.tasks.layouts.place import Place
from evalkit.tasks.layouts.reading import Draft, Reading, object_tokens, task, text_tokens
from evalkit.types import ImageRef, Size

NAME = "Hugging Face rows"
OBJECTS = ("objects", "annotations", "annotation", "faces")
BOX = ("bbox", "bboxes", "boxes", "box")
CATEGORY = ("category", "categories", "category_id", "label", "labels", "class", "classes", "name")
SIZE = ("height", "width")
LOOKED = 50  # rows whose columns are looked at
OPENED = 200  # images whose headers are read where no column states their size


class Columns(NamedTuple):
    """Where a row's objects are; `objects` is '' where boxes are a column of their own."""

    image: str
    objects: str
    bbox: str
    category: str

    @property
    def top(self) -> list[str]:
        return [self.objects] if self.objects else [self.bbox, self.category]


@dataclass(frozen=True)
class _Where:
    """Where a split's rows are: `source` as a task names it, `file` as people are told, each split's file."""

    root: Path
    file: str
    source: Mapping[str, Any]
    split: str
    splits: Mapping[str, str]
    pictures: Callable[[str], Pictures]

    @property
    def called(self) -> str:
        return self.root.resolve().name if self.file == "." else self.file


def look(there: Place, asked: str | None, order: str = "") -> list[Reading]:
    """The readings of a folder's tables, one for each configuration, and of an imagefolder's metadata with
    objects; two where boxes may be of either order and `order` does not say which."""
    return [*_of_tables(there, asked, order), *_of_metadata(there, asked, order)]


# --- Parquet and Arrow files -----------------------------------------------------------------------


def _of_tables(there: Place, asked: str | None, order: str) -> Iterator[Reading]:
    files = [] if there.alone else list(there.named(*containers.TABLES))
    for config, splits in tables.by_split(files).items():
        split = place.preferred(splits, asked)
        found = {each: tables.of([str(there.root / f) for f in some]) for each, some in splits.items()}
        table = found[split]
        image = next((n for n in table.columns if table.features.get(n, {}).get("_type") == "Image"), "")
        image = image or next((name for name in flat.IMAGE if name in table.columns), "")
        if not image:
            continue

        def pictures(each: str, found: Any = found, image: str = image) -> Pictures:
            return tables.Cells(found[each], image)

        named = {each: some[0] for each, some in splits.items()}
        where = _Where(there.root, config or ".", {"path": config or "."}, split, named, pictures)
        yield from _of_table(where, table, image, order)


def _of_table(where: _Where, table: tables.Table, image: str, order: str) -> list[Reading]:
    others = [name for name in table.columns if name != image]
    for known in paligemma.KEYS:
        keys = (image, *known[1:])
        if known[2] in others and (not known[1] or known[1] in others):
            return [_of_lines(where, table, keys)]
    some = list(itertools.islice(table.rows(others), LOOKED))
    if columns := _columns(some, image):
        wanted = [*columns.top, *(name for name in SIZE if name in others)]
        every = (
            (Record(row, where.file, f"row {number}"), ref)
            for number, (row, ref) in enumerate(zip(table.rows(wanted), table.images(image), strict=True))
        )
        classes = table.names(*filter(None, (columns.objects, columns.category)))
        return _of_objects(where, columns, every, classes, order)
    return _of_texts(where, table, image, some)


def _of_lines(where: _Where, table: tables.Table, keys: paligemma.Keys) -> Reading:
    """PaliGemma's own prompts and answers."""
    rows = table.rows([key for key in keys[1:] if key])
    lines = {n: paligemma.line_of({**row, keys[0]: f"row {n}"}, keys) for n, row in enumerate(rows)}
    found = paligemma.of_lines(
        NAME, where.root, where.file, where.split, where.splits, dict(where.source), keys, lines
    )
    return dataclasses.replace(found, pictures=where.pictures, doubts=())


def _of_texts(where: _Where, table: tables.Table, image: str, some: list[dict[str, Any]]) -> list[Reading]:
    """Questions with answers, or captions."""
    found = flat.meant(some)
    if found is None:
        return []
    question, answer = found
    answers = [text for row in table.rows([answer]) for text in flat.texts(row[answer])]
    spelled = f"rows(image={image!r}, question={question!r}, answers={answer!r})"
    verb = "text" if question or answer not in flat.CAPTION else "caption"
    draft = Draft(verb, table.count, task(
        verb, about=f"The rows of {where.called}", spelled=spelled, split=where.split, source=where.source,
        prompt=flat.asked_by(question), tokens=text_tokens(answers),
        answers=answers,
    ))  # fmt: skip
    notes = flat.told(image, question, answer)
    return [
        Reading(
            NAME, where.root, where.file, where.split, where.splits, [draft], (), notes,
            pictures=where.pictures,
        )
    ]  # fmt: skip


# --- an imagefolder's metadata ---------------------------------------------------------------------


def _of_metadata(there: Place, asked: str | None, order: str) -> Iterator[Reading]:
    kinds = (".jsonl", ".jsonlines", ".json", ".csv", ".tsv")
    files = {name: found for name in there.named(*kinds) if (found := _metadata(there.root / name))}
    for splits in place.by_split(files, asked):
        split = place.preferred(splits, asked)
        name, columns = splits[split], files[splits[split]]

        def pictures(each: str, splits: Any = splits, image: str = columns.image) -> Pictures:
            read = data_rows.records(there.root / splits[each], Faults())
            return doubts.named(there, splits[each], [str(row.data[image]) for row in read if row.has(image)])

        faults = Faults()
        rows = data_rows.records((there.root / name).absolute(), Faults())
        first = next(str(row.data.get(columns.image)) for row in rows).replace("\\", "/")
        folder = there.folder_with(first, name)
        images = os.path.dirname(name) if folder is None else folder
        source = {"path": name, "images": images or "."}
        where = _Where(there.root, name, source, split, splits, pictures)
        every = (
            (row, image_ref(there.root / images, str(row.data.get(columns.image))))
            for row in data_rows.records((there.root / name).absolute(), faults)
        )
        for reading in _of_objects(where, columns, every, (), order):
            yield dataclasses.replace(reading, wrong=faults.said())


def _metadata(path: Path) -> Columns | None:
    """The columns of a file of records with objects, or None."""
    head = place.head(path)
    if not any(f'"{key}"'.encode() in head or key.encode() in head[:200] for key in BOX):
        return None
    try:
        read = data_rows.records(path, Faults(most=LOOKED))
        some = [row.data for row in itertools.islice(read, LOOKED)]
    except DataError:
        return None
    if not some:
        return None
    image = next((key for key in flat.IMAGE if isinstance(some[0].get(key), str)), "")
    return _columns(some, image) if image else None


# --- objects -----------------------------------------------------------------------------------------


def _columns(some: Iterable[Mapping[str, Any]], image: str) -> Columns | None:
    """Which column holds the objects, and how its parts are called; None where none does."""
    for row in some:
        for objects in OBJECTS:
            held = row.get(objects)
            if isinstance(held, str) and held.startswith(("{", "[")):
                try:
                    held = json.loads(held)
                except ValueError:
                    continue
            held = held[0] if isinstance(held, list) and held else held
            if isinstance(held, dict) and (named := _parts(held)):
                return Columns(image, objects, *named)
        if (named := _parts(row)) and all(isinstance(row[part], list) for part in named):
            return Columns(image, "", *named)
    return None


def _parts(held: Mapping[str, Any]) -> tuple[str, str] | None:
    box = next((key for key in BOX if key in held), "")
    category = next((key for key in CATEGORY if key in held), "")
    return (box, category) if box and category else None


def _of_objects(
    where: _Where, columns: Columns, every: Iterable[tuple[Record, ImageRef]], classes: tuple[str, ...],
    order: str,
) -> list[Reading]:  # fmt: skip
    reader = ObjectRows(columns.image, columns.objects, columns.bbox, columns.category)
    seen, labels, used, opened = [], [], dict[str, None](), 0
    for record, image in every:
        pairs = reader.pairs(record)
        size, opened = _size(record, image, opened) if pairs else (None, opened)
        areas = _areas(reader.held(record), len(pairs))
        mine = [_label(label, classes) for _, label in pairs]
        labels.append(mine)
        used.update(dict.fromkeys(mine))
        boxes = zip((box_order.as_box(box) for box, _ in pairs), areas, strict=True)
        seen += [box_order.Seen(record.place, box, size, area) for box, area in boxes if box is not None]
    told = box_order.orders(seen, str(where.root / where.file))
    told = [one for one in told if one[0] == order] or [(order, "")] if order else told
    readings = []
    for which, why in told:
        spelled = _spelled(columns, which)
        content = task(
            "detect", about=f"The objects of {where.called}", spelled=spelled, split=where.split,
            source=where.source, prompt="detect {categories}", tokens=object_tokens(labels),
        )  # fmt: skip
        notes = [f"boxes are {which}: {box_order.ORDERS[which]}" + (f"; told by {why}" if why else "")]
        notes += filter(None, [unusual_separator(where.root / where.file)])
        if not classes and any(name.startswith("class ") for name in used):
            notes.append("categories are numbers without names: write names=('cat', 'dog') into the format")
        reading = Reading(
            NAME, where.root, where.file, where.split, where.splits, [Draft("detect", len(labels), content)],
            classes or tuple(used), notes, pictures=where.pictures,
            pick=f"--box-order {which} ({box_order.ORDERS[which]})" if len(told) > 1 else "",
        )  # fmt: skip
        readings.append(reading)
    return readings


def _size(record: Record, image: ImageRef, opened: int) -> tuple[Size | None, int]:
    """An image's size, where columns state it or not too many headers have been read; and how many have."""
    from evalkit.images.prepare import header_size  # Pillow is imported where images are read

    height, width = (str(record.data.get(side)) for side in SIZE)  # of CSV they are texts
    if height.isdigit() and width.isdigit():
        return (int(height), int(width)), opened
    if opened >= OPENED:
        return None, opened
    try:
        return header_size(image, exif="apply"), opened + 1
    except ImageError:
        return None, opened + 1


def _areas(held: Any, n: int) -> list[float | None]:
    """The areas that a row's objects state, None for each that does not."""
    listed = held if isinstance(held, list) else ()
    given = held.get("area") if isinstance(held, dict) else [one.get("area") for one in listed]
    if not isinstance(given, list) or len(given) != n:
        return [None] * n
    return [float(area) if type(area) in (int, float) else None for area in given]


def _label(label: Any, classes: tuple[str, ...]) -> str:
    if isinstance(label, str):
        return label.strip()
    return classes[label] if type(label) is int and 0 <= label < len(classes) else f"class {label}"


def _spelled(columns: Columns, order: str) -> str:
    """The format with what is not as it assumes."""
    plain = ObjectRows()
    given = {**columns._asdict(), "order": order}
    other = [f"{key}={value!r}" for key, value in given.items() if getattr(plain, key) != value]
    return f"object_rows({', '.join(other)})" if other else "object_rows"
