"""`evalkit runs`: list, keep and remove runs. Nothing goes without `--yes`, and nothing that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evalkit.errors import UserError
from evalkit.evaluation import progress
from evalkit.options.fields import paths
from evalkit.options.verbs import RunsOptions
from evalkit.printing import put
from evalkit.report.columns import aligned
from evalkit.runs import store
from evalkit.runs.store import RunFolder
from evalkit.types import why_not_scored


def runs(options: RunsOptions) -> int:
    """Does what `options.what` says."""
    output, named = Path(options.output_path), paths(options.runs)
    if options.what == "list":
        return list_runs(output)
    if options.what == "gc":
        chosen = _replaced(store.find([output]) if output.exists() else [])
    elif not named:
        raise UserError(f"runs {options.what}: name run folders; `evalkit runs` lists them")
    else:
        chosen = store.find(named)
    if options.what == "keep":
        for folder in chosen:
            folder.keep()
            put(f"kept     {folder.path}")
        return 0
    for folder in chosen:
        if folder.kept:
            put(f"kept     {folder.path}")
        elif options.yes:
            folder.remove()
            put(f"removed  {folder.path}")
        else:
            put(f"would go {folder.path}")
    if not options.yes and any(not folder.kept for folder in chosen):
        progress.say("nothing was removed; say --yes to remove these")
    return 0


def list_runs(output: Path) -> int:
    """Every run below a folder with its scores."""
    rows = []
    for folder in store.find([output]) if output.exists() else []:
        scores = ", ".join(f"{s.metric} {progress.value(s)}" for s in store.scores_of(folder))
        reasons = [f"{m} {why_not_scored(why)}" for m, why in store.not_scored_of(folder).items()]
        rows.append([folder.name, scores or "; ".join(reasons) or "not scored yet"])
    put("".join(f"{line}\n" for line in aligned(rows)), end="")
    if not rows:
        progress.say(f"no runs below {output}")
    return 0


def _replaced(folders: Sequence[RunFolder]) -> list[RunFolder]:
    """Runs without one answer, and those that a newer run of the same task and checkpoint name replaced
    with at least as many samples."""
    known = []
    for folder in folders:
        sessions = (folder.read_run() or {}).get("sessions", [])
        n = max((score.n for score in store.scores_of(folder)), default=0)
        known.append((folder, n, sessions[-1]["started"] if sessions else ""))
    gone = []
    for folder, n, when in known:
        mine = folder.name.rpartition(".")[0]
        newer = any(f.name.rpartition(".")[0] == mine and w > when and m >= n for f, m, w in known)
        if newer or not folder.entries():
            gone.append(folder)
    return gone


ACTS = {"runs": runs}
