"""What each command does, in terms of the rooms below. Prints results on stdout, the rest on stderr."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evalkit import (
    asking,
    comparing,
    estimate,
    leaderboard,
    masks,
    means,
    models,
    planning,
    results,
    runner,
    scoring,
    sources,
    tables,
    tasks,
    terminal,
    trackers,
    yardstick,
)
from evalkit.errors import UserError
from evalkit.planning import Asked, Plan
from evalkit.types import Checkpoint, Score, Task

DEMO = "demo"  # `--model demo:later`, the suite, and the folder of the generated benchmark


# --- run -------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace, command: str) -> int:
    """`evalkit run`: every model on every task; plan first, then predict, score and the table."""
    folders = execute(arguments, command)
    if arguments.dry_run:
        return 0
    print()
    print(leaderboard.terminal(leaderboard.collect(folders), bold=sys.stdout.isatty()), end="", flush=True)
    if arguments.against and not arguments.until_decided:
        part = arguments.limit is not None or arguments.ids is not None
        comparing.after_run(arguments.against, folders, arguments.margin, ("samples",) if part else ())
    return 0


def execute(arguments: argparse.Namespace, command: str) -> list[results.RunFolder]:
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
    names = tasks.expand(wanted, arguments.include_path)
    loaded = [tasks.load(name, overrides, arguments.include_path) for name in names]
    reference = None
    if arguments.against or arguments.until_decided:  # what is wrong with it is said before anything runs
        reference = comparing.base(arguments.against, [task.name for task in loaded])
    ids = _ids(arguments.ids) if arguments.ids else None
    asked = Asked(arguments.limit if ids is None else None, arguments.seed, ids)
    checkpoints = [checkpoint(spec, arguments) for spec in _models(arguments)]
    options = runner.Options(arguments.on_bad_image, arguments.resume_across, command)
    shelf = planning.Shelf(roots(arguments.data_root, loaded))
    output, protocol = arguments.output_path, arguments.protocol
    every = _plan_all(checkpoints, loaded, shelf, output, asked, protocol, options)
    if arguments.dry_run:
        for plans, candidate in zip(every, checkpoints, strict=True):
            found = [estimate.estimate(plan, shelf, candidate, output) for plan in plans]
            print(f"{candidate.name}: {estimate.describe(found)}")
        return []
    act: Callable[..., Any] = runner.run
    if arguments.until_decided and reference:
        act = comparing.until_decided(reference, arguments.margin)
    told = trackers.load(arguments.on_scores) if arguments.on_scores else None
    return _run_all(checkpoints, every, shelf, options, act, told)


def _pair(text: str) -> tuple[str, str]:
    key, mark, value = text.partition("=")
    if not mark or not key:
        raise UserError(f"--set {text}: write KEY=VALUE, e.g. --set decode.max_new_tokens=64")
    return key, value


def _plan_all(
    checkpoints: Sequence[Checkpoint],
    wanted: Sequence[Task],
    shelf: planning.Shelf,
    output: Path,
    asked: Asked,
    protocol: str | None,
    options: runner.Options,
) -> list[list[Plan]]:
    """The plans of every checkpoint, told. All is read before anything runs: gaps are said at once."""
    every: list[list[Plan]] = [[] for _ in checkpoints]
    for task in wanted:
        for plans, candidate in zip(every, checkpoints, strict=True):
            data = shelf.get(task)
            plans.append(planning.plan(data, candidate, output, asked, protocol, options.on_bad_image))
    for plans, candidate in zip(every, checkpoints, strict=True):
        terminal.plan(candidate, plans)
    return every


def _run_all(
    checkpoints: Sequence[Checkpoint],
    every: Sequence[Sequence[Plan]],
    shelf: planning.Shelf,
    options: runner.Options,
    act: Callable[..., Any] = runner.run,
    told: trackers.OnScores | None = None,
) -> list[results.RunFolder]:
    for plans, candidate in zip(every, checkpoints, strict=True):
        bar = terminal.Bar()
        if any(p.missing for p in plans):
            terminal.say(f"{candidate.name}:")

        def done(plan: Plan, scores: list[Score], bar: terminal.Bar = bar) -> None:
            bar.close()
            if plan.missing:
                terminal.scores(plan, scores)
            if told is not None:
                told(plan.folder.name, scores)

        try:
            act(plans, shelf, candidate, options, bar, done)
        finally:
            bar.close()
    return [p.folder for plans in every for p in plans]


def demo(output: Path, limit: int | None) -> int:
    """`evalkit demo`: the embedded suite with the two embedded checkpoints."""
    loaded = [tasks.load(name) for name in tasks.expand([DEMO])]
    shelf = planning.Shelf(roots([], loaded))
    arguments = argparse.Namespace(
        model_args="", revision=None, resolution=None, dtype=None, device=None, device_map=None,
        batch_size="auto",
    )  # fmt: skip
    found = [checkpoint(f"{DEMO}:{name}", arguments) for name in ("earlier", "later")]
    options = runner.Options(command="demo")
    every = _plan_all(found, loaded, shelf, output, Asked(limit), None, options)
    folders = _run_all(found, every, shelf, options)
    print("\n" + leaderboard.terminal(leaderboard.collect(folders), bold=sys.stdout.isatty()), end="")
    print(
        f"\nResults are in {output}/; next: evalkit run --model YOUR_CHECKPOINT --tasks vqav2_val "
        "--data-root YOUR_DATASETS --limit 100"
    )
    return 0


# --- models and data ---------------------------------------------------------------------------------


def _models(arguments: argparse.Namespace) -> list[str]:
    """`--model`, repeated or by comma; `--model paligemma --model_args pretrained=X` as in lm-eval."""
    given = [spec for text in arguments.model for spec in text.split(",") if spec]
    pretrained = _model_args(arguments.model_args).get("pretrained")
    if pretrained and given in (["paligemma"], ["hf"]):
        return [pretrained]
    if pretrained:
        raise UserError(
            "--model_args pretrained=...: goes with --model paligemma; else name the checkpoint by --model"
        )
    return list(dict.fromkeys(given))


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
    return models.open_checkpoint(spec, flags, args, name, terminal.say)


def _embedded(spec: str, resolution: int) -> str:
    """The folder of `demo:NAME`. Raises UserError for a name or a resolution that is not there."""
    from evalkit import demo as embedded

    try:
        return str(embedded.checkpoint(spec.partition(":")[2], resolution))
    except ValueError as error:
        raise UserError(f"--model {spec}: {error}") from None


def roots(given: Sequence[Path], wanted: Sequence[Task]) -> list[Path]:
    """The data roots; the generated benchmark is written into the cache the first time it is asked for."""
    from evalkit import demo as embedded

    found = sources.roots(given)
    named = (place for task in wanted for entry in task.data.sources for place in entry.values())
    if any(str(place).startswith(f"{embedded.SCENES}/") for place in named):
        from evalkit.demo.benchmark import benchmark

        found.append(benchmark())
    return found


def _ids(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is no UTF-8 text"
        raise UserError(f"--ids {path}: {why}; give a text file, one id a line") from None
    found = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not found:
        raise UserError(f"--ids {path}: holds no ids; one id a line")
    return found


# --- score and table -----------------------------------------------------------------------------------


def score(arguments: argparse.Namespace) -> int:
    """`evalkit score`: runs again from their files, or a file of predictions made elsewhere."""
    if not arguments.predictions:
        folders = rescore(arguments)
        print(leaderboard.terminal(leaderboard.collect(folders), bold=sys.stdout.isatty()), end="")
        return 0
    data, scored, untold = score_predictions(arguments)
    name = arguments.name or Path(arguments.predictions).stem
    cells = [leaderboard.Cell(s, arguments.predictions, name, ()) for s in scored.scores]
    print(leaderboard.terminal(cells, bold=sys.stdout.isatty()), end="")
    if untold:
        told = f"{len(untold):,} of {len(data.samples):,} samples have no prediction"
        terminal.say(f"{told}, the first is {untold[0]}")
    for metric, why in scored.not_scored.items():
        terminal.say(f"{metric}: {leaderboard.why_not_scored(why)}")
    for found in scored.scores:
        terminal.say(found.signature)
    return 0


def rescore(arguments: argparse.Namespace) -> list[results.RunFolder]:
    """Scores the named runs again from their files."""
    if not arguments.runs:
        raise UserError("score: name run folders, or --task TASK --predictions FILE")
    folders = results.find(arguments.runs)
    if not folders:
        raise UserError(f"score: no runs below {', '.join(map(str, arguments.runs))}")
    for folder in folders:
        _rescore(folder, arguments)
    return folders


def found_again(
    folder: results.RunFolder, arguments: argparse.Namespace
) -> tuple[dict[str, Any], planning.Shelf, Task]:
    """run.json, where its data lies, and today's task file with the overrides that it was run with."""
    run = folder.read_run()
    if run is None:
        raise UserError(f"{folder.path}: holds no run.json")
    path = run["task_file"]["path"]
    name = path if Path(path).is_file() and path.endswith((".yaml", ".yml")) else run["task"]
    task = tasks.load(name, run["task_file"]["overrides"], arguments.include_path)
    shelf = planning.Shelf(roots([*arguments.data_root, Path(run["source"]["root"])], [task]))
    return run, shelf, task


def _rescore(folder: results.RunFolder, arguments: argparse.Namespace) -> None:
    run, shelf, task = found_again(folder, arguments)
    data = shelf.get(task)
    asked = Asked(**{**run["asked"], "ids": tuple(run["asked"]["ids"]) if run["asked"]["ids"] else None})
    wanted = tuple(s.id for s in planning.choose(data.samples, asked))
    plan = Plan(
        task=task, protocol="", preparation=tasks.preparation(task, 224, "paper"), source=data.source,
        folder=folder, identity=run["identity"], digest=run["digest"], asked=asked, total=len(data.samples),
        wanted=wanted, missing=(), targets=data.targets, official=data.short_of, model=run["model"],
        early=bool(run.get("early")),
    )  # fmt: skip
    runner.score(plan, shelf)


def score_predictions(arguments: argparse.Namespace) -> tuple[planning.Dataset, scoring.Scored, list[str]]:
    """The dataset, how a file of predictions scores, and the ids that the file leaves out."""
    if not arguments.task or arguments.runs:
        raise UserError("score --predictions FILE: name the task they answer with --task, and no runs")
    task = tasks.load(arguments.task, extra=arguments.include_path)
    if task.not_scored:
        raise UserError(f"score: {task.name}: {leaderboard.why_not_scored(task.not_scored)}")
    data = planning.dataset(task, roots(arguments.data_root, [task]))
    predictions = scoring.read_predictions(arguments.predictions, data.samples)
    untold = [s.id for s in data.samples if s.id not in predictions]
    covered = "incomplete" if untold or data.short_of is not None else "all"
    scored = scoring.score(task, data.samples, predictions, covered, data.targets)
    return data, scored, untold


def table(arguments: argparse.Namespace) -> int:
    """`evalkit table`: the leaderboard of runs, in the form asked for or told by the file's name."""
    cells = leaderboard.collect(results.find(arguments.runs or [Path("results")]))
    if arguments.mean_over:
        cells = means.over_seeds(cells)
    output: Path | None = arguments.output
    form = arguments.format or tables.by_suffix(output) or "terminal"
    screen = output is None and sys.stdout.isatty()
    if arguments.published or arguments.published_model:
        yardstick.write(arguments, cells, form)
        return 0
    text, left_out = tables.render(cells, form, arguments.shape, arguments.paired, screen)
    for sentence in left_out:
        terminal.say(sentence)
    if output is not None:
        results.atomic_write(output, text)
    else:
        print(text, end="")
    return 0


# --- others ------------------------------------------------------------------------------------------------


def convert(file: Path, target: Path, tokenizer: Path) -> int:
    """`evalkit convert FILE.npz FOLDER`: a big_vision checkpoint in Hugging Face layout."""
    from evalkit.models.paligemma.convert import convert as write

    write(file, target, tokenizer, terminal.say)
    print(f"{target}: written; evalkit run --model {target} --tasks ...")
    return 0


def examine(arguments: argparse.Namespace) -> int:
    """`evalkit doctor --model M`: what both engines say, and what to set. 1: they do not agree."""
    from evalkit import doctor

    well = True
    for spec in arguments.model:
        given = {k: getattr(arguments, k, None) for k in models.KEYS} | _model_args(arguments.model_args)
        path = spec
        if spec.startswith(f"{DEMO}:"):
            path = _embedded(spec, int(given.get("resolution") or 224))
        options = {k: v for k, v in given.items() if v is not None}
        text, sound = doctor.examine(path, options, arguments.samples, terminal.say, spec)
        print(text)
        well = well and sound
    return 0 if well else 1


def ask(arguments: argparse.Namespace) -> int:
    """`evalkit ask IMAGE PROMPT --model M`: one answer, its tokens, boxes and masks, an overlay."""
    reply = reply_to(arguments)
    print(reply.text)
    for thing in reply.found:
        print(f"  {asking.shown(thing, reply.size)}")
    terminal.say(f"tokens  {list(reply.tokens)}; stopped at {reply.stop}")
    if reply.warning:
        terminal.say(reply.warning)
    if reply.overlay:
        terminal.say(f"overlay {reply.overlay}")
    return 0


def reply_to(arguments: argparse.Namespace) -> asking.Reply:
    """What the one model says to the one question."""
    if len(arguments.model) != 1:
        raise UserError("ask: one --model at a time")
    candidate = checkpoint(arguments.model[0], arguments)
    decoder = ""
    if arguments.model[0].startswith(f"{DEMO}:"):
        from evalkit import demo as embedded

        decoder = str(embedded.mask_decoder())
    masks.look_in(*sources.roots(arguments.data_root))
    return asking.ask(
        candidate, arguments.image, arguments.prompt, arguments.max_new_tokens, arguments.overlay, decoder
    )
