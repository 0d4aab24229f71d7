"""Means over several fine-tunes: runs whose checkpoints' names differ only by a seed become one cell.

Knows cells; the deviation is that of the runs (n − 1 below), not of the samples.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evalkit.errors import UserError
from evalkit.report.leaderboard import Cell
from evalkit.runs import scored_run
from evalkit.runs.store import RunFolder
from evalkit.types import Score

# `name-seed0`, `name_s1`, `name-run2`, `name-seed-3`: the end of a checkpoint's name, any case
SEED = re.compile(r"(?P<stem>.+)[-_](?:seed|run|s)[-_]?\d+", re.IGNORECASE)
_TWO_WAYS = re.compile(r"(.+) \[[^\]]*\]")  # as the leaderboard calls one checkpoint that ran in two ways


def stem(model: str) -> str | None:
    """The name without its seed; None where it has none."""
    found = SEED.fullmatch(model)
    return found["stem"] if found else None


def over_seeds(cells: Sequence[Cell]) -> list[Cell]:
    """One cell for each task, metric, resolution and stem; other cells are one run each.

    Raises UserError for runs of one group that are not alike: another coverage, prompt, precision.
    """
    bare = {c.model for c in cells if stem(c.model) is None}
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        if (named := _TWO_WAYS.fullmatch(cell.model)) and stem(named[1]):
            raise UserError(
                f"--mean-over seed: {named[1]} ran in several ways, one of them {cell.run}; "
                "name the runs that are alike"
            )
        name = stem(cell.model)
        label = cell.model if name is None else f"{name} (mean)" if name in bare else name
        groups.setdefault((cell.score.task, cell.score.metric, label, cell.resolution), []).append(cell)
    return [_mean(key[2], group) for key, group in groups.items()]


def _mean(label: str, group: Sequence[Cell]) -> Cell:
    first = group[0]
    for other in group[1:]:
        if differ := [what for what, a, b in _alike(first, other) if a != b]:
            raise UserError(
                f"--mean-over seed: {first.run} and {other.run} differ in {', '.join(differ)}, so their mean "
                "is of nothing; name the runs that are alike"
            )
    scores = [c.score for c in group]
    values = [s.value for s in scores]
    score = replace(
        first.score, value=math.fsum(values) / len(values), low=None, high=None,
        invalid=sum(s.invalid for s in scores), groups=_groups(scores),
        details=_each([s.details for s in scores]),
        remarks=dict(sum((Counter(s.remarks) for s in scores), Counter[str]())),
    )  # fmt: skip
    return replace(
        first, score=score, model=label, run=";".join(c.run for c in group), runs=len(group),
        folder=first.folder if len(group) == 1 else None,
        stdev=statistics.stdev(values) if len(group) > 1 and not first.not_scored else None,
    )  # fmt: skip


def _alike(a: Cell, b: Cell) -> Iterable[tuple[str, Any, Any]]:
    """What two runs must share, by name."""
    yield "coverage", a.score.coverage, b.score.coverage
    yield "samples", a.score.n, b.score.n
    yield "signature", *scored_run.comparable(a.score.signature, b.score.signature)
    yield "overrides", a.changed, b.changed
    yield "stamps", a.ways, b.ways
    ours, theirs = _identity(a), _identity(b)
    for key in sorted(ours.keys() & theirs.keys()):
        yield key, ours[key], theirs[key]


def _identity(cell: Cell) -> dict[str, str]:
    """How the run was made, without what a fine-tune changes: its weights."""
    run = RunFolder(cell.folder).read_run() if cell.folder is not None else None
    identity: Mapping[str, Any] = (run or {}).get("identity", {})
    model: Mapping[str, Any] = identity.get("model", {})
    shown = {k: identity.get(k) for k in ("task", "prompts", "preparation", "protocol")}
    shown |= {k: model.get(k) for k in ("dtype", "kv_dtype", "quantisation")}
    return {key: json.dumps(value, sort_keys=True) for key, value in shown.items()} if run else {}


def _each(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every figure that all have."""
    keys = [k for k in found[0] if all(k in other for other in found)]
    return {k: math.fsum(other[k] for other in found) / len(found) for k in keys}


def _groups(scores: Sequence[Score]) -> dict[str, dict[str, float | None]]:
    """The value of every group that all have; intervals of single runs say nothing of a mean."""
    found: dict[str, dict[str, float | None]] = {}
    for name in scores[0].groups:
        parts = [s.groups.get(name, {}) for s in scores]
        known = [{k: v for k in ("value", "n") if (v := part.get(k)) is not None} for part in parts]
        if all("value" in part for part in known):
            found[name] = {**_each(known)}
    return found
