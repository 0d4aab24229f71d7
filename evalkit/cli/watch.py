"""`evalkit watch`: waits for checkpoints, evaluates each, shows the trend, warns, calls the hook."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from evalkit import trackers
from evalkit.cli.options import command
from evalkit.comparison import trend as trends
from evalkit.comparison.compare import Comparison, ModelRuns, baseline_of, compare
from evalkit.comparison.trend import Loss, Point, Stamp, Trend
from evalkit.errors import UserError
from evalkit.evaluation import evaluate, progress
from evalkit.options.fields import names
from evalkit.options.verbs import WatchOptions
from evalkit.printing import put
from evalkit.report import forgetting
from evalkit.report.trend import save, table
from evalkit.runs import scored_run
from evalkit.runs.scored_run import ScoredRun

Evaluate = Callable[[Path], list[ScoredRun]]
FORGOTTEN = 0.01  # the margin of `evalkit compare --forgetting`
SAME = ("samples",)  # may differ: --limit needs no limited baseline
Same = Callable[[Path, Point], bool]


def watch(options: WatchOptions) -> int:
    """Watches until it is stopped (--once: only what is there). A drop is a warning, never a failure."""
    _refuse_checkpoint(options.folder, options.pattern)
    tasks, own = evaluate.asked_for("watch", options)
    evaluate.refuse_watch(tasks, own, options)
    base = scored_run.read(options.against) if options.against else []
    before = None
    if options.forgetting:
        before = baseline_of(options.forgetting, [task.name for task in tasks], "--forgetting")
    trend = Trend.load(Path(options.output_path) / "watch.json")
    _look_again(trend, before)
    with trackers.reporting(names(options.report_to), Path(options.output_path)) as report:
        return _loop(
            options,
            trend,
            lambda path: evaluate.watched_runs(path, tasks, options, command(), report, own),
            lambda path, point: evaluate.is_watched(path, point.models, options),
            base,
            before,
        )


def _look_again(trend: Trend, before: ModelRuns | None) -> None:
    """Compares the checkpoints of an earlier watch with the base that is given now."""
    if before is None or not trend.points:
        return
    for at, point in enumerate(trend.points):
        trend.points[at] = replace(point, lost=_lost(before, trend.runs(point)))
    save(trend)


def _lost(before: ModelRuns, runs: Sequence[ScoredRun]) -> Mapping[str, Loss]:
    """What became of the base's tasks, on the samples that both have."""
    return _losses(*_against(before, runs))


def _losses(found: Comparison | None, apart: Mapping[str, str]) -> Mapping[str, Loss]:
    why: dict[str, Loss] = {t: (f"not compared: {w}", None, None, None) for t, w in apart.items()}
    return {**(forgetting.losses(found) if found else {}), **why}


def _against(before: ModelRuns, runs: Sequence[ScoredRun]) -> tuple[Comparison | None, Mapping[str, str]]:
    """The comparison with the base, if there is anything to compare; and why tasks cannot be."""
    known, apart = trends.comparable(runs, before.runs, SAME)
    found = compare(before, ModelRuns(runs[0].name, known), SAME, FORGOTTEN) if known else None
    return found, apart


def _refuse_checkpoint(folder: Path, pattern: str) -> None:
    """Raises UserError for a folder that is one checkpoint and holds none: nothing would ever come there."""
    is_one = any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))
    if is_one and any(folder.glob("*.safetensors")) and not trends.checkpoints(folder, pattern):
        above = folder.parent if folder.name else folder.resolve().parent
        raise UserError(
            f"{folder}: is a checkpoint itself; evaluate it with: evalkit run --model {folder} --tasks ..., "
            f"or watch the output folder of its training: evalkit watch {above} --tasks ..."
        )


def _loop(
    options: WatchOptions,
    trend: Trend,
    evaluate: Evaluate,
    same: Same,
    base: Sequence[ScoredRun],
    before: ModelRuns | None = None,
) -> int:
    seen: dict[Path, Stamp] = {}
    done: dict[Path, Stamp] = {}  # evaluated in this state, or found to be what was evaluated before
    failed: dict[Path, Stamp] = {}
    reported: dict[Path, str] = {}
    _unfinished_hooks(trend, options.hook)
    looks = found = 0
    while True:
        for step, path in trends.checkpoints(options.folder, options.pattern):
            lacking, now = trends.lacks(path), trends.stamp(path)
            if done.get(path) == now:
                continue
            if lacking or seen.get(path) != now:
                if reported.get(path) != lacking and lacking:
                    progress.say(f"{path.name}: waiting for {lacking}")
                reported[path], seen[path] = lacking, now
                continue
            if failed.get(path) == now:
                continue
            known = trend.known(path.name)
            try:
                if known is not None and same(path, known):
                    done[path] = now
                    continue
                if known is not None:
                    progress.say(f"{path.name}: is not the model that was evaluated before; evaluated again")
                _take(trend, step, path, evaluate(path), base, before)
                done[path] = now
                found += 1
            except UserError as error:
                failed[path] = now
                progress.say(f"{path.name}: {error}")
                continue
            _hook(trend, path, options.hook)
            put(table(trend, shutil.get_terminal_size((120, 24)).columns), flush=True)
        looks += 1
        if options.once and looks > 1:
            if not found and (trend.points or not failed):
                put(table(trend, shutil.get_terminal_size((120, 24)).columns), end="")
            return 1 if failed and not trend.points else 0
        time.sleep(min(options.poll, 1.0) if options.once else options.poll)


def _take(
    trend: Trend,
    step: int,
    path: Path,
    runs: Sequence[ScoredRun],
    base: Sequence[ScoredRun],
    before: ModelRuns | None = None,
) -> None:
    """Puts a checkpoint into the trend, with what it lost against the best so far and the baseline, on the
    samples they share. What cannot be compared is told, and the checkpoint has its place all the same."""
    trend.points = [point for point in trend.points if point.name != path.name]  # of other weights
    best = trend.best
    fallen = _fallen(path, runs, trend.runs(best), best.name) if best else []
    fallen += _fallen(path, runs, base, base[0].name) if base else []
    for sentence in fallen:
        progress.say(f"warning: {path.name}: {sentence}")
    new = trends.point(step, path.name, runs, fallen)
    if before is not None:
        found, apart = _against(before, runs)
        _tell_apart(path, apart, before.name)
        if found is not None:
            progress.say(forgetting.text_of(found).rstrip())
        new = replace(new, lost=_losses(found, apart))
    trend.points.append(new)
    save(trend)


def _fallen(path: Path, runs: Sequence[ScoredRun], old: Sequence[ScoredRun], name: str) -> list[str]:
    """What fell against older runs, as sentences."""
    known, apart = trends.comparable(runs, {run.task: run for run in old}, SAME)
    _tell_apart(path, apart, name)
    return trends.drops([*known.values()], old, name, SAME)


def _tell_apart(path: Path, apart: Mapping[str, str], name: str) -> None:
    for task, why in apart.items():
        progress.say(f"warning: {path.name}: {task}: not compared with {name}: {why}")


def _hook(trend: Trend, path: Path, command: str | None) -> None:
    """Runs the hook for a checkpoint once; that it ran is remembered."""
    point = next(p for p in trend.points if p.name == path.name)
    if command is None or point.hooked:
        return
    best = trend.best
    variables = {
        "EVALKIT_CHECKPOINT": str(path),
        "EVALKIT_STEP": str(point.step),
        "EVALKIT_MEAN": repr(point.mean),
        "EVALKIT_BEST": best.name if best else "",
        "EVALKIT_DROPS": "\n".join(point.drops),
        "EVALKIT_TREND": str(trend.path.with_suffix(".csv")),
    }
    environment = {**os.environ, **variables}
    done = subprocess.run(command, shell=True, env=environment, check=False, stdout=subprocess.PIPE)
    if done.stdout:
        progress.say(done.stdout.decode(errors="replace").rstrip())
    if done.returncode:
        progress.say(f"warning: --hook ended with status {done.returncode} for {path.name}")
    trend.points[trend.points.index(point)] = replace(point, hooked=True)
    save(trend)


def _unfinished_hooks(trend: Trend, command: str | None) -> None:
    """A watcher stopped between a score and its hook makes up for it."""
    if command is not None and trend.points and not trend.points[-1].hooked:
        _hook(trend, Path(trend.points[-1].name), command)


ACTS = {"watch": watch}
