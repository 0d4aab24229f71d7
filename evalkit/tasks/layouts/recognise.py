"""Looks at a folder or file, says what it holds and makes its tasks. Where two readings are possible it takes
none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from evalkit.errors import UserError
from evalkit.tasks.layouts import coco, conversations, paligemma, place, tables, voc, yolo
from evalkit.tasks.layouts.place import Place
from evalkit.tasks.layouts.reading import Reading

VERBS = ("detect", "segment")
LAYOUTS = (paligemma.NAME, coco.NAME, yolo.NAME, voc.NAME, conversations.NAME, tables.NAME)


def recognise(path: Path, split: str | None = None, verb: str = "") -> Reading:
    """What lies at `path`. Raises UserError where nothing is recognised, or more than one thing."""
    there = place.look(path)
    found = readings(there, split, verb)
    if not found:
        seen = sorted({Path(name).suffix.lower() or name for name in there.files})
        pictures = sum(there.images.values())
        raise UserError(
            f"--data {path}: no layout is recognised among {len(there.files):,} files "
            f"({', '.join(seen[:8]) or 'none'}) and {pictures:,} images; evalkit knows {', '.join(LAYOUTS)} "
            "(docs/my-data.md)"
        )
    if len(found) > 1:
        each = "\n".join(f"  {r.layout}, {place.shown(r.split)}: --data {r.root / r.file}" for r in found)
        raise UserError(f"--data {path}: can be read in {len(found)} ways; name the file:\n{each}")
    return found[0]


def readings(there: Place, split: str | None, verb: str) -> list[Reading]:
    """All that the place may be. A file that one layout reads is not offered to the next."""
    looks: list[Callable[[Place], list[Reading]]] = [
        lambda p: paligemma.look(p, split),
        lambda p: coco.look(p, split, verb),
        lambda p: yolo.look(p, split, verb),
        lambda p: voc.look(p, split, verb),
        lambda p: conversations.look(p, split),
        lambda p: tables.look(p, split),
    ]
    found: list[Reading] = []
    for look in looks:
        taken = {name for reading in found for name in reading.splits.values()}
        left = Place(there.root, tuple(n for n in there.files if n not in taken), there.images, there.alone)
        found += look(left)
    return found
