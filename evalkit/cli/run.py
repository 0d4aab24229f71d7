"""`evalkit run` and `evalkit demo`: the leaderboard of what was run, and how it compares with a baseline."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from evalkit.cli.options import command
from evalkit.comparison.compare import MARGIN, baseline_of, compare, only_model
from evalkit.errors import TasksFailed
from evalkit.evaluation import evaluate, progress
from evalkit.options.verbs import DemoOptions, RunOptions
from evalkit.printing import put
from evalkit.report import formats, leaderboard
from evalkit.report.columns import screen_width
from evalkit.report.comparison import text_of
from evalkit.runs import scored_run
from evalkit.runs.store import RunFolder


def run(options: RunOptions) -> int:
    """Every model on every task; plan first, then predict, score and the table. What failed is said last."""
    failed, folders = None, list[RunFolder]()
    try:
        folders = evaluate.run(options, command())
    except TasksFailed as error:
        failed, folders = error, list(error.runs)
    if folders:
        _show(folders)
    if options.against and folders and not options.until_decided:
        part = options.limit is not None or options.ids is not None
        _compared(options.against, folders, options.margin, ("samples",) if part else ())
    if failed:
        progress.failures(failed)
    return failed.status if failed else 0


def demo(options: DemoOptions) -> int:
    """The embedded suite with the two embedded checkpoints."""
    _show(evaluate.demo(options))
    put(
        f"\nResults are in {options.output_path}/; next: evalkit run --model YOUR_CHECKPOINT "
        "--tasks vqav2_val --data-root YOUR_DATASETS --limit 100\n"
        f"To see every sample and where the two differ: evalkit view {options.output_path}\n"
        f"As pages to keep or to send: evalkit report {options.output_path}"
    )
    return 0


def _show(folders: Sequence[RunFolder]) -> None:
    table = formats.terminal(leaderboard.collect(folders), bold=sys.stdout.isatty())
    put(f"\n{table}", end="", flush=True)


def _compared(
    against: str | Path, folders: Sequence[RunFolder], margin: float | None, allow: Collection[str]
) -> None:
    """What was run now against a baseline, every model."""
    found = scored_run.of_runs(folders)
    reference = baseline_of(against, [run.task for run in found])
    for name in dict.fromkeys(r.name for r in found):
        candidate = only_model([r for r in found if r.name == name], name)
        comparison = compare(reference, candidate, allow, margin or MARGIN)
        put("\n" + text_of(comparison, sys.stdout.isatty(), width=screen_width()))


ACTS = {"run": run, "demo": demo}
