"""A task's samples read once: records written in chunks, columns filled, nothing else kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit import registry
from evalkit.errors import UserError
from evalkit.types import Parser, Prediction, Size
from evalkit.viewer import marks, records, shapes
from evalkit.viewer.columns import Column, Labels
from evalkit.viewer.gather import Part, TaskRuns
from evalkit.viewer.pictures import Pictures
from evalkit.viewer.records import Said, Shown
from evalkit.viewer.stream import STOPS, Journalled, Line, Survey, pictured, side_by_side

CHUNK = 500  # samples of one file
STATES = ("invalid", "cut", "whole-image box", "repeated box", "odd")
SEARCHED = 2000  # characters of a text that are searched

Floats = npt.NDArray[np.float32]
Batch = list[tuple[str, list[Line | None]]]


@dataclass
class OfRun:
    """What is collected of one run."""

    part: Part
    journal: Journalled
    parser: Parser | None
    score: Floats
    right: Floats
    iou: Floats
    length: Floats
    state: npt.NDArray[np.uint32]
    has: npt.NDArray[np.bool_]
    odd: Labels = field(default_factory=Labels)

    @classmethod
    def of(cls, part: Part, journal: Journalled, n: int) -> OfRun:
        score, right, iou, length = (np.full(n, np.nan, dtype=np.float32) for _ in range(4))
        state, has = np.zeros(n, dtype=np.uint32), np.zeros(n, dtype=bool)
        return cls(part, journal, _parser(part), score, right, iou, length, state, has)


def _parser(part: Part) -> Parser | None:
    """The task's parser, which says why an answer is unreadable; None where its code may not run here."""
    try:
        made: Parser = registry.make("parsers", str(part.run.get("task_file", {}).get("parser", "text")))
    except UserError:
        return None
    return made


@dataclass
class Collector:
    """Reads a task's samples; `write` gets each chunk's number and records, `texts` what is searched."""

    task: TaskRuns
    survey: Survey
    runs: list[OfRun]
    pictures: Pictures
    sides: int
    write: Callable[[int, list[dict[str, Any]]], None]
    redact: bool = False
    texts: list[str] = field(default_factory=list)
    group: npt.NDArray[np.int32] = field(init=False)
    groups: Labels = field(default_factory=Labels)
    cluster: npt.NDArray[np.int32] = field(init=False)
    images: Floats = field(init=False)
    size: Floats = field(init=False)

    def __post_init__(self) -> None:
        n = self.survey.n
        self.group, self.cluster = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.int32)
        self.images, self.size = np.zeros(n, dtype=np.float32), np.full(n, np.nan, dtype=np.float32)
        self._clusters = Labels()

    def read(self) -> None:
        """All samples, a chunk at a time."""
        samples = (each for each in side_by_side(self.task.parts) if each[0] in self.survey.places)
        start = 0
        while batch := list(islice(samples, CHUNK)):
            shown = self._batch(start, batch)
            full = [
                records.record(s, self.sides, [r.part.side for r in self.runs], self.pictures) for s in shown
            ]
            self.texts += ["" if self.redact else _searched(r) for r in full]
            self.write(start // CHUNK, [records.without_content(r) for r in full] if self.redact else full)
            start += len(batch)

    def _batch(self, start: int, batch: Batch) -> list[Shown]:
        for k, (_, lines) in enumerate(batch):
            self._of_sample(start + k, next(line for line in lines if line is not None))
        targets = [shapes.target_of(next(line for line in lines if line is not None)) for _, lines in batch]
        sizes = [target.size or self._size(start + k, batch[k][1]) for k, target in enumerate(targets)]
        said = [
            self._of_run(start, run, [lines[k] for _, lines in batch], targets, sizes)
            for k, run in enumerate(self.runs)
        ]
        for k, (target, size) in enumerate(zip(targets, sizes, strict=True)):
            self.size[start + k] = shapes.area_share(target.boxes, size)
        return [
            Shown(name, targets[k], sizes[k], tuple(one[k] for one in said))
            for k, (name, _) in enumerate(batch)
        ]

    def _of_sample(self, at: int, line: Line) -> None:
        self.group[at] = self.groups.code(line["group"])
        self.cluster[at] = self._clusters.code(line.get("cluster") or line["image"] or line["id"])
        self.images[at] = len(pictured(line))

    def _size(self, at: int, lines: Sequence[Line | None]) -> Size | None:
        for run, line in zip(self.runs, lines, strict=True):
            height, width = run.journal.size[at].tolist()
            if line is not None and height > 0 and width > 0:
                return height, width
        return None

    def _of_run(
        self, start: int, run: OfRun, lines: Sequence[Line | None], targets: Sequence[shapes.Target],
        sizes: Sequence[Size | None],
    ) -> list[Said | None]:  # fmt: skip
        there = [k for k, line in enumerate(lines) if line is not None]
        some = [line for line in lines if line is not None]
        at = np.array([start + k for k in there], dtype=np.intp)
        scores = {
            metric: marks.values(judge, [line["rows"][metric] for line in some])
            for metric, judge in run.part.judges.items()
        }
        if run.part.main is not None and some:
            judge = run.part.judges[run.part.main.score.metric]
            run.score[at] = scores[run.part.main.score.metric]
            run.right[at] = marks.right(judge, run.score[at].astype(np.float64))
        run.has[at] = True
        found: list[Said | None] = [None] * len(lines)
        for j, k in enumerate(there):
            each = tuple((metric, float(column[j])) for metric, column in scores.items())
            found[k] = self._said(run, start + k, some[j], targets[k], sizes[k], each)
        return found

    def _said(
        self, run: OfRun, at: int, line: Line, target: shapes.Target, size: Size | None,
        scores: tuple[tuple[str, float], ...],
    ) -> Said:  # fmt: skip
        answer = shapes.answer_of(line)
        stop = STOPS[run.journal.stop[at]]
        bad = bool(line.get("invalid", line.get("answer") is None))
        remark = _remark(run.parser, line, stop, size) if bad or answer.text is None else ""
        run.length[at] = run.journal.length[at]
        if math.isnan(run.length[at]):
            run.length[at] = len(line["text"])
        flags = (
            bad,
            stop == "length",
            _whole(answer, target, size),
            _repeated(answer),
            bool(remark) and not bad,
        )
        run.state[at] = sum(1 << i for i, flag in enumerate(flags) if flag)
        margin = float(run.journal.margin[at])
        invalid = (remark or "as its parser says") if bad else ""
        return Said(line, answer, stop, margin, invalid, "" if bad else remark, scores)

    # --- the columns ---------------------------------------------------------------------------------

    def columns(self) -> Iterator[Column]:
        """Those that hold anything."""
        yield Column("id", "text", "sample", list(self.survey.places))
        if len(self.groups.names) > 1:
            yield Column("group", "code", "group", self.group, list(self.groups.names))
        yield Column("cluster", "code", "image", self.cluster)
        yield Column("images", "number", "images", self.images)
        if not np.isnan(self.size).all():
            yield Column("size", "number", "box size (share of the image)", self.size)
        for run in self.runs:
            yield from _columns_of(run)


def _columns_of(run: OfRun) -> Iterator[Column]:
    side, main = run.part.side, run.part.main
    name = main.score.metric if main is not None else "score"
    numbers = (
        ("score", name, run.score), ("right", "right", run.right), ("iou", "IoU", run.iou),
        ("length", "answer length", run.length), ("margin", "margin", run.journal.margin),
        ("confidence", "confidence", run.journal.confidence),
    )  # fmt: skip
    for key, title, values in numbers:
        if not np.isnan(values).all():
            yield Column(f"{key}:{side}", "number", title, values, run=side)
    yield Column(f"state:{side}", "flags", "state", run.state, STATES, side)


def _searched(record: Mapping[str, Any]) -> str:
    answers = (run["answer"][:SEARCHED] for run in record["runs"] if run)
    texts = (text[:SEARCHED] for text in record["target"]["texts"][:20])
    parts = [record["id"], record["question"] or record["prompt"], *answers, *dict.fromkeys(texts)]
    return "\n".join(parts).lower()


def _remark(parser: Parser | None, line: Line, stop: str, size: Size | None) -> str:
    if parser is None:
        return ""
    try:
        return parser.remark(Prediction(line["id"], line.get("prompt", ""), line["text"], stop=stop), size)
    except UserError:
        return ""


WHOLE = 0.98  # of the image, to be all of it


def _whole(answer: shapes.Answer, target: shapes.Target, size: Size | None) -> bool:
    """Whether a box is around the whole image where no object is about as large."""
    if size is None or not answer.boxes:
        return False
    large = any(shapes.area_share([box], size) >= marks.HALF for box in target.boxes)
    return not large and any(shapes.area_share([box], size) >= WHOLE for box in answer.boxes)


def _repeated(answer: shapes.Answer) -> bool:
    plain = list(zip(answer.boxes, answer.labels, strict=True))
    return len(set(plain)) < len(plain)
