"""`evalkit check`, `evalkit baseline save` and `evalkit.check(...)`: from what was named to a decision."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from evalkit.cli.options import allowed, margin
from evalkit.comparison import gate
from evalkit.comparison.gate import _policy
from evalkit.errors import UserError
from evalkit.evaluation.evaluate import checkpoint, evaluate
from evalkit.files import atomic_write
from evalkit.report import decision as decisions
from evalkit.report.decision import str_of
from evalkit.runs import scored_run, store

# --- the verbs --------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace, allow: Collection[str]) -> int:
    """`evalkit check`: runs the candidate where it is a model, decides, prints, exits by the decision."""
    policy = _policy(arguments.policy, arguments.margin)
    base = scored_run.read(arguments.baseline)
    gate.know(policy, [run.task for run in base])  # before a model runs for hours
    named = [*([arguments.candidate] if arguments.candidate else []), *(arguments.model or [])]
    if len(named) != 1:
        raise UserError("check: name one candidate, a run folder or a model (folder, hub id, demo:later)")
    new = (
        scored_run.read(named[0])
        if _holds_runs(named[0])
        else evaluate(checkpoint(named[0], arguments), base, arguments)
    )
    decision = gate.check(new, base, policy, arguments.limit, allow)
    text = str_of(decision, sys.stdout.isatty() and not arguments.github)
    print(decisions.neutral(text) if arguments.github else text)
    if arguments.json:
        atomic_write(arguments.json, decisions.to_json(decision))
    if arguments.junit:
        atomic_write(arguments.junit, decisions.to_junit(decision))
    if arguments.github:
        print(decisions.workflow_commands(decision), end="")
        _append(os.environ.get("GITHUB_STEP_SUMMARY", ""), decisions.summary(decision))
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
        atomic_write(path, before + text)


def save(runs: Sequence[str], file: Path) -> int:
    """`evalkit baseline save RUN... FILE`."""
    found = [run for place in runs for run in scored_run.read(place)]
    names = {r.name for r in found}
    if len({r.task for r in found}) < len(found):
        raise UserError(
            f"baseline save: {', '.join(sorted(names))}: a task is there twice; a baseline has one run a task"
        )
    scored_run.save(found, file)
    for place in runs:
        if Path(place).is_dir():
            for folder in store.find([Path(place)]):
                folder.keep()  # `runs gc` leaves what a baseline was made of
    of = f"{len(found)} task{'' if len(found) == 1 else 's'}, {sum(len(r.ids) for r in found):,} samples"
    print(f"{file}: {of}, {file.stat().st_size / 1e3:.0f} kB")
    return 0


# --- check and baseline -----------------------------------------------------------------------------------


def _check_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "candidate", nargs="?", help="a run folder, a folder of runs, or a model to run as the baseline was"
    )
    verb.add_argument(
        "--baseline", required=True, metavar="RUN", help="runs, a baseline file, or FILE@GIT_REF"
    )
    verb.add_argument("--policy", type=Path, metavar="FILE", help="a gate.yaml: margins, groups, speed")
    verb.add_argument("--margin", type=margin, help="how much worse may be (default 0.01: one point)")
    verb.add_argument("--limit", type=int, metavar="N", help="only the first N images of each task")
    verb.add_argument("--allow", default="", metavar="KINDS", help="prompt,protocol,samples may differ")
    verb.add_argument("--json", type=Path, metavar="FILE", help="the decision with every number")
    verb.add_argument("--junit", type=Path, metavar="FILE", help="one test case a task")
    verb.add_argument("--github", action="store_true", help="annotations and a job summary")


def _check(arguments: argparse.Namespace) -> int:

    return run(arguments, allowed(arguments.allow))


def _baseline(arguments: argparse.Namespace) -> int:

    return save(arguments.runs, arguments.file)
