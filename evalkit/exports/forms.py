"""A run's answers as the file that a test server or an official script reads. Computes no score.

The forms are data: a new form is one entry in FORMS, a new layout one function in `layouts`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from evalkit import registry
from evalkit.errors import UserError, nearest
from evalkit.exports.layouts import (
    BOXES,
    COLUMNS,
    LINES,
    LIST,
    MAP,
    MASKS,
    OBJECT,
    PAIRS,
    TABLE,
    WORDS,
    ExportedRun,
    Form,
    Written,
)
from evalkit.types import Parser

AUTO = "auto"
FORMS: dict[str, Form] = {
    "vqav2": Form(
        "VQA's test server and vqaEval.py", LIST,
        tasks=("vqav2_*",), formats=("vqa_json",),
        stems=((r"(.*)_questions", r"\1"),), file="{stem}_{model}_results.json",
    ),
    "textvqa": Form("TextVQA's test server", LIST, tasks=("textvqa_*",), formats=("textvqa",)),
    "vizwiz": Form(
        "VizWiz-VQA's test server", LIST, id="image", whole=False, picture=True, tasks=("vizwiz_*",)
    ),
    "docvqa": Form(
        "the RRC server, DocVQA and InfographicVQA", LIST, id="questionId",
        tasks=("docvqa_*", "infovqa_*"), formats=("docvqa",),
    ),
    "stvqa": Form("the RRC server, ST-VQA", LIST, tasks=("stvqa_*",)),
    "gqa": Form(
        "GQA's test server and eval.py", LIST, id="questionId", text="prediction", whole=False,
        formats=("gqa",),
    ),
    "aokvqa": Form(
        "A-OKVQA's leaderboard", OBJECT, whole=False, tasks=("aokvqa_*",), file="predictions_{split}.json"
    ),
    "aokvqa_eval": Form(
        "A-OKVQA's eval_predictions.py", MAP, whole=False, file="predictions_{split}-{setting}.json"
    ),
    "nlvr2": Form(
        "NLVR2's metrics.py", PAIRS, whole=False, labels=("true", "false"),
        formats=("nlvr2",), file="predictions.csv",
    ),
    "nocaps": Form("nocaps' test server", LIST, id="image_id", text="caption", tasks=("nocaps_*",)),
    "coco_captions": Form(
        "COCO's caption server and pycocoevalcap", LIST, id="image_id", text="caption",
        tasks=("cococap_*", "coco_captions_*"),
        # the images of Karpathy's val and test are all of val2014
        stems=((r"(captions_.*)", r"\1"), ("dataset_coco", "captions_val2014")),
        file="{stem}_{model}_results.json",
    ),
    "textcaps": Form(
        "TextCaps' test server", LIST, id="image_id", text="caption", whole=False, tasks=("textcaps_*",)
    ),
    "vatex": Form("VATEX's test server", MAP, whole=False, tasks=("vatex_*",), file="submission.json"),
    "coco_detections": Form(
        "COCO's detection server and pycocotools", BOXES, id="image_id",
        formats=("coco_detection",), stems=((r"(?:instances|image_info)_(.+)", r"detections_\1"),),
        file="{stem}_{model}_results.json",
    ),
    "coco_masks": Form(
        "pycocotools, masks of what sentences refer to", MASKS, id="image_id", tasks=("refcoco*_seg_*",)
    ),
    "hiertext": Form(
        "HierText's eval.py", WORDS, id="image_id", whole=False,
        formats=("words",), file="{task}_{model}.jsonl",
    ),
    "pubtabnet": Form("PubTabNet's metric.py (TEDS)", MAP, whole=False, formats=("table_html",)),
    "molscribe": Form(
        "MolScribe's evaluate.py", COLUMNS, id="image_id", text="SMILES", whole=False,
        tasks=("molecules_*",), stems=((r"(.+)", r"\1"),), file="prediction_{stem}.csv",
    ),
    "jsonl": Form("one line per sample: id, text", LINES, file="{task}_{model}.jsonl"),
    "csv": Form("one row per sample: id, text", TABLE, file="{task}_{model}.csv"),
}  # fmt: skip


# --- which form ----------------------------------------------------------------------------------


def choose(answered: ExportedRun, to: str = AUTO) -> str:
    """The form's name. Raises UserError if it is unknown or the task does not determine it."""
    if to != AUTO:
        if to not in FORMS:
            raise UserError(f"--to {to}: unknown{nearest(to, FORMS)}")
        return to
    task = answered.task
    found = [name for name, form in FORMS.items() if any(fnmatch(task.name, p) for p in form.tasks)]
    spelled = answered.format.split("(")[0]
    found = found or [name for name, form in FORMS.items() if spelled in form.formats]
    if len(found) == 1:
        return found[0]
    raise UserError(
        f"{answered.run}: task {task.name} has no official form that evalkit knows; "
        f"choose one with --to: {', '.join(FORMS)}"
    )


# --- checks --------------------------------------------------------------------------------------


def gap(answered: ExportedRun) -> str:
    """Which official samples have no answer, in words; '' when all have one."""
    data = answered.data
    missing = [s.id for s in data.samples if s.id not in answered.predictions]
    parts = []
    if missing:
        have = f"{len(data.samples) - len(missing):,} of {len(data.samples):,}"
        parts.append(f"has {have} answers, the first missing is {missing[0]}")
    official = data.task.data.count  # not published_count: servers don't have the papers' own copies
    if official is not None and official != len(data.samples):
        parts.append(f"the data on disk holds {len(data.samples):,} of officially {official:,} samples")
    return ", and ".join(parts)


def refuse(answered: ExportedRun, name: str, partial: bool) -> None:
    """Raises UserError if the run cannot be written in the form, or is not complete."""
    form, task = FORMS[name], answered.task
    if not answered.samples:
        raise UserError(f"{answered.run}: has no answer to a sample of {task.name}; run it first")
    if wanted := form.layout.wants:
        parser: Parser = registry.make("parsers", task.parser)
        if parser.kind != wanted:
            raise UserError(
                f"{answered.run}: --to {name} needs {wanted}, but {task.name}'s parser {task.parser} gives "
                f"{parser.kind}; choose another, such as jsonl"
            )
        if getattr(registry.make("formats", answered.format), "id", None) == "":
            raise UserError(
                f"{answered.run}: the ids of {task.name} are row numbers, and --to {name} needs the "
                f"dataset's own; name their key in the task file, as id='question_id' of data: format"
            )
    if (missing := gap(answered)) and not partial:
        raise UserError(f"{answered.run}: {missing}; run the rest, or give --allow-partial")


# --- what is written -------------------------------------------------------------------------------


def file_name(answered: ExportedRun, name: str) -> str:
    """The name of the file, as the server requires it where it requires one."""
    form, data = FORMS[name], answered.data
    entry = data.source.entry
    stem = Path(str(entry.get("questions", entry.get("path", "")))).stem
    stem = next((m.expand(to) for p, to in form.stems if (m := re.fullmatch(p, stem))), data.task.name)
    model = re.sub(r"[^A-Za-z0-9.-]+", "-", answered.model).strip("-.") or "model"
    setting = "mc" if answered.chosen else "da"
    split = data.task.data.split
    return form.file.format(stem=stem, task=data.task.name, split=split, model=model, setting=setting)


def write(runs: Sequence[ExportedRun], name: str) -> Written:
    """The file's content; several runs are allowed only where the form merges them (see `merges`)."""
    return FORMS[name].layout.write(runs, FORMS[name], name)


def merges(answered: ExportedRun, name: str) -> tuple[str, ...]:
    """A key; runs with equal keys go into one file: those of one model and split, if the form merges."""
    if FORMS[name].layout.merges:
        return (name, answered.model, answered.task.data.split)
    return (name, answered.run)
