"""A task's samples read once: columns filled of all, records of those shown written in chunks, nothing else
kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit import registry
from evalkit.comparison import suspects
from evalkit.errors import Damaged, UserError
from evalkit.types import UNREADABLE, Parser, Prediction, Size
from evalkit.viewer import faults, marks, records, shapes, why
from evalkit.viewer.classes import Names, Pairs
from evalkit.viewer.columns import Labels
from evalkit.viewer.faults import Judged
from evalkit.viewer.gather import Part, TaskRuns
from evalkit.viewer.pictured import pictured
from evalkit.viewer.pictures import Pictures
from evalkit.viewer.ranked import Ranked
from evalkit.viewer.records import Said, Shown
from evalkit.viewer.scripts import ZippedList
from evalkit.viewer.shapes import Target
from evalkit.viewer.stream import STOPS, Journalled, Line, Survey, side_by_side

CHUNK = 500  # samples of one file
READ_NOT = "as its parser says"  # why an answer is unreadable, where its parser says no more
STATES = ("invalid", "cut", "whole-image box", "repeated box", "odd")
SEARCHED = 2000  # characters of a text that are searched
PARTED = {"json_fields": "field", "label_f1": "class"}  # metrics whose rows are by part, and what a part is
KEPT = 30_000  # images whose objects are kept to say what each kind of error costs

Floats = npt.NDArray[np.float32]
Batch = list[tuple[str, list[Line | None]]]


@dataclass
class OfRun:
    """What is collected of one run, a value for each sample."""

    part: Part
    journal: Journalled
    parser: Parser | None
    n: int
    share: Floats = field(init=False)  # how good the answer is, 0 to 1
    has: npt.NDArray[np.bool_] = field(init=False)
    state: npt.NDArray[np.uint32] = field(init=False)
    error: npt.NDArray[np.uint32] = field(init=False)
    errors: Labels = field(default_factory=Labels)
    remark: npt.NDArray[np.int32] = field(init=False)
    remarks: Labels = field(default_factory=Labels)  # what is odd about texts, as a score has it
    pairs: Pairs = field(default_factory=Pairs)
    ranked: Ranked = field(default_factory=Ranked)
    objects: list[Any] = field(default_factory=list)  # TIDE's rows of the first `KEPT` images
    parts: Labels = field(default_factory=Labels)  # fields of JSON, or labels, that samples have
    having: list[tuple[int, ...]] = field(default_factory=list)  # by sample, those that it has

    def __post_init__(self) -> None:
        self._same: dict[tuple[int, ...], tuple[int, ...]] = {}
        self.having = [()] * self.n
        self.score, self.right, self.iou, self.length, self.share, self.surest, self.quality = (
            np.full(self.n, np.nan, dtype=np.float32) for _ in range(7)
        )
        self.state, self.error = (np.zeros(self.n, dtype=np.uint32) for _ in range(2))
        self.has = np.zeros(self.n, dtype=bool)
        self.remark = np.full(self.n, -1, dtype=np.int32)

    @property
    def side(self) -> int:
        return self.part.side

    @cached_property
    def parted(self) -> tuple[str, str] | None:
        """The metric whose rows name the parts that a sample has, and what these are called."""
        for cell in self.part.cells:
            if (name := cell.score.metric.partition("(")[0]) in PARTED and not cell.not_scored:
                return cell.score.metric, PARTED[name]
        return None

    def part_of(self, at: int, line: Line) -> None:
        """Notes which parts a sample has, wanted or answered."""
        if self.parted is not None:
            codes = tuple(self.parts.code(name) for name in _row(self.part, line, self.parted[0]))
            self.having[at] = self._same.setdefault(codes, codes)


def of_run(part: Part, journal: Journalled, n: int) -> OfRun:
    """An empty one. Without its parser, whose code may not run here, no text is said to be odd."""
    try:
        parser = registry.make("parsers", str(part.run.get("task_file", {}).get("parser", "text")))
    except UserError:
        parser = None
    return OfRun(part, journal, parser, n)


@dataclass
class Collector:
    """Reads a task's samples; `write` gets each chunk's number and the records of samples that are shown."""

    task: TaskRuns
    survey: Survey
    runs: list[OfRun]
    pictures: Pictures
    sides: int
    write: Callable[[int, list[dict[str, Any]]], None]
    masks: Callable[[str], Sequence[tuple[str, str]]] = lambda name: ()
    redact: bool = False
    texts: ZippedList = field(default_factory=ZippedList)  # what is searched
    groups: Labels = field(default_factory=Labels)
    names: Names = field(default_factory=Names)
    classes: list[list[int]] = field(default_factory=list)  # of the target
    exact_prompt: str = ""

    def __post_init__(self) -> None:
        n = self.survey.n
        self.group, self.cluster = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.int32)
        self.images, self.size, self.suspect = (np.full(n, np.nan, dtype=np.float32) for _ in range(3))
        self.accuser = np.full(n, -1, dtype=np.int16)  # the place of the only run that speaks against it
        self.trust: list[float] = []  # in what each run alone says against annotations
        self._clusters = Labels()
        # a run without tokens (a baseline's file, predictions made elsewhere) has characters: then all have
        self._in_tokens = not any(np.isnan(run.journal.length).any() for run in self.runs)
        judge = next((j for run in self.runs for j in run.part.judges.values()), None)
        lowercase = bool(getattr(judge, "lowercase", False))
        self._objects = faults.Objects(self.survey.names, lowercase)

    def read(self) -> None:
        """All samples, a chunk at a time."""
        shown = self._shown()
        for chunk in count():
            if not (some := list(islice(shown, CHUNK))):
                self._weigh()
                return
            full = [self._record(each) for each in some]
            self.exact_prompt = self.exact_prompt or full[0]["prompt"]
            self.write(chunk, [records.without_content(r) for r in full] if self.redact else full)

    def _shown(self) -> Iterator[Shown]:
        """Reads every sample and gives those that are shown."""
        samples = (each for each in side_by_side(self.task.parts) if each[0] in self.survey.places)
        chosen, start = self.survey.chosen, 0
        while batch := list(islice(samples, CHUNK)):
            read = self._batch(start, batch)
            yield from (one for one in read if chosen is None or one.id in chosen)
            start += len(batch)

    def _record(self, shown: Shown) -> dict[str, Any]:
        found = records.record(shown, self.sides, [run.side for run in self.runs], self.pictures)
        self.texts.add("" if self.redact else _searched(found))
        return found

    def _batch(self, start: int, batch: Batch) -> list[Shown]:
        heads = [next(line for line in lines if line is not None) for _, lines in batch]
        targets = [shapes.target_of(line) for line in heads]
        sizes = [t.size or self._size(start + k, batch[k][1]) for k, t in enumerate(targets)]
        for k, line in enumerate(heads):
            self.group[start + k] = self.groups.code(line["group"])
            self.cluster[start + k] = self._clusters.code(line.get("cluster") or line["image"] or line["id"])
            self.images[start + k] = len(pictured(line))
            self.size[start + k] = shapes.area_share(targets[k].boxes, sizes[k])
        said = [
            self._of_run(start, run, [lines[k] for _, lines in batch], targets, sizes)
            for k, run in enumerate(self.runs)
        ]
        for k, (name, _) in enumerate(batch):
            self.suspect[start + k] = self._suspicion(name, start + k, [one[k] for one in said])
        return [
            Shown(name, targets[k], sizes[k], tuple(one[k] for one in said), tuple(self.masks(name)))
            for k, (name, _) in enumerate(batch)
        ]

    def _size(self, at: int, lines: Sequence[Line | None]) -> Size | None:
        for run, line in zip(self.runs, lines, strict=True):
            height, width = run.journal.size[at].tolist()
            if line is not None and height > 0 and width > 0:
                return height, width
        return None

    def _suspicion(self, name: str, at: int, said: Sequence[Said | None]) -> float:
        given = {
            k: suspects.Answer(one.line["answer"], float(run.share[at]), run.journal.sureness(at), "", "")
            for k, (run, one) in enumerate(zip(self.runs, said, strict=True))
            if one is not None and not one.invalid and not math.isnan(run.share[at])
        }
        found = suspects.suspect(self.task.name, name, list(given.values())) if given else None
        if found is None:
            return math.nan
        if found.agreeing == 1:
            self.accuser[at] = list(given)[found.by[0]]
        return found.suspicion

    def _weigh(self) -> None:
        """What a single run says against an annotation counts as `evalkit suspects` counts it."""
        self.trust = [suspects.trust(run.share) for run in self.runs]
        for k, trust in enumerate(self.trust):
            self.suspect[self.accuser == k] *= trust

    # --- one run's part of a chunk ------------------------------------------------------------------------

    def _of_run(
        self, start: int, run: OfRun, lines: Sequence[Line | None], targets: Sequence[Target],
        sizes: Sequence[Size | None],
    ) -> list[Said | None]:  # fmt: skip
        there = [k for k, line in enumerate(lines) if line is not None]
        some = [line for line in lines if line is not None]
        at = np.array([start + k for k in there], dtype=np.intp)
        scores = {
            metric: marks.values(judge, [_row(run.part, line, metric) for line in some])
            for metric, judge in run.part.judges.items()
        }
        if run.part.main is not None and some:
            judge = run.part.judges[run.part.main.score.metric]
            own = scores[run.part.main.score.metric]
            run.score[at], run.right[at] = own, marks.right(judge, own)
            run.share[at] = marks.shares(judge, own)
        run.has[at] = True
        answers = [shapes.answer_of(line) for line in some]
        judged = self._judged(run, at, some, [targets[k] for k in there], answers, [sizes[k] for k in there])
        found: list[Said | None] = [None] * len(lines)
        given = {k: j for j, k in enumerate(there)}
        for place, line in zip(at.tolist(), some, strict=True):
            run.part_of(place, line)
        for k in range(len(lines)):
            j = given.get(k)
            run.pairs.add(self.names, () if j is None else judged[j].pairs)
            if j is not None:
                each = tuple((metric, float(column[j])) for metric, column in scores.items())
                of = run, start + k, some[j], targets[k], answers[j], sizes[k]
                found[k] = self._said(*of, each, judged[j])
        return found

    def _judged(
        self, run: OfRun, at: npt.NDArray[np.intp], lines: Sequence[Line], targets: Sequence[Target],
        answers: Sequence[shapes.Answer], sizes: Sequence[Size | None],
    ) -> list[Judged]:  # fmt: skip
        bad = [_unreadable(line) for line in lines]
        if self.survey.kind == "objects":
            found, rows = self._objects.judge(targets, answers, sizes)
            room = max(0, KEPT - len(run.objects))
            run.surest[at] = [_ranked(run, line) for line in lines]
            run.objects += [row for row in rows if row is not None][:room]
            unread = [
                ("unreadable", *one.errors) if b else one.errors for one, b in zip(found, bad, strict=True)
            ]
            return [replace(one, errors=kinds) for one, kinds in zip(found, unread, strict=True)]
        if self.survey.kind == "region":
            return [faults.region(*each) for each in zip(targets, answers, bad, strict=True)]
        shares = run.share[at].tolist()
        main = run.part.main
        free = main is not None and main.score.metric.partition("(")[0] in faults.CAPTIONS
        return [faults.texts(*each, free) for each in zip(targets, answers, bad, shares, strict=True)]

    def _said(
        self, run: OfRun, at: int, line: Line, target: Target, answer: shapes.Answer, size: Size | None,
        scores: tuple[tuple[str, float], ...], judged: Judged,
    ) -> Said:  # fmt: skip
        stop, bad = STOPS[run.journal.stop[at]], _unreadable(line)
        nothing = answer.read and answer.text is None and not answer.boxes
        remark = "" if nothing and not bad else _remark(run.parser, line, stop, size)
        if bad or remark:
            spelled = UNREADABLE + (remark or READ_NOT) if bad else remark
            run.remark[at] = run.remarks.code(spelled)
        run.length[at] = run.journal.length[at] if self._in_tokens else len(line["text"])
        odd = bad, stop == "length", _whole(answer, target, size), _repeated(answer), bool(remark) and not bad
        run.state[at] = sum(1 << i for i, flag in enumerate(odd) if flag)
        run.error[at] = sum(1 << run.errors.code(kind) for kind in dict.fromkeys(judged.errors))
        run.iou[at], run.quality[at] = judged.iou, judged.quality
        run.right[at] = run.right[at] if judged.right is None else judged.right
        return Said(
            line, answer, stop, float(run.journal.margin[at]),
            (remark or READ_NOT) if bad else "", "" if bad else remark, scores,
            tuple(_why(run.part, line, answer, target, judged)),
            why.fields(run.part.judges, answer, target),
        )  # fmt: skip


def _why(
    part: Part, line: Line, answer: shapes.Answer, target: Target, judged: Judged
) -> list[tuple[str, str]]:
    found = [
        pair
        for metric, judge in part.judges.items()
        for pair in why.lines(metric, judge, answer, target, line["rows"][metric])
    ]
    if judged.counts:
        found.append(("objects", judged.counts))
        found.append(("quality of the boxes", f"{judged.quality:.2f}"))
    if not math.isnan(judged.iou) and target.boxes:
        found.append(("IoU of boxes" if len(target.boxes) == 1 else "mean IoU of boxes", f"{judged.iou:.2f}"))
    if judged.errors:
        found.append(("kind of error", ", ".join(judged.errors)))
    return list(dict.fromkeys(found))


def _row(part: Part, line: Line, metric: str) -> Any:
    """A sample's row of a metric. Raises Damaged where scores.json has the metric and rows.jsonl has not."""
    try:
        return line["rows"][metric]
    except (KeyError, TypeError):
        where = f"{part.folder.path / 'rows.jsonl'}: sample {line['id']}"
        raise Damaged(f"{where}: has no row of {metric}; {part.folder.remedy}") from None


def _ranked(run: OfRun, line: Line) -> float:
    """Adds an image's detections to the run's; the score of the surest, NaN without any."""
    for metric in run.part.judges:
        if (surest := run.ranked.add(_row(run.part, line, metric))) is not None:
            return surest
    return math.nan


def _unreadable(line: Line) -> bool:
    return bool(line.get("invalid", line.get("answer") is None))


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


def _whole(answer: shapes.Answer, target: Target, size: Size | None) -> bool:
    """Whether a box is around the whole image where no object is about as large."""
    if size is None or not answer.boxes:
        return False
    large = any(shapes.area_share([box], size) >= marks.HALF for box in target.boxes)
    return not large and any(shapes.area_share([box], size) >= WHOLE for box in answer.boxes)


def _repeated(answer: shapes.Answer) -> bool:
    plain = list(zip(answer.boxes, answer.labels, strict=True))
    return len(set(plain)) < len(plain)
