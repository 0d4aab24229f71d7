"""`evalkit runs`: list, keep and remove runs. Nothing goes without `--yes`, and nothing that is kept."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit import collecting
from evalkit.errors import UserError
from evalkit.evaluation import progress
from evalkit.files import json_text
from evalkit.options.fields import paths
from evalkit.options.verbs import RunsOptions
from evalkit.printing import put
from evalkit.report.columns import aligned
from evalkit.runs import store
from evalkit.runs.store import RunFolder
from evalkit.types import why_not_scored

ASKED = ("prompt", "decode", "split", "classes_per_call", "class_order")  # of the task
COMPUTED = ("dtype", "kv_dtype", "quantisation", "conventions")  # of the model


def runs(options: RunsOptions) -> int:
    """Does what `options.what` says."""
    output, named = Path(options.output_path), paths(options.runs)
    if options.what == "list":
        return list_runs(output)
    if options.what == "gc":
        with collecting.paused():
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
        found = store.results_of(folder)
        scores = ", ".join(f"{s.metric} {progress.value(s)}" for s in found.scores)
        reasons = [f"{m} {why_not_scored(why)}" for m, why in found.not_scored.items()]
        rows.append([folder.name, scores or "; ".join(reasons) or "not scored yet"])
    put("".join(f"{line}\n" for line in aligned(rows)), end="")
    if not rows:
        progress.say(f"no runs below {output}")
    return 0


def _replaced(folders: Sequence[RunFolder]) -> list[RunFolder]:
    """Runs without one answer, and those that a newer run of the same task, checkpoint's place and settings
    replaced with at least as many samples."""
    empty, alike = set[Path](), dict[tuple[str, str], list[tuple[str, int, Path]]]()
    named = Counter(_named(folder) for folder in folders)
    for folder in folders:
        run = folder.read_run()
        if named[_named(folder)] > 1:  # nothing replaced what is alone
            sessions = (run or {}).get("sessions", [])
            n = max((score.n for score in store.scores_of(folder)), default=0) or len(folder.entries())
            when = sessions[-1]["started"] if sessions else ""
            alike.setdefault((_named(folder), _asked(run or {})), []).append((when, n, folder.path))
        if not folder.is_answered(run):
            empty.add(folder.path)
    gone = empty.union(*map(_older, alike.values()))
    return [folder for folder in folders if folder.path in gone]


def _named(folder: RunFolder) -> str:
    """Task and checkpoint, as the folder's name has them before its digest."""
    return folder.name.rpartition(".")[0]


def _asked(run: Mapping[str, Any]) -> str:
    """Where the checkpoint was and how it was asked: two trainings' checkpoint-500, or two prompts that were
    tried, don't replace each other. Weights, data and versions may be newer."""
    identity, sessions = run.get("identity", {}), run.get("sessions", [])
    task, model = identity.get("task", {}), identity.get("model", {})
    place = sessions[-1].get("path") or sessions[-1].get("model") if sessions else None
    kept = [{k: part[k] for k in keys if k in part} for part, keys in ((task, ASKED), (model, COMPUTED))]
    return json_text([place, *kept, identity.get("preparation"), identity.get("protocol")], compact=True)


def _older(runs: Sequence[tuple[str, int, Path]]) -> set[Path]:
    """Of runs, each with when it was begun and its samples, those with no more samples than a newer one."""
    gone, most = set[Path](), -1
    newest = sorted(runs, key=lambda run: run[0], reverse=True)
    for _, same in itertools.groupby(newest, key=lambda run: run[0]):
        begun = list(same)
        gone |= {path for _, n, path in begun if n <= most}
        most = max(most, *(n for _, n, _ in begun))
    return gone


ACTS = {"runs": runs}
