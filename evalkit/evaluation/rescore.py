"""Scores without a model: runs again from their files, and predictions that were made elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit import conventions
from evalkit.data.readers import unusual_separator
from evalkit.errors import DataError, MetricsFailed, TasksFailed, UserError
from evalkit.evaluation import asked, given, predict, progress
from evalkit.evaluation.plan import ToScore
from evalkit.evaluation.score import Scored, score
from evalkit.options.fields import paths
from evalkit.options.model import DataOptions
from evalkit.options.verbs import ScoreOptions
from evalkit.runs import store
from evalkit.runs.store import RunFolder
from evalkit.tasks import loader
from evalkit.tasks.dataset import Dataset, DatasetCache, Selection, choose, roots
from evalkit.tasks.turned import turned_elsewhere
from evalkit.types import Parser, Task, why_not_scored


@dataclass(frozen=True)
class Found:
    """A run on disk with where its data is, and today's task file with the run's overrides."""

    run: dict[str, Any]  # run.json
    datasets: DatasetCache
    task: Task


def rescore(options: ScoreOptions) -> list[RunFolder]:
    """Scores the named runs again from their files. Raises TasksFailed, after the others are scored, where
    one of several cannot be."""
    places = paths(options.runs)
    if not places:
        raise UserError("score: name run folders, or --task TASK --predictions FILE")
    folders = store.find(places)
    if not folders:
        raise UserError(f"score: no runs below {', '.join(map(str, places))}")
    failures: dict[str, UserError] = {}
    for folder in folders:
        try:
            _rescore(folder, options)
        except UserError as error:
            if len(folders) == 1 and not isinstance(error, MetricsFailed):
                raise
            failures[folder.name] = error
    done = [f for f in folders if isinstance(failures.get(f.name), MetricsFailed | None)]
    if failures:
        raise TasksFailed(failures, done, len(folders) - len(failures))
    return done


def find(folder: RunFolder, options: DataOptions, changed: Mapping[str, str] | None = None) -> Found:
    """What is needed to look at a run again, keys of its task `changed`. Raises UserError for a folder that
    is no run."""
    run = folder.read_run()
    if run is None:
        raise UserError(f"{folder.path}: holds no run.json")
    path = run["task_file"]["path"]
    name = path if Path(path).is_file() and path.endswith((".yaml", ".yml")) else run["task"]
    overrides = {**run["task_file"]["overrides"], **(changed or {})}
    task = loader.load(name, overrides, paths(options.include_path))
    given = [*paths(options.data_root), Path(run["source"]["root"])]
    return Found(run, DatasetCache(roots(given, [task])), task)


def parser_of(run: Mapping[str, Any], data: Dataset) -> Parser:
    """The task's parser, as the checkpoint of a run was trained. `run` is run.json."""
    trained = run["identity"]["model"].get("conventions") or {}
    return conventions.parser(data.parser, trained.get("bins"))


def _rescore(folder: RunFolder, options: ScoreOptions) -> None:
    found = find(folder, options, options.overrides)
    data = found.datasets.get(found.task)
    answers = folder.answers(found.run["digest"], found.run)
    for odd in answers.aside:
        progress.say(f"warning: {folder.name}: {odd}")
    asked.refuse_others(data, found.run, answers.entries, folder.name)
    if found.run["seal"] and not asked.same_prompts(data, found.run):  # older digests were made otherwise
        raise DataError(
            f"{folder.name}: {data.task.name} has other samples now, or other choices or drawn marks; "
            f"{asked.REMEDY}"
        )
    wanted = choose(data.samples, Selection.of_run(found.run)).ids
    to_score = ToScore(
        task=found.task, parser=parser_of(found.run, data), folder=folder, wanted=wanted,
        total=len(data.samples), data=data.digest, targets=data.targets, official=data.short_of,
        early=bool(found.run.get("early")),
    )  # fmt: skip
    predict.score(to_score, found.datasets)


@dataclass(frozen=True)
class Elsewhere:
    """How a file of predictions scores, the ids that it leaves out, and the run where it was kept as one."""

    data: Dataset
    scored: Scored
    missing: list[str]
    folder: RunFolder | None


def score_predictions(options: ScoreOptions, command: str = "") -> Elsewhere:
    """Scores a file of predictions; with `output_path` they are kept there as a run."""
    if not options.task or not options.predictions or options.runs:
        raise UserError(
            "score --predictions FILE: name the task they answer with --task, and no runs; of data of "
            "your own --task results/tasks/NAME.yaml --data-root FOLDER"
        )
    task = loader.load(str(options.task), options.overrides, paths(options.include_path))
    if task.not_scored:
        raise UserError(f"score: {task.name}: {why_not_scored(task.not_scored)}")
    datasets = DatasetCache(roots(paths(options.data_root), [task]))
    data = datasets.get(task)
    predictions = given.read_predictions(str(options.predictions), data.samples, options.keys, task)
    if said := unusual_separator(Path(options.predictions)):
        progress.say(said)
    views = turned_elsewhere(data.samples)
    for said in views:
        progress.say(f"warning: {task.name}: {said}")
    missing = predictions.missing
    covered = "incomplete" if missing or data.short_of is not None else "all"
    scored = score(task, data.parser, data.samples, predictions, covered, data.targets, root=data.source.root)
    if options.output_path is None:
        return Elsewhere(data, scored, missing, None)
    file, output = str(options.predictions), Path(options.output_path)
    name = options.name or re.sub(r"[^\w.+@-]+", "-", Path(file).stem)
    folder = given.keep(task, datasets, predictions, file, name, output, command, views)
    return Elsewhere(data, scored, missing, folder)
