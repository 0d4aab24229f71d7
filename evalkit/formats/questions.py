"""Any file of flat records with one question each: a JSON list or object, JSON lines, or CSV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from evalkit.data.elements import Elements
from evalkit.data.faults import Faults
from evalkit.data.flat_records import FlatRecords
from evalkit.data.readers import line_records, read_table, read_text
from evalkit.data.records import Record, Unique, objects, path_of, paths_of
from evalkit.data.sources import frame_refs, image_ref, moved_to
from evalkit.data.streamed import read_lists
from evalkit.errors import DataError
from evalkit.types import ImageRef, Sample, Size, Source


@dataclass(frozen=True)
class Questions(FlatRecords):
    """One sample per record (FlatRecords says which key is what).

    records     the key, in the file's object, of the list (or the object of records by id);
                by default the file is itself the list (or the object of records by id)
    lines       the file is JSON lines, whatever its name; `.jsonl` and `.jsonlines` always are,
                `.csv` and `.tsv` are tables
    gather      records with the same id become one sample with all their answers
    frames, stride   the image is a video, of which so many frames are used, every `stride`-th

    A source's `path` may map groups to files ({de: a.json, en: b.json}): ids then begin with the
    group. Further keys of a source: `answers`, a file whose records have the same ids and hold the
    answers; `image_map`, a file of lines `<file name> <image>`, for images with other names than in
    the records; `instead`, {first folder of a name: folder to read those images from instead}.
    A file that states its split as `dataset_split` must state the requested one.
    """

    records: str = ""
    lines: bool = False
    gather: bool = False
    frames: int = 0
    stride: int = 1

    keys: ClassVar[tuple[str, ...]] = ("path", "images")
    elsewhere: ClassVar[bool] = True

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        images = path_of(source, "images", self.keys)
        renamed = _image_map(source.path("image_map")) if "image_map" in source.entry else {}
        instead = paths_of(source, "instead", self.keys) if "instead" in source.entry else {}
        files = paths_of(source, "path", self.keys)
        faults, moved = Faults(), dict[str, str]()
        answers = self._answers_file(source, faults) if "answers" in source.entry else None
        unique = Unique(str(next(iter(files.values()))), self.id or "id")

        def pictures(record: Record) -> tuple[tuple[ImageRef, ...], str, Size | None]:
            names = [renamed.get(name, name) for name in self.image_names(record)]
            if self.frames:
                refs = tuple(r for n in names for r in frame_refs(images, n, self.frames, self.stride))
            else:
                found = [moved_to(images, name, moved) for name in names]
                if problem := next((problem for _, problem in found if problem), ""):
                    record.wrong(self.image, problem)
                refs = tuple(image_ref(*_moved(images, name, instead)) for name, _ in found)
            size = record.size(self.height, self.width) if record.has(self.height) and self.bbox else None
            return refs, " ".join(names), size

        def of(group: str, entry: tuple[int | str, Record]) -> Iterator[Sample]:
            place, record = entry
            full = record if answers is None else _joined(record, self.id, answers)
            for sample in self.read(full, place, pictures) if self.wanted(full, split) else ():
                named = _of_group(sample, group) if group else sample
                if not self.gather:
                    unique.add(named.id, record)
                yield named

        for group, path in files.items():
            samples = faults.each(self._records(path, split, faults), partial(of, group))
            yield from _gathered(samples) if self.gather else samples
        faults.done()

    def _records(self, path: Path, split: str, faults: Faults) -> Iterator[tuple[int | str, Record]]:
        """(index from 0, or the record's id where the file is an object; record) in file order. What is no
        record is left to `faults`."""
        suffix = path.suffix.lower()
        if self.lines or suffix in (".jsonl", ".jsonlines"):
            yield from line_records(path, faults)
            return
        if suffix in (".csv", ".tsv"):
            for number, row in read_table(path, faults=faults):
                cells: dict[str, Any] = {**row}
                if row.get(self.answers) == "":
                    cells[self.answers] = None
                yield number - 2, Record(cells, str(path), f"row {number}")
            return
        data = read_lists(path)
        if self.records:
            top = Record(data, str(path))
            stated = top.data.get("dataset_split")
            if stated is not None and stated != split:
                top.wrong("dataset_split", f"is {str(stated)[:40]!r}; the split asked for is '{split}'")
            data = top.get(self.records, "it must hold the records")
        if isinstance(data, dict):
            for name, entry in data.items():
                if (found := faults.made(partial(_by_id, path, name, entry))) is not None:
                    yield found
            return
        if not isinstance(data, (list, Elements)):
            raise DataError(f"{path}: {self.records or 'top level'}: is not a list; it must hold the records")
        yield from objects(enumerate(data), f"{self.records}[{{}}]", str(path), faults)

    def _answers_file(self, source: Source, faults: Faults) -> dict[str, Record]:
        path = source.path("answers")
        found: dict[str, Record] = {}
        unique = Unique(str(path), self.id)

        def keep(record: Record) -> None:
            unique.add(record.identifier(self.id), record)
            found[record.identifier(self.id)] = record

        for _, record in self._records(path, "", faults):
            faults.tried(partial(keep, record))
        return found


def _by_id(path: Path, name: str, entry: Any) -> tuple[str, Record]:
    """An object's entry and its record."""
    here = Record({"id": name}, str(path), "top level").identifier("id")
    return here, Record(entry, str(path), here if here.isprintable() else repr(here))


def _moved(images: Path, name: str, instead: dict[str, Path]) -> tuple[Path, str]:
    """An image's folder, which `instead` may replace, and its name in that folder."""
    first, _, rest = name.partition("/")
    return (instead[first], rest) if rest and first in instead else (images, name)


def _gathered(samples: Iterator[Sample]) -> Iterator[Sample]:
    """Samples with the same id merged into one, in the order of their first record."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.id, []).append(sample)
    for first, *others in found.values():
        yield replace(first, target=sum((other.target for other in others), first.target))


def _joined(record: Record, key: str, answers: dict[str, Record]) -> Record:
    name = record.identifier(key)
    if name not in answers:
        record.wrong(key, f"'{name}' has no answer; the answers file must hold every question")
    return Record({**answers[name].data, **record.data}, record.file, record.place)


def _of_group(sample: Sample, group: str) -> Sample:
    fields: dict[str, Any] = {**sample.fields, "group": group}
    return replace(sample, id=f"{group}/{sample.id}", fields=fields, group=group)


def _image_map(path: Path) -> dict[str, str]:
    """Name of an image in the records -> its file, from lines `<file> <image>`."""
    given = enumerate(read_text(path).split("\n"), 1)
    found = {}
    for number, line in given:
        words = line.split()
        if words and len(words) != 2:
            raise DataError(f"{path}: line {number}: holds {len(words)} words; it must be <file> <image>")
        if words:
            found[words[1]] = words[0]
    return found
