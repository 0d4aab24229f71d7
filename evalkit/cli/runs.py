"""evalkit.cli.runs: docstring to be written."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from evalkit.cli.tasks import list_what
from evalkit.errors import UserError
from evalkit.evaluation import progress
from evalkit.runs import store


def _runs(arguments: argparse.Namespace) -> int:

    return runs(arguments.what, arguments.runs, arguments.output_path, arguments.yes)


def _run_row(folder: store.RunFolder) -> tuple[str, str]:
    scores = store.scores_of(folder)
    return folder.name, ", ".join(f"{s.metric} {progress.value(s)}" for s in scores) or "not scored yet"


def runs(what: str, named: Sequence[Path], output: Path, sure: bool) -> int:
    """`evalkit runs [list|keep|rm|gc]`. Nothing goes without `--yes`, and nothing that is kept ever."""
    if what == "list":
        return list_what("runs", [], output)
    if what == "gc":
        chosen = _replaced(store.find([output]) if output.exists() else [])
    elif not named:
        raise UserError(f"runs {what}: name run folders; `evalkit runs` lists them")
    else:
        chosen = store.find(named)
    if what == "keep":
        for folder in chosen:
            folder.keep()
            print(f"kept     {folder.path}")
        return 0
    for folder in chosen:
        if folder.kept:
            print(f"kept     {folder.path}")
        elif sure:
            folder.remove()
            print(f"removed  {folder.path}")
        else:
            print(f"would go {folder.path}")
    if not sure and any(not folder.kept for folder in chosen):
        progress.say("nothing was removed; say --yes to remove these")
    return 0


def _replaced(folders: Sequence[store.RunFolder]) -> list[store.RunFolder]:
    """Runs without one answer, and those that a newer run of the same task and checkpoint name replaced
    with at least as many samples."""
    told = []
    for folder in folders:
        sessions = (folder.read_run() or {}).get("sessions", [])
        n = max((score.n for score in store.scores_of(folder)), default=0)
        told.append((folder, n, sessions[-1]["started"] if sessions else ""))
    gone = []
    for folder, n, when in told:
        mine = folder.name.rpartition(".")[0]
        newer = any(f.name.rpartition(".")[0] == mine and w > when and m >= n for f, m, w in told)
        if newer or not folder.entries():
            gone.append(folder)
    return gone
