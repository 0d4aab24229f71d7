"""Two checkpoints on one task: the difference with its interval, what was gained and lost, what moved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from evalkit.comparison import compare
from evalkit.comparison.compare import MARGIN, TaskResult
from evalkit.errors import UserError
from evalkit.options.groups import MAY_DIFFER
from evalkit.runs import scored_run
from evalkit.runs.scored_run import ScoredRun
from evalkit.viewer.assembled import Assembled
from evalkit.viewer.collect import Floats, OfRun

TELLING = 20  # samples
PAIRS = 12  # comparisons of a task: the first checkpoint with each of the next ones
GROUPS = 40


@dataclass(frozen=True)
class Flips:
    """Which samples got better and worse: images with many objects by the quality of their boxes, others by
    right or wrong where that can be said, else by their scores."""

    gained: npt.NDArray[np.bool_]
    lost: npt.NDArray[np.bool_]
    both: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, a: OfRun, b: OfRun, sign: int) -> Flips:
        """`sign` is -1 where less is better."""
        first, second = sign * a.score, sign * b.score
        for x, y in ((a.quality, b.quality), (a.right, b.right)):
            if not (np.isnan(x).all() or np.isnan(y).all()):
                first, second = x, y
                break
        return cls(second > first, second < first, a.has & b.has)

    def counts(self) -> dict[str, int]:
        gained, lost = int(self.gained.sum()), int(self.lost.sum())
        return {"gained": gained, "lost": lost, "same": int(self.both.sum()) - gained - lost}


def of_task(t: int, found: Assembled) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """The comparisons of the first checkpoint with the others, p not yet adjusted; and why a checkpoint
    cannot be compared with it."""
    runs = [run for run in found.collector.runs if run.part.main is not None]
    comparisons: list[dict[str, Any]] = []
    why_not: dict[int, str] = {}
    if len(runs) < 2:
        return comparisons, why_not
    try:
        first = scored_run.of_run(runs[0].part.folder)
    except UserError as error:
        return comparisons, {run.side: str(error) for run in runs[1:]}
    for other in runs[1 : PAIRS + 1]:
        try:
            result = _result(first, other)
        except UserError as error:
            why_not[other.side] = str(error)
            continue
        comparisons.append(_record(t, found, runs[0], other, result))
    return comparisons, why_not


def _result(first: ScoredRun, other: OfRun) -> TaskResult:
    return compare.task_result(first, scored_run.of_run(other.part.folder), MAY_DIFFER, MARGIN)


def _record(t: int, found: Assembled, a: OfRun, b: OfRun, result: TaskResult) -> dict[str, Any]:
    difference = result.first.found
    judge = next(iter(b.part.judges.values()))
    flips = Flips.of(a, b, -1 if judge.lower_is_better else 1)
    return {
        "task": t,
        "a": a.side,
        "b": b.side,
        "metric": result.first.spelled,
        "difference": _number(difference.value),
        "low": _number(difference.low),
        "high": _number(difference.high),
        "n": difference.n,
        "p": _number(difference.p),
        "significant": False,
        "verdict": result.verdict,
        "notes": list(result.notes),
        **flips.counts(),
        **_alike(a, b),
        "groups": _groups(result, found),
        "offsets": {axis: compare.plain(moved, ()) for axis, moved in result.offsets.items()},
        "telling": telling(found, a, b, flips),
    }


def _alike(a: OfRun, b: OfRun) -> dict[str, int | None]:
    """How many samples both have right and wrong; None where flips are of something finer."""
    if np.isnan(a.right).all() or np.isnan(b.right).all() or not np.isnan(a.quality).all():
        return {"both_right": None, "both_wrong": None}
    return {
        "both_right": int(((a.right == 1) & (b.right == 1)).sum()),
        "both_wrong": int(((a.right == 0) & (b.right == 0)).sum()),
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _groups(result: TaskResult, found: Assembled) -> list[dict[str, Any]]:
    """The groups' differences, those that surely moved first."""
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "difference": _number(d.value),
            "low": _number(d.low),
            "high": _number(d.high),
            "n": d.n,
            "moved": bool(d.low > 0 or d.high < 0),
            "filter": f"group={quote(name, safe='')}" if name in found.collector.groups.names else None,
        }
        for name, d in result.groups.items()
    ]
    return sorted(rows, key=lambda row: (not row["moved"], -abs(row["difference"] or 0.0)))[:GROUPS]


def telling(found: Assembled, a: OfRun, b: OfRun, flips: Flips) -> list[int]:
    """The samples that show the difference best, as numbers of those that are shown: what was lost and gained
    most, the surest answers first, one an image."""
    number = {place: k for k, place in enumerate(found.collector.survey.at().tolist())}
    moved = np.nan_to_num(np.abs(_graded(b).astype(np.float64) - _graded(a).astype(np.float64)))
    sure = np.array([a.journal.sureness(i) + b.journal.sureness(i) for i in range(b.n)])
    chosen: list[list[int]] = []
    for side in (flips.lost, flips.gained):
        at = np.flatnonzero(side)
        order = at[np.lexsort((-sure[at], -moved[at]))]
        seen, some = set[int](), []
        for i in order.tolist():
            if i in number and (cluster := int(found.collector.cluster[i])) not in seen:
                seen.add(cluster)
                some.append(number[i])
            if len(some) == TELLING:
                break
        chosen.append(some)
    half = TELLING // 2
    lost = chosen[0][: max(half, TELLING - len(chosen[1]))]
    return lost + chosen[1][: TELLING - len(lost)]


def _graded(run: OfRun) -> Floats:
    """How good each answer is, 0 to 1."""
    return run.share if np.isnan(run.quality).all() else run.quality


def adjusted(comparisons: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The comparisons with p after Holm over the tasks of each pair of checkpoints."""
    from evalkit.stats import significance

    found = [dict(each) for each in comparisons]
    pairs: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for each in found:
        pairs.setdefault((each["a"], each["b"]), []).append(each)
    for some in pairs.values():
        scored = [each for each in some if each["difference"] is not None]
        for each, p in zip(scored, significance.adjust([e["p"] for e in scored]), strict=True):
            each["p"], each["significant"] = float(p), bool(p <= compare.ALPHA)
    return found


def unlike(report: Mapping[str, Any], t: int, why_not: Mapping[int, str]) -> None:
    """Notes in the overview's scores why a checkpoint cannot be compared with the first."""
    for side, why in why_not.items():
        if score := report["tasks"][t]["scores"][side]:
            score["comparable"] = why
