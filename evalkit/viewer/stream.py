"""A task's samples as its runs have them, one after the other: rows.jsonl of all runs read side by side.

Nothing is kept but what the journals say in numbers.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.comparison import suspects
from evalkit.errors import Damaged
from evalkit.runs.store import RunFolder
from evalkit.types import Prediction
from evalkit.viewer.gather import Part, TaskRuns
from evalkit.viewer.pictured import Pictured, pictured

Line = dict[str, Any]  # of rows.jsonl
Floats = npt.NDArray[np.float32]
STOPS = ("", "eos", "length")


def side_by_side(parts: Sequence[Part]) -> Iterator[tuple[str, list[Line | None]]]:
    """Each sample's id and its line in every run (None where a run lacks it), in order of the ids."""
    streams = [_sorted(part.folder) for part in parts]
    heads = [next(stream, None) for stream in streams]
    while any(head is not None for head in heads):
        name = min(head["id"] for head in heads if head is not None)
        lines = [head if head is not None and head["id"] == name else None for head in heads]
        yield name, lines
        for k, line in enumerate(lines):
            if line is not None:
                heads[k] = next(streams[k], None)


def _sorted(folder: RunFolder) -> Iterator[Line]:
    """rows.jsonl. Raises Damaged where its ids are not in order, as they are written."""
    last: str | None = None
    for line in folder.each_row():
        if last is not None and line["id"] <= last:
            path = folder.path / "rows.jsonl"
            raise Damaged(f"{path}: sample {line['id']} is not in its place; {folder.remedy}")
        last = line["id"]
        yield line


@dataclass(frozen=True)
class Journalled:
    """What a run's journals say of each sample, in numbers; NaN and 0 where they say nothing."""

    margin: Floats
    confidence: Floats  # the mean probability of the answer's tokens
    length: Floats  # tokens of the answer
    stop: npt.NDArray[np.uint8]  # a place in STOPS
    size: npt.NDArray[np.int32]  # (n, 2): height and width of the first image

    def sureness(self, at: int) -> float:
        """How sure an answer was, 0 to 1, as `evalkit suspects` takes it."""
        margin, known = float(self.margin[at]), float(self.confidence[at])
        if not math.isnan(margin):
            return suspects.sure(margin)
        return suspects.UNSURE if math.isnan(known) else known


def journalled(part: Part, places: Mapping[str, int]) -> Journalled:
    """Reads the journals line by line; `places` says where a sample stands."""
    n = len(places)
    margin, confidence, length = (np.full(n, np.nan, dtype=np.float32) for _ in range(3))
    stop, size = np.zeros(n, dtype=np.uint8), np.zeros((n, 2), dtype=np.int32)
    found = Journalled(margin, confidence, length, stop, size)
    for entry in part.folder.each_answer(part.run):
        at = places.get(entry.prediction.id)
        if at is not None:
            _fill(found, at, entry.prediction)
    return found


def _fill(found: Journalled, at: int, given: Prediction) -> None:
    found.margin[at] = np.nan if given.margin is None else given.margin
    found.confidence[at] = probability(given)
    found.length[at] = len(given.tokens) if given.tokens else np.nan
    found.stop[at] = STOPS.index(given.stop) if given.stop in STOPS else 0
    if given.sizes:
        found.size[at] = given.sizes[0]


def probability(given: Prediction) -> float:
    """The mean probability of the answer's tokens (geometric), NaN where it was not kept."""
    if not given.logprobs:
        return math.nan
    return math.exp(min(sum(given.logprobs) / len(given.logprobs), 0.0))


@dataclass(frozen=True)
class Survey:
    """What is known of a task's samples before they are read for the report."""

    places: dict[str, int]  # of each sample's id
    images: dict[str, tuple[Pictured, int]]  # an image by its key, and the part that names it
    kind: str = "texts"  # texts | region (one box or mask) | objects (all of an image)
    names: tuple[str, ...] = ()  # the objects' classes
    chosen: frozenset[str] | None = None  # the only samples that are shown; figures are of all

    @property
    def n(self) -> int:
        return len(self.places)

    @property
    def shown(self) -> list[str]:
        """The ids of the samples that are shown, in order."""
        return [name for name in self.places if self.chosen is None or name in self.chosen]

    def at(self) -> npt.NDArray[np.intp]:
        """Where the shown samples stand among all."""
        return np.array([self.places[name] for name in self.shown], dtype=np.intp)


def survey(task: TaskRuns, limit: int | None = None) -> Survey:
    """All samples' ids, and the images of those that are shown, each image once. Of a `limit` those are shown
    that have the first digests: neither the first nor the last of a dataset, and the same ones in every
    report."""
    chosen = _chosen(task, limit)
    places: dict[str, int] = {}
    images: dict[str, tuple[Pictured, int]] = {}
    kind, names = "texts", set[str]()
    for name, lines in side_by_side(task.parts):
        places[name] = len(places)
        for k, line in enumerate(lines if chosen is None or name in chosen else ()):
            for image in pictured(line) if line is not None else ():
                images.setdefault(image.key, (image, k))
        target = next(line for line in lines if line is not None).get("target")
        if isinstance(target, Mapping) and isinstance(target.get("labels"), list):
            kind = "objects"
            names.update(map(str, target["labels"]))
        elif isinstance(target, Mapping) and target.get("boxes") and kind == "texts":
            kind = "region"
    for part in task.parts:  # classes without an object here
        for cell in part.cells:
            names.update(
                n for n in cell.score.breakdowns.get("class", {}) if kind == "objects" and n[:1] != "("
            )
    return Survey(places, images, kind, tuple(sorted(names)), chosen)


def _chosen(task: TaskRuns, limit: int | None) -> frozenset[str] | None:
    if limit is None:
        return None
    ids = (name for name, _ in side_by_side(task.parts))
    return frozenset(heapq.nsmallest(limit, ids, key=lambda name: hashlib.sha256(name.encode()).digest()))
