"""`evalkit check` and `evalkit baseline save`: may a candidate replace what there is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from evalkit import door
from evalkit.cli.options import command
from evalkit.comparison.gate import Decision
from evalkit.errors import UserError
from evalkit.evaluation.check import check as decide
from evalkit.files import atomic_write
from evalkit.options.fields import paths
from evalkit.options.verbs import BaselineOptions, CheckOptions
from evalkit.printing import put, say
from evalkit.report import decision as report
from evalkit.runs import scored_run, store
from evalkit.types import why_not_scored
from evalkit.viewer import checked


def check(options: CheckOptions) -> int:
    """Runs the candidate where it is a model, decides, prints, exits by the decision."""
    checked.ready(options)
    decision = decide(options, command())
    text = report.text_of(decision, sys.stdout.isatty() and not options.github)
    put(report.neutral(text) if options.github else text)
    report.write(decision, options.json, options.junit, options.report)
    if options.github:
        put(report.workflow_commands(decision), end="")
        _append(
            os.environ.get("GITHUB_STEP_SUMMARY", ""), report.summary(decision, str(options.report or ""))
        )
    return decision.exit_status if options.pages is None else _pages(options, decision)


def _pages(options: CheckOptions, decision: Decision) -> int:
    """Writes the report, when all else is said and written; a failed check stays one without it."""
    try:
        place = checked.pages(options, decision, f"evalkit {command()}", say)
    except UserError as error:
        if not decision.exit_status:
            raise
        say(f"error: --pages: {error}")
        return decision.exit_status
    say(f"{place}: the samples, and the pictures of what changed")
    return decision.exit_status


def _append(summary: str, text: str) -> None:
    """Adds to GitHub's job summary, which other steps write too."""
    if summary:
        path = Path(summary)
        with door.guarded(path, "GITHUB_STEP_SUMMARY must name a text file", UserError):
            before = door.text(path, door.WHOLE) if os.path.isfile(path) else ""
        atomic_write(path, before + text)


def baseline(options: BaselineOptions) -> int:
    """`evalkit baseline save RUN... FILE`."""
    places = paths(options.runs)
    found = [run for place in places for run in scored_run.read(place)]
    names = {r.name for r in found}
    if len({r.task for r in found}) < len(found):
        raise UserError(
            f"baseline save: {', '.join(sorted(names))}: a task is there twice; a baseline has one run a task"
        )
    for run in found:
        reasons = [f"{run.task}: {metric} {why_not_scored(why)}" for metric, why in run.not_scored.items()]
        if not run.scores:
            raise UserError(f"baseline save: {run.run}: no score to check against: {'; '.join(reasons)}")
        for reason in reasons:
            say(f"warning: {reason}")
    scored_run.save(found, options.file)
    for place in places:
        if place.is_dir():
            for folder in store.find([place]):
                folder.keep()  # `runs gc` leaves what a baseline was made of
    of = f"{len(found)} task{'' if len(found) == 1 else 's'}, {sum(len(r.ids) for r in found):,} samples"
    put(f"{options.file}: {of}, {options.file.stat().st_size / 1e3:.0f} kB")
    return 0


ACTS = {"check": check, "baseline": baseline}
