"""`evalkit watch`: waits for checkpoints, evaluates each, shows the trend, warns, calls the hook."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from evalkit.comparison import trend as trends
from evalkit.comparison.trend import Stamp, Trend
from evalkit.errors import UserError
from evalkit.evaluation import callbacks, progress
from evalkit.evaluation.evaluate import checkpoint, predict, roots
from evalkit.evaluation.plan import plan
from evalkit.report.trend import table
from evalkit.runs import scored_run
from evalkit.runs.scored_run import Answered
from evalkit.tasks import dataset, loader
from evalkit.tasks.dataset import Asked

# --- watch ------------------------------------------------------------------------------------------------


def _watch_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("folder", type=Path, metavar="DIR", help="the output folder of the training run")
    verb.add_argument(
        "--tasks", "--task", "--suite", action="append", required=True, metavar="NAMES",
        help="tasks, suites, patterns or YAML files, by comma",
    )  # fmt: skip
    verb.add_argument("--pattern", default="checkpoint-*", help="of checkpoint folders (default %(default)s)")
    verb.add_argument("--against", metavar="BASELINE", help="also warn of drops against these runs")
    verb.add_argument("--limit", type=int, metavar="N", help="only N images of each task")
    verb.add_argument("--protocol", choices=("paper", "hf"), help="default: the checkpoint's, or the task's")
    verb.add_argument(
        "--hook", metavar="CMD",
        help="a shell command after each; it gets EVALKIT_CHECKPOINT, _STEP, _MEAN, _BEST, _DROPS, _TREND",
    )  # fmt: skip
    verb.add_argument("--on-scores", metavar="FILE.py:NAME", help="a function told of every run's scores")
    verb.add_argument("--poll", type=float, default=30.0, metavar="S", help="seconds between looks (30)")
    verb.add_argument("--once", action="store_true", help="only the checkpoints that are there")


def _watch(arguments: argparse.Namespace) -> int:

    return run(arguments)


Evaluate = Callable[[Path], list[Answered]]


def run(arguments: argparse.Namespace) -> int:
    """Watches until it is stopped (--once: only what is there). A drop is a warning, never a failure."""
    names = [n for given in arguments.tasks for n in given.split(",") if n]
    loaded = [
        loader.load(n, {}, arguments.include_path) for n in loader.expand(names, arguments.include_path)
    ]
    base = scored_run.read(arguments.against) if arguments.against else []
    output: Path = arguments.output_path
    trend = Trend.load(output / "watch.json")

    told = callbacks.load(arguments.on_scores) if arguments.on_scores else None

    def evaluate(path: Path) -> list[Answered]:
        candidate = checkpoint(str(path), arguments)
        shelf = dataset.Shelf(roots(arguments.data_root, loaded))
        asked = Asked(arguments.limit)
        plans = [plan(shelf.get(t), candidate, output, asked, arguments.protocol) for t in loaded]
        predict(plans, shelf, candidate, told)
        return scored_run.of_runs([p.folder for p in plans])

    return _loop(arguments, trend, evaluate, base)


def _loop(arguments: argparse.Namespace, trend: Trend, evaluate: Evaluate, base: Sequence[Answered]) -> int:
    seen: dict[Path, Stamp] = {}
    failed: dict[Path, Stamp] = {}
    told: dict[Path, str] = {}
    _unfinished_hooks(trend, arguments.hook)
    looks = found = 0
    while True:
        for step, path in trends.checkpoints(arguments.folder, arguments.pattern):
            if path.name in trend.names():
                continue
            lacking, now = trends.lacks(path), trends.stamp(path)
            if lacking or seen.get(path) != now:
                if told.get(path) != lacking and lacking:
                    progress.say(f"{path.name}: waiting for {lacking}")
                told[path], seen[path] = lacking, now
                continue
            if failed.get(path) == now:
                continue
            try:
                _take(trend, step, path, evaluate(path), base)
                found += 1
            except UserError as error:
                failed[path] = now
                progress.say(f"{path.name}: {error}")
                continue
            _hook(trend, path, arguments.hook)
            print(table(trend, shutil.get_terminal_size((120, 24)).columns), flush=True)
        looks += 1
        if arguments.once and looks > 1:
            if not found:
                print(table(trend, shutil.get_terminal_size((120, 24)).columns), end="")
            return 0
        time.sleep(min(arguments.poll, 1.0) if arguments.once else arguments.poll)


def _take(trend: Trend, step: int, path: Path, runs: Sequence[Answered], base: Sequence[Answered]) -> None:
    """Puts a checkpoint into the trend, with what it lost against the best so far and the baseline, on the
    samples they share: --limit needs no limited baseline."""
    best = trend.best
    fallen = trends.drops(runs, trend.runs(best), best.name, ("samples",)) if best else []
    fallen += trends.drops(runs, base, base[0].name, ("samples",)) if base else []
    for sentence in fallen:
        progress.say(f"warning: {path.name}: {sentence}")
    trend.points.append(trends.point(step, path.name, runs, fallen))
    trend.save()


def _hook(trend: Trend, path: Path, command: str | None) -> None:
    """Runs the hook for a checkpoint once; that it ran is remembered."""
    point = next(p for p in trend.points if p.name == path.name)
    if command is None or point.hooked:
        return
    best = trend.best
    told = {
        "EVALKIT_CHECKPOINT": str(path),
        "EVALKIT_STEP": str(point.step),
        "EVALKIT_MEAN": repr(point.mean),
        "EVALKIT_BEST": best.name if best else "",
        "EVALKIT_DROPS": "\n".join(point.drops),
        "EVALKIT_TREND": str(trend.path.with_suffix(".csv")),
    }
    environment = {**os.environ, **told}
    done = subprocess.run(command, shell=True, env=environment, check=False, stdout=subprocess.PIPE)
    if done.stdout:
        progress.say(done.stdout.decode(errors="replace").rstrip())
    if done.returncode:
        progress.say(f"warning: --hook ended with status {done.returncode} for {path.name}")
    trend.points[trend.points.index(point)] = replace(point, hooked=True)
    trend.save()


def _unfinished_hooks(trend: Trend, command: str | None) -> None:
    """A watcher stopped between a score and its hook makes up for it."""
    if command is not None and trend.points and not trend.points[-1].hooked:
        _hook(trend, Path(trend.points[-1].name), command)
