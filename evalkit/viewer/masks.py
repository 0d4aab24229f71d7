"""The targets' masks, which rows.jsonl leaves out: read from the dataset where it still is, as outlines."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.files import encoded, json_text
from evalkit.tasks import dataset, loader
from evalkit.types import Sample
from evalkit.viewer import outlines
from evalkit.viewer.gather import TaskRuns
from evalkit.viewer.shapes import size_of

Outlines = list[tuple[str, str]]  # outline and label
Lookup = Callable[[str], Sequence[tuple[str, str]]]


class Shelf:
    """Outlines by sample id, in a file without a name: those of 100,000 samples would need hundreds of MB."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115, closed with this object
        self._places: dict[str, tuple[int, int]] = {}

    def put(self, name: str, found: Outlines) -> None:
        data = encoded(json_text(found, compact=True))
        self._places[name] = self._file.tell(), len(data)
        self._file.write(data)

    def get(self, name: str) -> Outlines:
        if name not in self._places:
            return []
        at, length = self._places[name]
        self._file.seek(at)
        return [(path, label) for path, label in json.loads(self._file.read(length))]


def of_targets(task: TaskRuns, wanted: Collection[str], roots: Sequence[Path]) -> tuple[Lookup, str]:
    """The outlines of each target's masks, and why there are none, or ''. Only tasks whose parser reads masks
    have any."""
    file = task.first.get("task_file", {})
    if not str(file.get("parser", "")).startswith("masks"):
        return (lambda name: ()), ""
    shelf = Shelf()

    def take(sample: Sample) -> None:
        if sample.id in wanted and (found := _outlines(sample.target)):
            shelf.put(sample.id, found)

    try:
        known = loader.load(_place(file, task.name), file.get("overrides") or {})
        own = Path(str(task.first.get("source", {}).get("root") or "."))
        dataset.each(known, dataset.roots([*roots, *([own] if own.is_dir() else [])], [known]), take)
    except UserError as error:
        return (lambda name: ()), str(error)
    return shelf.get, ""


def _place(file: Mapping[str, Any], name: str) -> str:
    path = str(file.get("path") or "")
    return path if Path(path).is_file() and path.endswith((".yaml", ".yml")) else name


def _outlines(target: Any) -> Outlines:
    if not isinstance(target, Mapping) or (size := size_of(tuple(target.get("size") or ()))) is None:
        return []
    things = target.get("objects", [target])
    found = [
        (outlines.polygons(thing["segmentation"], size), str(thing.get("category", "")))
        for thing in things
        if isinstance(thing, Mapping) and "segmentation" in thing
    ]
    return [(path, label) for path, label in found if path]
