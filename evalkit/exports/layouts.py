"""How answers are laid out in an exported file: lists, maps, boxes, masks, words, tables.

Test servers are in `forms.FORMS`, which also names the keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit import registry
from evalkit.data import readers
from evalkit.errors import UserError
from evalkit.files import json_text
from evalkit.geometry import boxes as geometry
from evalkit.report.columns import csv_text
from evalkit.tasks import calls
from evalkit.tasks.dataset import Dataset
from evalkit.types import Box, Prediction, Sample, Size, Task

_PICTURE = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class ExportedRun:
    """A run to export: its dataset and its predictions."""

    run: str
    model: str
    data: Dataset
    predictions: Mapping[str, Prediction]

    @property
    def task(self) -> Task:
        return self.data.task

    @property
    def format(self) -> str:
        """The format as spelled by the source, or else by the task."""
        return str(self.data.source.entry.get("format", self.task.data.format))

    @property
    def samples(self) -> list[Sample]:
        """The samples that have a prediction, in the order of the dataset."""
        return [s for s in self.data.samples if s.id in self.predictions]

    @property
    def chosen(self) -> bool:
        """Whether the questions come with choices."""
        return "choices" in self.samples[0].fields


@dataclass(frozen=True)
class Written:
    """The file's content, and notes for the user."""

    text: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Form:
    """One kind of file that a test server or script reads.

    `id` and `text` are the keys; `whole`: ids are integers; `picture`: ids are names of image files;
    `labels`: the only answers that the reader accepts, in lower case.
    `tasks` and `formats` say for which tasks `auto` chooses it, by name first, then by format. `stems`
    are (pattern, replacement) for the dataset file's name without suffix: the first that matches gives
    `{stem}` in `file`, else it is the task's name. `file` may also name task, split, model
    and setting (mc: multiple choice, da: direct answer).
    """

    about: str
    layout: Layout
    id: str = "question_id"
    text: str = "answer"
    whole: bool = True
    picture: bool = False
    labels: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    stems: tuple[tuple[str, str], ...] = ()
    file: str = "{task}_{model}.json"


@dataclass(frozen=True)
class Layout:
    """A function of (runs, form, form's name) that makes a file; the kind of answer it needs ("": any)."""

    write: Callable[[Sequence[ExportedRun], Form, str], Written]
    wants: str = "text"
    merges: bool = False  # runs of one model and split go into one file


# --- texts -----------------------------------------------------------------------------------------


def _list(runs: Sequence[ExportedRun], form: Form, name: str) -> Written:
    """A list of {id: ..., text: ...}."""
    answered = runs[0]
    answers = _texts(answered)
    return Written(
        _json([{form.id: _id(s, form, name, answered), form.text: answers[s.id]} for s in answered.samples])
    )


def _map(runs: Sequence[ExportedRun], *_: Any) -> Written:
    """An object {id: text}."""
    answers = _texts(runs[0])
    return Written(_json(answers), tuple(_no_choices(runs[0], answers)) if runs[0].chosen else ())


def _object(runs: Sequence[ExportedRun], *_: Any) -> Written:
    """An object {id: {"multiple_choice": a choice, "direct_answer": text}} with one or both keys."""
    content: dict[str, dict[str, str]] = {}
    taken: dict[str, str] = {}
    notes: list[str] = []
    for answered in runs:
        key = "multiple_choice" if answered.chosen else "direct_answer"
        if key in taken:
            raise UserError(
                f"{answered.run}: gives {key}, and so does {taken[key]}; "
                "name one run with choices, one without"
            )
        taken[key] = answered.run
        answers = _texts(answered)
        for sample in answered.samples:
            content.setdefault(sample.id, {})[key] = answers[sample.id]
        if key == "multiple_choice":
            notes += _no_choices(answered, answers)
    notes += [f"only {key}: to have both, name the other run too" for key in taken if len(taken) == 1]
    half = next((q for q, given in content.items() if len(given) < len(taken)), None)
    if half is not None:
        notes.append(f"the runs answer different questions; the first that one of them lacks is {half}")
    return Written(_json(content), tuple(notes))


def _no_choices(answered: ExportedRun, answers: Mapping[str, str]) -> list[str]:
    """A note when answers are not among their question's choices: the official script stops at these."""
    joined = getattr(registry.make("formats", answered.format), "joined", " \t ")
    wrong = [s.id for s in answered.samples if answers[s.id] not in s.fields["choices"].split(joined)]
    return _noted(wrong, "none of the choices")


def _noted(wrong: Sequence[str], what: str) -> list[str]:
    return [f"{len(wrong):,} answers are {what}, the first is {wrong[0]}"] if wrong else []


def _columns(runs: Sequence[ExportedRun], form: Form, _: str) -> Written:
    """A CSV with id and text in its first line. Answers are quoted where needed, and never changed."""
    answers = _texts(runs[0])
    rows = [[s.id, answers[s.id]] for s in runs[0].samples]
    return Written(csv_text([[form.id, form.text], *rows], safe=False))


def _pairs(runs: Sequence[ExportedRun], form: Form, _: str) -> Written:
    """`id,text` lines without a header, for readers that split at commas: in a text they become spaces."""
    answers = {key: " ".join(text.replace(",", " ").split()) for key, text in _texts(runs[0]).items()}
    wrong = [s.id for s in runs[0].samples if answers[s.id].lower() not in form.labels]
    lines = "".join(f"{s.id},{answers[s.id]}\n" for s in runs[0].samples)
    return Written(lines, tuple(_noted(wrong, f"neither {' nor '.join(form.labels)}")))


def _lines(runs: Sequence[ExportedRun], *_: Any) -> Written:
    given = runs[0].predictions
    lines = [{"id": s.id, "text": given[s.id].text} for s in runs[0].samples]
    return Written("".join(json_text(line) + "\n" for line in lines))


def _table(runs: Sequence[ExportedRun], *_: Any) -> Written:
    """A CSV of ids and texts; text that a spreadsheet would run as a formula gets a ' before it."""
    given = runs[0].predictions
    return Written(csv_text([["id", "text"], *([s.id, given[s.id].text] for s in runs[0].samples)]))


# --- boxes, masks, words ---------------------------------------------------------------------------


def _boxes(runs: Sequence[ExportedRun], form: Form, name: str) -> Written:
    """COCO's [x, y, width, height] in pixels; scores as the metric ranks, or by the class's likelihood."""
    answered = runs[0]
    categories = _categories(answered, form)
    rank = next((m.rank for m in map(_metric, answered.task.metrics) if hasattr(m, "rank")), "class")
    entries, unknown = [], 0
    for sample, boxes, size in _read(answered):
        number = _id(sample, form, name, answered)
        for box in boxes:
            if box.label not in categories:
                unknown += 1
                continue
            entries.append(
                {
                    "image_id": number,
                    "category_id": categories[box.label],
                    "bbox": list(geometry.coco(box, size)),
                    "score": _confidence(box, rank),
                }
            )
    notes = [f"{unknown:,} boxes of no category of the dataset are left out"] if unknown else []
    notes += [] if entries else ["holds no box; pycocotools cannot load an empty list"]
    return Written(_json(entries), tuple(notes))


def _masks(runs: Sequence[ExportedRun], form: Form, name: str) -> Written:
    """COCO's run lengths, all of category 1; `image_id` is the sample's id, so each is scored separately."""
    answered = runs[0]
    entries, without = [], []
    for sample, masks, _ in _read(answered):
        number = _id(sample, form, name, answered)
        for mask in masks:
            coded = {"size": list(mask.size), "counts": mask.counts}
            entries.append({"image_id": number, "category_id": 1, "segmentation": coded, "score": 1.0})
        without += [] if masks else [sample.id]
    notes = _noted(without, "without a mask and left out")
    notes += [] if entries else ["holds no mask; pycocotools cannot load an empty list"]
    return Written(_json(entries), tuple(notes))


def _words(runs: Sequence[ExportedRun], form: Form, name: str) -> Written:
    """HierText's annotations: each word is a line of one paragraph; images without words are included."""
    answered = runs[0]
    annotations = []
    for sample, boxes, (height, width) in _read(answered):
        lines = []
        for box in boxes:
            x0, x1, y0, y1 = box.x0 * width, box.x1 * width, box.y0 * height, box.y1 * height
            word = {"vertices": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]], "text": box.label}
            lines.append({"text": box.label, "words": [word]})
        paragraphs = [{"lines": lines}] if lines else []
        annotations.append({form.id: _id(sample, form, name, answered), "paragraphs": paragraphs})
    return Written(_json({"annotations": annotations}))


def _read(answered: ExportedRun) -> list[tuple[Sample, Sequence[Any], Size]]:
    """(sample, its answer, its image's (height, width)) of all. Raises UserError if a size is unknown."""
    parser = answered.data.parser
    sizes = []
    for sample in answered.samples:
        known = answered.predictions[sample.id].sizes
        size = sample.size or (known[0] if known else None)
        if size is None:
            raise UserError(
                f"{answered.run}: sample {sample.id}: the image's size is not known; run it again"
            )
        sizes.append(size)
    given = [answered.predictions[s.id] for s in answered.samples]
    found = calls.answers(answered.task, parser, given, sizes)
    return [(s, answer or (), size) for s, answer, size in zip(answered.samples, found, sizes, strict=True)]


def _metric(spelling: str) -> Any:
    return registry.make("metrics", spelling)


def _confidence(box: Box, rank: str) -> float:
    """A box's score as coco_ap ranks it, so that the official script gets the same order."""
    if rank == "logprob":
        return box.score
    return box.class_score if rank == "class" and box.class_score is not None else 1.0


def _categories(answered: ExportedRun, form: Form) -> dict[str, int]:
    """Name -> the dataset's own number, from its annotations (COCO's have gaps)."""
    source = answered.data.source
    if "path" not in source.entry or answered.format.split("(")[0] not in form.formats:
        raise UserError(
            f"{answered.run}: category numbers are in COCO's annotations, and {answered.task.name} has "
            f"format {answered.format}; choose another form, such as jsonl"
        )
    return {c["name"]: c["id"] for c in readers.read_json(source.path("path"))["categories"]}


# --- shared ----------------------------------------------------------------------------------------


def _texts(answered: ExportedRun) -> dict[str, str]:
    """The answers by sample id, as the task's parser reads them; '' where it reads none."""
    parser = answered.data.parser
    read = ((s.id, parser.read(answered.predictions[s.id], s.size)) for s in answered.samples)
    return {name: "" if answer is None else str(answer) for name, answer in read}


def _id(sample: Sample, form: Form, name: str, answered: ExportedRun) -> int | str:
    """The id as the server requires it."""
    if form.whole:
        if not re.fullmatch(r"[0-9]+", sample.id):
            raise UserError(
                f"{answered.run}: --to {name} needs whole numbers as {form.id}, and a sample of "
                f"{answered.task.name} is called '{sample.id}'; choose another form, such as jsonl"
            )
        return int(sample.id)
    if form.picture and not sample.id.lower().endswith(_PICTURE):
        return sample.id + ".jpg"
    return sample.id


def _json(content: Any) -> str:
    """JSON in ASCII, since official scripts open files in any encoding; one line, as in servers' examples."""
    return json_text(content, ascii_only=True) + "\n"


LIST, MAP = Layout(_list), Layout(_map)
OBJECT = Layout(_object, merges=True)
COLUMNS, PAIRS = Layout(_columns), Layout(_pairs)
LINES, TABLE = Layout(_lines, wants=""), Layout(_table, wants="")
BOXES, MASKS, WORDS = Layout(_boxes, "boxes"), Layout(_masks, "masks"), Layout(_words, "boxes")
