"""Looks at a folder or file, says what it holds and makes its tasks. Where two readings are possible it takes
none."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evalkit.data.readers import read_json, read_lines, read_table
from evalkit.data.records import meant_key
from evalkit.data.split_names import split_of, without_split
from evalkit.errors import DataError, UserError
from evalkit.tasks.layouts import (
    coco,
    conversations,
    doubts,
    foreign,
    paligemma,
    place,
    rows,
    tables,
    voc,
    yolo,
)
from evalkit.tasks.layouts.place import Place
from evalkit.tasks.layouts.reading import Reading
from evalkit.types import Data

NEEDED = (
    "call them image, question and answer, or image, prefix and suffix where the prompts are written out "
    "(docs/my-data.md)"
)
KNOWN = ("image", "prefix", "suffix", "question", "answer", "conversations", "messages", "annotations")
LAYOUTS = (paligemma.NAME, coco.NAME, yolo.NAME, voc.NAME, conversations.NAME, rows.NAME, tables.NAME)


def recognise(path: Path, split: str | None = None, verb: str = "", order: str = "") -> Reading:
    """What lies at `path`; `order` of the numbers of rows' boxes: `xywh` or `xyxy`, where they don't show it.
    Raises UserError where nothing is recognised, or more than one thing."""
    there = place.look(path)
    found = readings(there, split, verb, order)
    if not found:
        if why := _why(there):
            raise UserError(f"{path}: no layout is recognised; {why}")
        seen = sorted({Path(name).suffix.lower() or name for name in there.files})
        pictures = sum(there.images.values())
        raise UserError(
            f"{path}: no layout is recognised among {len(there.files):,} files "
            f"({', '.join(seen[:8]) or 'none'}) and {pictures:,} images; evalkit knows {', '.join(LAYOUTS)} "
            "(docs/my-data.md)"
        )
    if len(found) > 1:
        each = "; ".join(
            f"{r.layout}, {place.shown(r.split)}: {r.pick or r.root / r.file}" for r in found[:12]
        )
        which = "say which" if any(r.pick for r in found) else "name the file"
        raise UserError(f"{path}: can be read in {len(found)} ways; {which}: {each}")
    if verb and found[0].layout not in (coco.NAME, yolo.NAME, voc.NAME):
        raise UserError(f"--verb {verb}: {found[0].layout} have their own verbs and questions; leave it out")
    taken = _doubted(found[0])
    return taken if split else dataclasses.replace(taken, doubts=[*_passed_over(there, taken), *taken.doubts])


def _passed_over(there: Place, found: Reading) -> list[str]:
    """Files that are called like the one that is read, but of a split that would be taken before it, and that
    cannot be read: without a word, a damaged test split would be a score of the training images."""
    said = []
    before = place.PREFERRED[: place.PREFERRED.index(found.split)] if found.split in place.PREFERRED else ()
    for name in there.files:
        same = without_split(name) == without_split(found.file)
        if same and name not in found.splits.values() and (split := split_of(name)) in before:
            path = there.root / name
            why = f"{path}: holds nothing"
            if place.head(path).strip():
                why = _why(dataclasses.replace(there, files=(name,))) or f"{path}: is something else"
            said.append(f"{place.shown(split)} is not read, so this is {place.shown(found.split)}: {why}")
    return said


def _doubted(found: Reading) -> Reading:
    """The reading with what it can say of its images and classes."""
    named = (doubts.spellings, doubts.unreadable, doubts.separated)
    said = [*found.doubts, *(doubt for of in named for doubt in of(found.classes))]
    if found.pictures is not None:
        said = [*doubts.images(found.root, found.splits, found.split, found.pictures), *said]
    return dataclasses.replace(found, doubts=said)


def doubts_of(data: Data, root: Path) -> tuple[str, ...] | None:
    """What makes a number of a task's data doubtful, where the task has the data that would be recognised
    below `root` now; else None."""
    split = None if data.split == "all" else data.split
    wanted = (data.format, data.split, list(map(dict, data.sources)))
    with contextlib.suppress(UserError):
        for found in readings(place.look(root), split, ""):
            for draft in found.drafts:
                made = draft.content["data"]
                if (made["format"], made["split"], made["sources"]) == wanted:
                    return tuple(_doubted(found).doubts)
    return None


def readings(there: Place, split: str | None, verb: str, order: str = "") -> list[Reading]:
    """All that the place may be. A file that one layout reads is not offered to the next."""
    looks: list[Callable[[Place], list[Reading]]] = [
        lambda p: paligemma.look(p, split),
        lambda p: coco.look(p, split, verb),
        lambda p: yolo.look(p, split, verb),
        lambda p: voc.look(p, split, verb),
        lambda p: conversations.look(p, split),
        lambda p: rows.look(p, split, order),
        lambda p: tables.look(p, split),
    ]
    found: list[Reading] = []
    for look in looks:
        taken = {name for reading in found for name in reading.splits.values()}
        left = Place(there.root, tuple(n for n in there.files if n not in taken), there.images, there.alone)
        found += look(left)
    return found


def _why(there: Place) -> str:
    """What is wrong with the first file that might be one, or ''."""
    if said := yolo.why_not(there):
        return said
    for name in there.named(".xml"):
        if said := foreign.of_xml(place.head(there.root / name).decode("utf-8", "replace")):
            return f"{there.root / name}: is {said}"
    for name in there.named(".jsonl", ".jsonlines", ".json", ".csv", ".tsv"):
        path = there.root / name
        try:
            if name.endswith((".csv", ".tsv")):
                first: Any = next((row for _, row in read_table(path)), {})
            elif name.endswith(".json"):
                data = read_json(path)
                first = data[0] if isinstance(data, list) and data else data
            else:
                first = next((data for _, data in read_lines(path)), {})
        except DataError as error:
            return str(error)
        if said := foreign.of_record(first):
            return f"{path}: is {said}"
        if isinstance(first, dict) and first:
            near = [
                f"{key!r} probably stands for {meant}"
                for key in first
                if isinstance(key, str) and key not in KNOWN and (meant := meant_key(key, KNOWN))
            ]
            keys = ", ".join(map(str, list(first)[:12]))
            rows = not name.endswith(".json") or isinstance(data, list)
            return "; ".join([f"{path}: has the keys {keys}", *(near or [NEEDED] * rows)])
    return foreign.of_files(there)
