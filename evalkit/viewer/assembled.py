"""What was collected as the page's columns, and the matrices of classes that its sections show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.viewer import classes, faults
from evalkit.viewer.classes import Listed, Matrix
from evalkit.viewer.collect import STATES, Collector, OfRun, of_run
from evalkit.viewer.columns import Column
from evalkit.viewer.gather import TaskRuns
from evalkit.viewer.pictures import Pictures
from evalkit.viewer.stream import Survey, journalled

FEWEST = 3  # samples a class, on average: with fewer, texts are no classes


@dataclass(frozen=True)
class Assembled:
    """A task's samples, all read."""

    collector: Collector

    @cached_property
    def matrices(self) -> dict[int, Matrix]:
        """By checkpoint; none where answers are no classes, or may not be shown."""
        found, runs = self.collector, self.collector.runs
        objects = found.survey.kind == "objects"
        if found.names.given_up or (found.redact and not objects):
            return {}
        targets = {code for run in runs for code in run.pairs.true}
        if (not objects and len(targets) * FEWEST > found.survey.n) or len(targets) < 2:
            return {}
        kept = classes.shown(found.names, [run.pairs for run in runs])
        if found.redact:  # labels that are no category are answers
            known = {*found.survey.names, faults.NOTHING, classes.OTHER}
            kept = tuple(name for name in kept if name in known)
            kept += () if classes.OTHER in kept else (classes.OTHER,)
        return {run.side: classes.matrix(found.names, run.pairs, kept) for run in runs}

    @cached_property
    def asked(self) -> Listed | None:
        """The classes that each sample's target has; None where targets are no classes."""
        found = self.collector
        if found.names.given_up or not (self.matrices or found.survey.kind == "objects"):
            return None
        every = [(run.pairs.true, run.pairs.starts) for run in found.runs]
        return classes.listed(found.names, every, lambda name: "" if name == faults.NOTHING else name)

    def _answered(self, run: OfRun) -> Listed:
        """The classes that each answer has; where answers may not be shown, one that is no category is
        another one."""
        found = self.collector
        known = {*found.survey.names} if found.redact else {*found.names.codes}

        def kept(name: str) -> str:
            return "" if name == faults.NOTHING else name if name in known else classes.OTHER

        return classes.listed(found.names, [(run.pairs.said, run.pairs.starts)], kept)

    def columns(self) -> Iterator[Column]:
        """Those that hold anything, of the samples that are shown; labels are those of all samples, so that
        each filter that a figure names is known."""
        at = self.collector.survey.at()
        return (column.of(at) for column in self._columns())

    def _columns(self) -> Iterator[Column]:
        found = self.collector
        yield Column("id", "text", "sample", list(found.survey.places))
        if len(found.groups.names) > 1:
            yield Column("group", "code", "group", found.group, list(found.groups.names))
        yield Column("cluster", "code", "image", found.cluster)
        yield Column("images", "number", "images", found.images)
        if not np.isnan(found.size).all():
            yield Column("size", "number", "box size, share of the image", found.size)
        if not np.isnan(found.suspect).all():
            yield Column("suspect", "number", "suspicion of the annotation", found.suspect)
        yield from self._of_classes()
        for run in found.runs:
            yield from _of_run(run, found.redact)

    def _of_classes(self) -> Iterator[Column]:
        if self.asked is not None:
            yield Column("class", "codes", "class", self.asked.of, self.asked.names)
            for run in self.collector.runs:
                said = self._answered(run)
                yield Column(f"said:{run.side}", "codes", "answered class", said.of, said.names, run.side)
        for side, matrix in self.matrices.items():
            yield Column(
                f"pair:{side}", "codes", "class → answered class", matrix.lists(), matrix.labels, side
            )


def _of_run(run: OfRun, redact: bool) -> Iterator[Column]:
    side, main = run.side, run.part.main
    name = main.score.metric if main is not None else "score"
    numbers = (
        ("score", name, run.score), ("right", "right", run.right), ("iou", "IoU", run.iou),
        ("quality", "quality of the image's boxes", run.quality),
        ("length", "answer length", run.length), ("margin", "margin", run.journal.margin),
        ("confidence", "confidence", run.journal.confidence),
        ("surest", "score of the surest detection", run.surest),
    )  # fmt: skip
    for key, title, values in numbers:
        if not np.isnan(values).all() and (key != "surest" or run.ranked.points()):
            yield Column(f"{key}:{side}", "number", title, values, run=side)
    if run.parted is not None and run.parts.names and not redact:
        yield Column(f"part:{side}", "codes", run.parted[1], run.having, list(run.parts.names), side)
    yield Column(f"state:{side}", "flags", "state", run.state, STATES, side)
    if run.remarks.names:
        yield Column(f"remark:{side}", "code", "remark", run.remark, list(run.remarks.names), side)
    if run.errors.names:
        yield Column(f"error:{side}", "flags", "kind of error", run.error, list(run.errors.names), side)


def has_flag(values: npt.NDArray[np.uint32], labels: Sequence[str], name: str) -> npt.NDArray[np.bool_]:
    """Which samples have a flag."""
    if name not in labels:
        return np.zeros(len(values), dtype=bool)
    return np.asarray((values >> np.uint32(list(labels).index(name))) & 1 == 1)


Write = Callable[[int, list[dict[str, Any]]], None]


def read(
    task: TaskRuns, found: Survey, sides: int, pictures: Pictures, write: Write = lambda chunk, records: None,
    masks: Callable[[str], Sequence[tuple[str, str]]] = lambda name: (), redact: bool = False,
) -> Assembled:  # fmt: skip
    """Reads the samples of a task that were found, for a report of so many `sides`; `write` gets the records
    of those that are shown, `masks` gives a target's outlines."""
    runs = [of_run(part, journalled(part, found.places), found.n) for part in task.parts]
    collector = Collector(task, found, runs, pictures, sides, write, masks, redact)
    collector.read()
    return Assembled(collector)
