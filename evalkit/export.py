"""A run's answers as the file that a test server or an official script reads. Computes no score.

The forms are data: a new one is one entry of FORMS.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from evalkit import leaderboard, lookup, sources
from evalkit.errors import UserError, nearest
from evalkit.planning import Dataset
from evalkit.types import Box, Parser, Prediction, Sample, Task

AUTO = "auto"
_PICTURE = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Form:
    """One way of writing answers down.

    `layout` is list ([{id: ..., text: ...}]), map ({id: text}), object ({id: {field: text}}, runs of
    several fields merge), boxes (one entry a box), lines or table (any run; the text as the model wrote
    it). `id` and `text` are the keys; `whole`: ids are integers; `picture`: ids are image files' names.
    `tasks` and `formats` say for which tasks `auto` takes it, names before formats. `stems` are
    (pattern, replacement) for the dataset file's name without suffix: the first that fits gives
    `{stem}` of `file`, else it is the task's name. `file` may also name task, split, model
    and setting (mc: a choice, da: a direct answer).
    """

    about: str
    layout: str = "list"
    id: str = "question_id"
    text: str = "answer"
    whole: bool = True
    picture: bool = False
    tasks: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    stems: tuple[tuple[str, str], ...] = ()
    file: str = "{task}_{model}.json"

    @property
    def generic(self) -> bool:
        return self.layout in ("lines", "table")


FORMS: dict[str, Form] = {
    "vqav2": Form(
        "VQA's test server and vqaEval.py",
        tasks=("vqav2_*",), formats=("vqa_json",),
        stems=((r"(.*)_questions", r"\1"),), file="{stem}_{model}_results.json",
    ),
    "textvqa": Form("TextVQA's test server", tasks=("textvqa_*",), formats=("textvqa",)),
    "vizwiz": Form(
        "VizWiz-VQA's test server", id="image", whole=False, picture=True, tasks=("vizwiz_*",)
    ),
    "docvqa": Form(
        "the RRC server, DocVQA and InfographicVQA", id="questionId",
        tasks=("docvqa_*", "infovqa_*"), formats=("docvqa",),
    ),
    "stvqa": Form("the RRC server, ST-VQA", tasks=("stvqa_*",)),
    "nocaps": Form("nocaps' test server", id="image_id", text="caption", tasks=("nocaps_*",)),
    "coco_captions": Form(
        "COCO's caption server and pycocoevalcap", id="image_id", text="caption",
        tasks=("cococap_*", "coco_captions_*"),
        # the images of Karpathy's val and test are all of val2014
        stems=((r"(captions_.*)", r"\1"), ("dataset_coco", "captions_val2014")),
        file="{stem}_{model}_results.json",
    ),
    "textcaps": Form(
        "TextCaps' test server", id="image_id", text="caption", whole=False, tasks=("textcaps_*",)
    ),
    "gqa": Form(
        "GQA's test server and eval.py", id="questionId", text="prediction", whole=False, formats=("gqa",)
    ),
    "aokvqa": Form(
        "A-OKVQA's leaderboard", layout="object", whole=False,
        tasks=("aokvqa_*",), file="predictions_{split}.json",
    ),
    "aokvqa_eval": Form(
        "A-OKVQA's eval_predictions.py", layout="map", whole=False, file="predictions_{split}-{setting}.json"
    ),
    "coco_detections": Form(
        "COCO's detection server and pycocotools", layout="boxes", id="image_id",
        formats=("coco_detection",), stems=((r"(?:instances|image_info)_(.+)", r"detections_\1"),),
        file="{stem}_{model}_results.json",
    ),
    "jsonl": Form("a line a sample: id, text", layout="lines", file="{task}_{model}.jsonl"),
    "csv": Form("a row a sample: id, text", layout="table", file="{task}_{model}.csv"),
}  # fmt: skip


@dataclass(frozen=True)
class Answered:
    """A run found again: its data and what was predicted of it."""

    run: str
    model: str
    data: Dataset
    predictions: Mapping[str, Prediction]

    @property
    def task(self) -> Task:
        return self.data.task

    @property
    def samples(self) -> list[Sample]:
        """Those that have a prediction, in the order of the dataset."""
        return [s for s in self.data.samples if s.id in self.predictions]


@dataclass(frozen=True)
class Written:
    """What goes into the file, and what a person should know of it."""

    text: str
    notes: tuple[str, ...] = ()


# --- which form ----------------------------------------------------------------------------------


def choose(answered: Answered, to: str = AUTO) -> str:
    """The form's name. Raises UserError for an unknown one, or where the task does not tell."""
    if to != AUTO:
        if to not in FORMS:
            raise UserError(f"--to {to}: unknown{nearest(to, FORMS)}")
        return to
    task = answered.task
    found = [name for name, form in FORMS.items() if any(fnmatch(task.name, p) for p in form.tasks)]
    spelled = _format(answered).split("(")[0]
    found = found or [name for name, form in FORMS.items() if spelled in form.formats]
    if len(found) == 1:
        return found[0]
    raise UserError(
        f"{answered.run}: task {task.name} has no official form that evalkit knows of; "
        f"choose one by --to: {', '.join(FORMS)}"
    )


def _format(answered: Answered) -> str:
    """The format's spelling: the source's own, or the task's."""
    return str(answered.data.source.entry.get("format", answered.task.data.format))


# --- checks --------------------------------------------------------------------------------------


def gap(answered: Answered) -> str:
    """What of the official samples has no answer, in words; '' when nothing."""
    data = answered.data
    untold = [s.id for s in data.samples if s.id not in answered.predictions]
    parts = []
    if untold:
        have = f"{len(data.samples) - len(untold):,} of {len(data.samples):,}"
        parts.append(f"has {have} answers, the first missing is {untold[0]}")
    official = data.task.data.count  # servers know nothing of the papers' own copies
    if official is not None and official != len(data.samples):
        parts.append(f"the data on disk holds {len(data.samples):,} of officially {official:,} samples")
    return ", and ".join(parts)


def refuse(answered: Answered, name: str, partial: bool) -> None:
    """Raises UserError for a run that has no such form, or is not complete."""
    form, task = FORMS[name], answered.task
    if not answered.samples:
        raise UserError(f"{answered.run}: has no answer to a sample of {task.name}; run it first")
    if not form.generic:
        parser: Parser = lookup.make("parsers", task.parser)
        wanted = "boxes" if form.layout == "boxes" else "text"
        if parser.kind != wanted:
            raise UserError(
                f"{answered.run}: --to {name} wants {wanted}, but {task.name}'s parser {task.parser} gives "
                f"{parser.kind}; choose another, such as jsonl"
            )
        if getattr(lookup.make("formats", _format(answered)), "id", None) == "":
            raise UserError(
                f"{answered.run}: the ids of {task.name} are row numbers, and --to {name} wants the "
                f"dataset's own; name their key in the task file, as id='question_id' of data: format"
            )
    if (missing := gap(answered)) and not partial:
        raise UserError(f"{answered.run}: {missing}; run the rest, or say --allow-partial")


# --- what is written -------------------------------------------------------------------------------


def file_name(answered: Answered, name: str) -> str:
    """As the server wants it, where it wants anything."""
    form, data = FORMS[name], answered.data
    entry = data.source.entry
    stem = Path(str(entry.get("questions", entry.get("path", "")))).stem
    told = next((m.expand(to) for p, to in form.stems if (m := re.fullmatch(p, stem))), data.task.name)
    model = re.sub(r"[^A-Za-z0-9.-]+", "-", answered.model).strip("-.") or "model"
    setting = "mc" if _chosen(answered) else "da"
    split = data.task.data.split
    return form.file.format(stem=told, task=data.task.name, split=split, model=model, setting=setting)


def _chosen(answered: Answered) -> bool:
    """Whether the questions come with choices."""
    return "choices" in answered.samples[0].fields


def write(runs: Sequence[Answered], name: str) -> Written:
    """The file's content. Several runs only where the form merges them (`merges`)."""
    layouts: dict[str, Callable[[Sequence[Answered], str], Written]] = {
        "list": _list, "map": _map, "object": _object, "boxes": _boxes, "lines": _lines, "table": _table,
    }  # fmt: skip
    return layouts[FORMS[name].layout](runs, name)


def merges(answered: Answered, name: str) -> tuple[str, ...]:
    """Runs that give the same are parts of one file: those of one model and split."""
    if FORMS[name].layout == "object":
        return (name, answered.model, answered.task.data.split)
    return (name, answered.run)


def _list(runs: Sequence[Answered], name: str) -> Written:
    form, answered = FORMS[name], runs[0]
    answers = _texts(answered)
    told = [{form.id: _id(s, form, name, answered), form.text: answers[s.id]} for s in answered.samples]
    return Written(_json(told))


def _map(runs: Sequence[Answered], _: str) -> Written:
    answers = _texts(runs[0])
    return Written(_json(answers), tuple(_no_choices(runs[0], answers)) if _chosen(runs[0]) else ())


def _object(runs: Sequence[Answered], name: str) -> Written:
    """A-OKVQA's {question: {"multiple_choice": a choice, "direct_answer": text}}, one or both."""
    content: dict[str, dict[str, str]] = {}
    taken: dict[str, str] = {}
    notes: list[str] = []
    for answered in runs:
        key = "multiple_choice" if _chosen(answered) else "direct_answer"
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
    notes += [f"only {key}: name the other run too for both" for key in taken if len(taken) == 1]
    half = next((q for q, given in content.items() if len(given) < len(taken)), None)
    if half is not None:
        notes.append(f"the runs answer different questions, the first that one lacks is {half}")
    return Written(_json(content), tuple(notes))


def _no_choices(answered: Answered, answers: Mapping[str, str]) -> list[str]:
    """A note when answers are no choice of their question: the official script stops at these."""
    joined = getattr(lookup.make("formats", _format(answered)), "joined", " \t ")
    wrong = [s.id for s in answered.samples if answers[s.id] not in s.fields["choices"].split(joined)]
    return [f"{len(wrong):,} answers are none of the choices, the first is {wrong[0]}"] if wrong else []


def _boxes(runs: Sequence[Answered], name: str) -> Written:
    """COCO's [x, y, width, height] in pixels; the score is what the task's metric ranks by."""
    form, answered = FORMS[name], runs[0]
    categories = _categories(answered)
    rank = next((m.rank for m in map(_metric, answered.task.metrics) if hasattr(m, "rank")), "constant")
    parser: Parser = lookup.make("parsers", answered.task.parser)
    told, unknown = [], 0
    for sample in answered.samples:
        prediction = answered.predictions[sample.id]
        size = sample.size or (prediction.sizes[0] if prediction.sizes else None)
        if size is None:
            raise UserError(
                f"{answered.run}: sample {sample.id}: the image's size is not known; run it again"
            )
        height, width = size
        number = _id(sample, form, name, answered)
        for box in parser.read(prediction, size) or ():
            if box.label not in categories:
                unknown += 1
                continue
            pixels = [box.x0 * width, box.y0 * height, (box.x1 - box.x0) * width, (box.y1 - box.y0) * height]
            told.append(
                {
                    "image_id": number,
                    "category_id": categories[box.label],
                    "bbox": pixels,
                    "score": _confidence(box, rank),
                }
            )
    notes = [f"{unknown:,} boxes of no category of the dataset are left out"] if unknown else []
    notes += [] if told else ["holds no box; pycocotools cannot load an empty list"]
    return Written(_json(told), tuple(notes))


def _metric(spelling: str) -> Any:
    return lookup.make("metrics", spelling)


def _confidence(box: Box, rank: str) -> float:
    """As coco_ap orders boxes, so that the official script finds the same order."""
    if rank == "logprob":
        return box.score
    return box.class_score if rank == "class" and box.class_score is not None else 1.0


def _categories(answered: Answered) -> dict[str, int]:
    """Name -> the dataset's own number, from its annotations (COCO's have gaps)."""
    source = answered.data.source
    if "path" not in source.entry or not _format(answered).startswith("coco_detection"):
        raise UserError(
            f"{answered.run}: category numbers are in COCO's annotations, and {answered.task.name} has "
            f"format {_format(answered)}; choose another form, such as jsonl"
        )
    return {c["name"]: c["id"] for c in sources.read_json(source.path("path"))["categories"]}


def _lines(runs: Sequence[Answered], _: str) -> Written:
    given = runs[0].predictions
    told = [{"id": s.id, "text": given[s.id].text} for s in runs[0].samples]
    return Written("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in told))


def _table(runs: Sequence[Answered], _: str) -> Written:
    """Text that a spreadsheet would run as a formula begins with a '."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "text"])
    for sample in runs[0].samples:
        text = runs[0].predictions[sample.id].text
        writer.writerow([leaderboard.neutral(sample.id), leaderboard.neutral(text)])
    return Written(out.getvalue())


def _texts(answered: Answered) -> dict[str, str]:
    """What the task's parser reads, '' where it reads nothing."""
    parser: Parser = lookup.make("parsers", answered.task.parser)
    read = ((s.id, parser.read(answered.predictions[s.id], s.size)) for s in answered.samples)
    return {name: "" if answer is None else str(answer) for name, answer in read}


def _id(sample: Sample, form: Form, name: str, answered: Answered) -> int | str:
    """The id in the form that the server wants."""
    if form.whole:
        if not re.fullmatch(r"[0-9]+", sample.id):
            raise UserError(
                f"{answered.run}: --to {name} wants whole numbers as {form.id}, and a sample of "
                f"{answered.task.name} is called '{sample.id}'; choose another form, such as jsonl"
            )
        return int(sample.id)
    if form.picture and not sample.id.lower().endswith(_PICTURE):
        return sample.id + ".jpg"
    return sample.id


def _json(content: Any) -> str:
    """ASCII, since official scripts open files in whatever encoding; one line, as the servers' own."""
    return json.dumps(content) + "\n"
