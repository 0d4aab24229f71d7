"""`evalkit check`, `evalkit baseline save` and `evalkit.check(...)`: from what was named to a decision."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from evalkit import baseline, ci, commands, gate, planning, results, runner, tasks, terminal, trackers
from evalkit.baseline import Answered
from evalkit.errors import UserError
from evalkit.gate import Decision, Policy
from evalkit.planning import Asked, Plan
from evalkit.types import Checkpoint, Score

RED, GREEN, YELLOW, PLAIN = "\033[31m", "\033[32m", "\033[33m", "\033[0m"
_COLOURS = {gate.PASS: GREEN, gate.FAIL: RED, gate.INCONCLUSIVE: YELLOW}


def check(
    candidate: str | Path,
    baseline: str | Path,
    margin: float | None = None,
    policy: str | Path | Policy | None = None,
    limit: int | None = None,
    allow: Collection[str] = (),
) -> Decision:
    """The gate as an assertion: `assert evalkit.check("results/new", "baseline.json", margin=0.01)`.

    Both are run folders, folders of runs, baseline files or FILE@GIT_REF. The decision is true when
    it passes and shows every task's reason when printed. Raises UserError for what can't be compared.
    """
    chosen = _policy(policy, margin)
    return gate.check(_read(candidate), _read(baseline), chosen, limit, allow)


def _read(place: str | Path) -> list[Answered]:
    return baseline.read(place)


def _policy(policy: str | Path | Policy | None, margin: float | None) -> Policy:
    found = policy if isinstance(policy, Policy) else gate.read_policy(Path(policy)) if policy else Policy()
    return found if margin is None else dataclasses.replace(found, margin=margin)


# --- the verbs --------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace, allow: Collection[str]) -> int:
    """`evalkit check`: runs the candidate where it is a model, decides, prints, exits by the decision."""
    policy = _policy(arguments.policy, arguments.margin)
    base = baseline.read(arguments.baseline)
    gate.know(policy, [run.task for run in base])  # before a model runs for hours
    named = [*([arguments.candidate] if arguments.candidate else []), *(arguments.model or [])]
    if len(named) != 1:
        raise UserError("check: name one candidate, a run folder or a model (folder, hub id, demo:later)")
    new = (
        baseline.read(named[0])
        if _holds_runs(named[0])
        else evaluate(commands.checkpoint(named[0], arguments), base, arguments)
    )
    decision = gate.check(new, base, policy, arguments.limit, allow)
    text = str_of(decision, sys.stdout.isatty() and not arguments.github)
    print(ci.neutral(text) if arguments.github else text)
    if arguments.json:
        results.atomic_write(arguments.json, ci.to_json(decision))
    if arguments.junit:
        results.atomic_write(arguments.junit, ci.to_junit(decision))
    if arguments.github:
        print(ci.workflow_commands(decision), end="")
        _append(os.environ.get("GITHUB_STEP_SUMMARY", ""), ci.summary(decision))
    return decision.exit_status


def _holds_runs(place: str) -> bool:
    path = Path(place)
    if path.is_file() or ("@" in place and not path.exists()):
        return True
    return path.is_dir() and not (path / "config.json").is_file() and any(path.rglob("run.json"))


def _append(summary: str, text: str) -> None:
    """Adds to GitHub's job summary, which other steps write too."""
    if summary:
        path = Path(summary)
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        results.atomic_write(path, before + text)


def str_of(decision: Decision, colour: bool) -> str:
    """The decision for a terminal: a line a task, the first differing sample side by side."""
    lines = []
    width = max(len(t.task) for t in decision.tasks)
    for t in decision.tasks:
        mark = f"{_COLOURS[t.status]}{t.status}{PLAIN}" if colour else t.status
        lines.append(f"{mark:<{len(mark) + 12 - len(t.status)}}  {t.task:<{width}}  {t.why}")
        if t.differing:
            lines.append(f"    baseline   {t.differing['baseline']!r}")
            lines.append(f"    candidate  {t.differing['candidate']!r}")
        lines += [f"    warning: {w}" for w in t.warnings]
    lines += [f"note: {n}" for n in decision.notes]
    final = f"{_COLOURS[decision.status]}{decision.status}{PLAIN}" if colour else decision.status
    return "\n".join([*lines, f"{decision.candidate} against {decision.baseline}: {final}"])


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
        task = tasks.load(run.task, dict(run.overrides), arguments.include_path)
        shelf = planning.Shelf(commands.roots(arguments.data_root, [task]))
        asked = Asked(**{**run.asked, "ids": tuple(run.asked["ids"]) if run.asked.get("ids") else None})
        if arguments.limit and (asked.limit is None or arguments.limit < asked.limit):
            asked = Asked(arguments.limit, asked.seed)
        plan = planning.plan(shelf.get(task), candidate, output, asked, str(run.identity["protocol"]))
        predict([plan], shelf, candidate)
        folders.append(plan.folder)
    return baseline.of_runs(folders)


def predict(
    plans: Sequence[Plan],
    shelf: planning.Shelf,
    candidate: Checkpoint,
    told: trackers.OnScores | None = None,
) -> None:
    """Predicts and scores plans with the usual plan, progress and scores on stderr."""
    terminal.plan(candidate, plans)
    bar = terminal.Bar()

    def done(plan: Plan, scores: list[Score]) -> None:
        bar.close()
        if plan.missing:
            terminal.scores(plan, scores)
        if told is not None:
            told(plan.folder.name, scores)

    try:
        runner.run(plans, shelf, candidate, runner.Options(command=" ".join(sys.argv[1:])), bar, done)
    finally:
        bar.close()


def save(runs: Sequence[str], file: Path) -> int:
    """`evalkit baseline save RUN... FILE`."""
    found = [run for place in runs for run in baseline.read(place)]
    names = {r.name for r in found}
    if len({r.task for r in found}) < len(found):
        raise UserError(
            f"baseline save: {', '.join(sorted(names))}: a task is there twice; a baseline has one run a task"
        )
    baseline.save(found, file)
    for place in runs:
        if Path(place).is_dir():
            for folder in results.find([Path(place)]):
                folder.keep()  # `runs gc` leaves what a baseline was made of
    of = f"{len(found)} task{'' if len(found) == 1 else 's'}, {sum(len(r.ids) for r in found):,} samples"
    print(f"{file}: {of}, {file.stat().st_size / 1e3:.0f} kB")
    return 0
