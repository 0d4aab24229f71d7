"""What each command does, in terms of the rooms below. Prints results on stdout, the rest on stderr."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evalkit import models
from evalkit.cli.run import _ids, _models, _pair
from evalkit.comparison import compare
from evalkit.data import sources
from evalkit.errors import UserError
from evalkit.evaluation import callbacks, early_stopping, estimate, progress
from evalkit.evaluation import plan as planning
from evalkit.evaluation import predict as predicting
from evalkit.evaluation.plan import Plan
from evalkit.evaluation.score import Scored, read_predictions, score
from evalkit.runs import scored_run, store
from evalkit.runs.scored_run import Answered
from evalkit.tasks import dataset, loader
from evalkit.tasks.dataset import Asked
from evalkit.types import Checkpoint, Score, Task, why_not_scored


def evaluate(
    candidate: Checkpoint, base: Sequence[Answered], arguments: argparse.Namespace
) -> list[Answered]:
    """Runs a checkpoint on a baseline's tasks, as the baseline was run, and reads its runs.

    Without --output-path it starts from nothing in `checks/`: answers of older code prove nothing.
    """
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%f")
    output = arguments.output_path or Path("checks") / stamp
    folders = []
    for run in base:
        task = loader.load(run.task, dict(run.overrides), arguments.include_path)
        shelf = dataset.Shelf(roots(arguments.data_root, [task]))
        asked = Asked(**{**run.asked, "ids": tuple(run.asked["ids"]) if run.asked.get("ids") else None})
        if arguments.limit and (asked.limit is None or arguments.limit < asked.limit):
            asked = Asked(arguments.limit, asked.seed)
        plan = planning.plan(shelf.get(task), candidate, output, asked, str(run.identity["protocol"]))
        predict([plan], shelf, candidate)
        folders.append(plan.folder)
    return scored_run.of_runs(folders)


def predict(
    plans: Sequence[Plan],
    shelf: dataset.Shelf,
    candidate: Checkpoint,
    told: callbacks.OnScores | None = None,
) -> None:
    """Predicts and scores plans with the usual plan, progress and scores on stderr."""
    progress.plan(candidate, plans)
    bar = progress.Bar()

    def done(plan: Plan, scores: list[Score]) -> None:
        bar.close()
        if plan.missing:
            progress.scores(plan, scores)
        if told is not None:
            told(plan.folder.name, scores)

    try:
        predicting.run(plans, shelf, candidate, predicting.Options(command=" ".join(sys.argv[1:])), bar, done)
    finally:
        bar.close()


DEMO = "demo"  # `--model demo:later`, the suite, and the folder of the generated benchmark


def execute(arguments: argparse.Namespace, command: str) -> list[store.RunFolder]:
    """Does what `evalkit run` is asked for; returns the run folders, models first, then tasks."""
    if arguments.num_fewshot != "0":
        raise UserError(
            f"--num-fewshot {arguments.num_fewshot}: PaliGemma's prompts are zero-shot, transfer and mix "
            "checkpoints were never trained on examples in the prompt; leave it out, or say 0"
        )
    wanted = [name for names in arguments.tasks for name in names.split(",") if name]
    overrides = dict(_pair(text) for text in arguments.set)
    if arguments.prompt is not None:
        overrides["prompt"] = arguments.prompt
    names = loader.expand(wanted, arguments.include_path)
    loaded = [loader.load(name, overrides, arguments.include_path) for name in names]
    reference = None
    if arguments.against or arguments.until_decided:  # what is wrong with it is said before anything runs
        reference = compare.base(arguments.against, [task.name for task in loaded])
    ids = _ids(arguments.ids) if arguments.ids else None
    asked = Asked(arguments.limit if ids is None else None, arguments.seed, ids)
    checkpoints = [checkpoint(spec, arguments) for spec in _models(arguments)]
    options = predicting.Options(arguments.on_bad_image, arguments.resume_across, command)
    shelf = dataset.Shelf(roots(arguments.data_root, loaded))
    output, protocol = arguments.output_path, arguments.protocol
    every = _plan_all(checkpoints, loaded, shelf, output, asked, protocol, options)
    if arguments.dry_run:
        for plans, candidate in zip(every, checkpoints, strict=True):
            found = [estimate.estimate(plan, shelf, candidate, output) for plan in plans]
            print(f"{candidate.name}: {estimate.describe(found)}")
        return []
    act: Callable[..., Any] = predicting.run
    if arguments.until_decided and reference:
        act = early_stopping.until_decided(reference, arguments.margin)
    told = callbacks.load(arguments.on_scores) if arguments.on_scores else None
    return _run_all(checkpoints, every, shelf, options, act, told)


def _plan_all(
    checkpoints: Sequence[Checkpoint],
    wanted: Sequence[Task],
    shelf: dataset.Shelf,
    output: Path,
    asked: Asked,
    protocol: str | None,
    options: predicting.Options,
) -> list[list[Plan]]:
    """The plans of every checkpoint, told. All is read before anything runs: gaps are said at once."""
    every: list[list[Plan]] = [[] for _ in checkpoints]
    for task in wanted:
        for plans, candidate in zip(every, checkpoints, strict=True):
            data = shelf.get(task)
            plans.append(planning.plan(data, candidate, output, asked, protocol, options.on_bad_image))
    for plans, candidate in zip(every, checkpoints, strict=True):
        progress.plan(candidate, plans)
    return every


def _run_all(
    checkpoints: Sequence[Checkpoint],
    every: Sequence[Sequence[Plan]],
    shelf: dataset.Shelf,
    options: predicting.Options,
    act: Callable[..., Any] = predicting.run,
    told: callbacks.OnScores | None = None,
) -> list[store.RunFolder]:
    for plans, candidate in zip(every, checkpoints, strict=True):
        bar = progress.Bar()
        if any(p.missing for p in plans):
            progress.say(f"{candidate.name}:")

        def done(plan: Plan, scores: list[Score], bar: progress.Bar = bar) -> None:
            bar.close()
            if plan.missing:
                progress.scores(plan, scores)
            if told is not None:
                told(plan.folder.name, scores)

        try:
            act(plans, shelf, candidate, options, bar, done)
        finally:
            bar.close()
    return [p.folder for plans in every for p in plans]


def _model_args(text: str) -> dict[str, str]:
    found = {}
    for part in filter(None, text.split(",")):
        key, mark, value = part.partition("=")
        if not mark or not key:
            raise UserError(f"--model_args {part}: write key=value, with a comma between two")
        found[key] = value
    return found


def checkpoint(spec: str, arguments: argparse.Namespace) -> Checkpoint:
    """The checkpoint that a `--model` means, `demo:NAME` among them, inspected but not loaded."""
    given = {k: getattr(arguments, k, None) for k in models.KEYS}
    flags = {k: v for k, v in given.items() if v is not None}
    args = _model_args(arguments.model_args)
    args.pop("pretrained", None)
    name = ""
    if spec.startswith(f"{DEMO}:"):
        which, resolution = spec.partition(":")[2], int(args.get("resolution", flags.get("resolution", 224)))
        name = f"demo-{which}" + (f"-{resolution}" if resolution != 224 else "")
        spec = _embedded(spec, resolution)
    return models.open_checkpoint(spec, flags, args, name, progress.say)


def _embedded(spec: str, resolution: int) -> str:
    """The folder of `demo:NAME`. Raises UserError for a name or a resolution that is not there."""
    from evalkit import demo

    try:
        return str(demo.checkpoint(spec.partition(":")[2], resolution))
    except ValueError as error:
        raise UserError(f"--model {spec}: {error}") from None


def roots(given: Sequence[Path], wanted: Sequence[Task]) -> list[Path]:
    """The data roots; the generated benchmark is written into the cache the first time it is asked for."""
    from evalkit import demo

    found = sources.roots(given)
    named = (place for task in wanted for entry in task.data.sources for place in entry.values())
    if any(str(place).startswith(f"{demo.SCENES}/") for place in named):
        from evalkit.demo.benchmark import benchmark

        found.append(benchmark())
    return found


def rescore(arguments: argparse.Namespace) -> list[store.RunFolder]:
    """Scores the named runs again from their files."""
    if not arguments.runs:
        raise UserError("score: name run folders, or --task TASK --predictions FILE")
    folders = store.find(arguments.runs)
    if not folders:
        raise UserError(f"score: no runs below {', '.join(map(str, arguments.runs))}")
    for folder in folders:
        _rescore(folder, arguments)
    return folders


def found_again(
    folder: store.RunFolder, arguments: argparse.Namespace
) -> tuple[dict[str, Any], dataset.Shelf, Task]:
    """run.json, where its data lies, and today's task file with the overrides that it was run with."""
    run = folder.read_run()
    if run is None:
        raise UserError(f"{folder.path}: holds no run.json")
    path = run["task_file"]["path"]
    name = path if Path(path).is_file() and path.endswith((".yaml", ".yml")) else run["task"]
    task = loader.load(name, run["task_file"]["overrides"], arguments.include_path)
    shelf = dataset.Shelf(roots([*arguments.data_root, Path(run["source"]["root"])], [task]))
    return run, shelf, task


def _rescore(folder: store.RunFolder, arguments: argparse.Namespace) -> None:
    run, shelf, task = found_again(folder, arguments)
    data = shelf.get(task)
    asked = Asked(**{**run["asked"], "ids": tuple(run["asked"]["ids"]) if run["asked"]["ids"] else None})
    wanted = tuple(s.id for s in dataset.choose(data.samples, asked))
    plan = Plan(
        task=task, protocol="", preparation=loader.preparation(task, 224, "paper"), source=data.source,
        folder=folder, identity=run["identity"], digest=run["digest"], asked=asked, total=len(data.samples),
        wanted=wanted, missing=(), targets=data.targets, official=data.short_of, model=run["model"],
        early=bool(run.get("early")),
    )  # fmt: skip
    predicting.score(plan, shelf)


def score_predictions(arguments: argparse.Namespace) -> tuple[dataset.Dataset, Scored, list[str]]:
    """The dataset, how a file of predictions scores, and the ids that the file leaves out."""
    if not arguments.task or arguments.runs:
        raise UserError("score --predictions FILE: name the task they answer with --task, and no runs")
    task = loader.load(arguments.task, extra=arguments.include_path)
    if task.not_scored:
        raise UserError(f"score: {task.name}: {why_not_scored(task.not_scored)}")
    data = dataset.dataset(task, roots(arguments.data_root, [task]))
    predictions = read_predictions(arguments.predictions, data.samples)
    untold = [s.id for s in data.samples if s.id not in predictions]
    covered = "incomplete" if untold or data.short_of is not None else "all"
    scored = score(task, data.samples, predictions, covered, data.targets)
    return data, scored, untold
