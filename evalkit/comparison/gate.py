"""May this candidate replace the baseline: a decision per task by a policy, and one for all tasks.

Works on scored runs; does not find runs or show results.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evalkit.comparison.compare import MetricResult, TaskResult, holm, only_model, task_result
from evalkit.comparison.policy import Policy, know
from evalkit.errors import UserError, nearest
from evalkit.geometry.boxes import STEPS
from evalkit.printing import one_line
from evalkit.runs.scored_run import ScoredRun
from evalkit.stats import significance
from evalkit.stats.paired import ROUNDING

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
EXIT = {PASS: 0, FAIL: 1, INCONCLUSIVE: 3}
ENOUGH = 0.05  # one-sided level at which a task is non-inferior; every task must be, so no correction
CERTAIN = 0.025  # one-sided level at which a task is beyond its margin, after Holm over tasks


@dataclass(frozen=True)
class TaskDecision:
    """One task's decision. `why` is a sentence; `needed` is how many samples would decide, where known;
    `differing` is the first sample whose text or row differs from the baseline's (same weights only);
    `updated` says which libraries differ, where the weights are the same and the scores decide for that."""

    task: str
    status: str
    why: str
    margin: float
    same_weights: bool
    result: TaskResult
    metric: MetricResult
    warnings: tuple[str, ...] = ()
    needed: int | None = None
    differing: Mapping[str, str] | None = None
    updated: str = ""

    @property
    def by_texts(self) -> bool:
        """Whether equal texts and rows decide, and no score."""
        return self.same_weights and not self.updated


@dataclass(frozen=True)
class Decision:
    """All tasks: fail if one fails, else inconclusive if one is, else pass. Its truth value is whether it
    passes."""

    tasks: tuple[TaskDecision, ...]
    candidate: str
    baseline: str
    notes: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        found = {t.status for t in self.tasks}
        return FAIL if FAIL in found else INCONCLUSIVE if INCONCLUSIVE in found else PASS

    @property
    def exit_status(self) -> int:
        return EXIT[self.status]

    def __bool__(self) -> bool:
        return self.status == PASS

    def __str__(self) -> str:
        lines = [f"{self.candidate} against {self.baseline}: {self.status}"]
        for t in self.tasks:
            lines.append(f"  {t.status}  {t.task}: {t.why}")
            lines += [f"    warning: {w}" for w in t.warnings]
        return "\n".join(map(one_line, lines + [f"  note: {n}" for n in self.notes]))

    __repr__ = __str__


def check(
    candidate: Sequence[ScoredRun],
    base: Sequence[ScoredRun],
    policy: Policy | None = None,
    limit: int | None = None,
    allow: Collection[str] = (),
) -> Decision:
    """Decides every task of the baseline. Raises UserError for what is missing or can't be compared."""
    policy = policy or Policy()
    new, old = only_model(candidate, "the candidate").runs, only_model(base, "the baseline").runs
    missing = [t for t in old if t not in new]
    if missing:
        raise UserError(
            f"{candidate[0].name}: has no run of {', '.join(missing)}, which the baseline has; run it first"
        )
    know(policy, old)
    wide = {*allow, "samples"} if limit else set(allow)
    drafts = []
    for task in old:
        mine, theirs = old[task], new[task]
        if limit:
            kept = first_clusters(mine, limit)
            mine, theirs = mine.only(kept), theirs.only(kept)
        drafts.append(_draft(mine, theirs, wide, policy))
    adjusted = holm([d.result for d in drafts])
    drafts = [replace(d, result=replace(d.result, p=p)) for d, p in zip(drafts, adjusted, strict=True)]
    beyond = significance.adjust([1.0 if d.by_texts else d.metric.found.p_below(-d.margin) for d in drafts])
    displaced = _displaced(drafts, policy.offset_margin)
    decided = tuple(
        d if d.by_texts else _judged(d, p, len(drafts), policy, moved)
        for d, p, moved in zip(drafts, beyond, displaced, strict=True)
    )
    extra = [t for t in new if t not in old]
    notes = [f"not in the baseline, so not checked: {', '.join(extra)}"] if extra else []
    libraries = dict.fromkeys(filter(None, (_updated(d.result) for d in drafts)))
    notes += [f"libraries differ from the baseline's: {moved}" for moved in libraries]
    return Decision(decided, candidate[0].name, base[0].name, tuple(notes))


def first_clusters(run: ScoredRun, limit: int) -> set[str]:
    """Ids of the first `limit` clusters in the order that `--limit` takes them."""
    seed = run.asked.get("seed", 0)
    first: dict[str, str] = {}
    for name, cluster in zip(run.ids, run.clusters, strict=True):
        first[cluster] = min(first.get(cluster, name), name)
    order = sorted(first, key=lambda c: hashlib.sha256(f"{seed}\0{first[c]}".encode()).digest())
    kept = set(order[:limit])
    return {i for i, c in zip(run.ids, run.clusters, strict=True) if c in kept}


def _draft(base: ScoredRun, new: ScoredRun, allow: Collection[str], policy: Policy) -> TaskDecision:
    """Compares; decides at once where the weights are the same."""
    margin = policy.margin_of(base.task)
    result = task_result(base, new, allow, margin)
    metric = _metric(result, policy)
    same = base.weights == new.weights and base.identity["preparation"] == new.identity["preparation"]
    draft = TaskDecision(base.task, INCONCLUSIVE, "", margin, same, result, metric)
    if not same:
        return draft
    differing = _first_differing(result)
    if differing is None:
        return replace(
            draft, status=PASS, why=f"same weights, all {len(result.a.ids):,} texts and rows equal",
            warnings=tuple(_speed(result, policy)),
        )  # fmt: skip
    changed = sum(x != y for x, y in zip(result.a.texts, result.b.texts, strict=True))
    if updated := _updated(result):
        return replace(draft, updated=updated, differing=differing)
    why = (
        f"same weights, but {changed:,} of {len(result.a.ids):,} texts differ, the first is {differing['id']}"
        if changed
        else f"same weights and texts, but {differing['metric']} scores {differing['id']} differently"
    )
    return replace(draft, status=FAIL, why=why, differing=differing)


def _updated(result: TaskResult) -> str:
    """Which libraries are not those of the baseline: with others, rounding may turn a text."""
    before, now = result.a.versions(), result.b.versions()
    named = sorted(before.keys() | now.keys()) if before and now else []
    moved = [(name, before.get(name, "none"), now.get(name, "none")) for name in named]
    return ", ".join(f"{name} {old} → {new}" for name, old, new in moved if old != new)


def _metric(result: TaskResult, policy: Policy) -> MetricResult:
    wanted = policy.of(result.task).metric
    if wanted is None:
        return result.first
    for m in result.metrics:
        if wanted in (m.spelled, m.metric):
            return m
    there = [m.spelled for m in result.metrics]
    raise UserError(f"policy: tasks.{result.task}.metric: no '{wanted}'{nearest(wanted, there)}")


def _first_differing(result: TaskResult) -> dict[str, str] | None:
    """The first sample (by id) whose text, or else whose row, is not the baseline's."""
    for i, (mine, other) in enumerate(zip(result.a.texts, result.b.texts, strict=True)):
        if mine != other:
            return {"id": result.a.ids[i], "baseline": mine, "candidate": other}
    for m in result.metrics:
        a, b = result.a.rows[m.metric], result.b.rows[m.metric]
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            if not _equal(x, y):
                return {"id": result.a.ids[i], "metric": m.spelled, "baseline": str(x), "candidate": str(y)}
    return None


def _equal(x: Any, y: Any) -> bool:
    """Whether two rows are equal up to rounding; columns that only one of them has are ignored."""
    if isinstance(x, np.ndarray):
        shared = min(len(x), len(y))
        return bool(np.abs(x[:shared] - y[:shared]).max() < ROUNDING)
    if isinstance(x, dict) and isinstance(y, dict):
        return all(x[key] == y[key] for key in x.keys() & y.keys())
    return bool(x == y)


def _judged(
    draft: TaskDecision, beyond: float, tasks: int, policy: Policy, displaced: list[str]
) -> TaskDecision:
    """Non-inferior at the margin, beyond it after Holm over `tasks`, or neither; then what else warns or
    fails."""
    d, points = draft.metric.found, f"{100 * draft.margin:g}"
    shown = f"{draft.metric.spelled} {_points(d.value)} [{_points(d.low)}, {_points(d.high)}]"
    needed = None
    if draft.metric.why:
        status, why = INCONCLUSIVE, f"{draft.metric.spelled} {draft.metric.why}"
    elif d.p_above(-draft.margin) <= ENOUGH:
        status, why = PASS, f"{shown}, not worse by {points}"
    elif beyond <= CERTAIN:
        status, why = FAIL, f"{shown}, surely more than {points} worse"
    else:
        status, needed = INCONCLUSIVE, d.needed(draft.margin)
        way = f"about {needed:,} samples would decide" if needed else "too close to the margin to decide"
        why = f"{shown}, {d.n:,} samples can't tell at a margin of {points}; {way}"
        if d.high < -draft.margin:
            needed, why = None, f"{shown}, {_not_certain(points, beyond, tasks)}"
    warnings = []
    if draft.updated:
        same = sum(x == y for x, y in zip(draft.result.a.texts, draft.result.b.texts, strict=True))
        warnings.append(
            f"same weights under other libraries: {same:,} of {len(draft.result.a.ids):,} texts are equal, "
            "so scores decide; save the baseline again under these libraries"
        )
    for level, found in (
        (policy.groups, _groups(draft)),
        (policy.invalid, _invalid(draft.result, policy)),
        (policy.offset, displaced),
        (policy.speed, _speed(draft.result, policy)),
    ):
        if level == "warn":
            warnings += found
        elif found and level == "fail":
            status, why = FAIL, "; ".join([why, *found])
    return replace(draft, status=status, why=why, warnings=tuple(warnings), needed=needed)


def _not_certain(points: str, p: float, tasks: int) -> str:
    """Why an interval that is beyond the margin does not fail a task."""
    if tasks == 1:
        return f"more than {points} worse by the interval, but not surely by the test (p {p:.3f})"
    return (
        f"more than {points} worse if it were the only task; of {tasks} one is more often so by chance, "
        f"and after Holm's correction p is {p:.3f}, not at most {CERTAIN:g}"
    )


def _points(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{100 * value:+.1f}"


def _displaced(drafts: Sequence[TaskDecision], margin: float) -> list[list[str]]:
    """For each task, a sentence if boxes surely moved by more than `margin` steps one way, else none.

    Two-sided, Holm over all axes of all tasks. A candidate whose boxes are closer to their targets than
    the baseline's is not reported: it improved.
    """
    places = [
        (i, axis, d)
        for i, draft in enumerate(drafts)
        if not draft.by_texts
        for axis, d in draft.result.offsets.items()
    ]
    ps = [min(1.0, 2 * min(d.p_above(margin), d.p_below(-margin))) for _, _, d in places]
    found: dict[int, list[str]] = {}
    for (i, axis, d), p in zip(places, significance.adjust(ps), strict=True):
        if p <= CERTAIN and abs(d.b) > abs(d.a):
            found.setdefault(i, []).append(f"{d.value:+.1f} [{d.low:+.1f}, {d.high:+.1f}] {axis}")
    surely = f"boxes surely moved by more than {margin:g} steps of {STEPS:,}:"
    return [[f"{surely} {', '.join(found[i])}"] if i in found else [] for i in range(len(drafts))]


def _groups(draft: TaskDecision) -> list[str]:
    return [
        f"group {name} (n {g.n:,}) is beyond the margin: "
        f"{_points(g.value)} [{_points(g.low)}, {_points(g.high)}]"
        for name, g in draft.result.groups.items()
        if g.high < -draft.margin
    ]


def _invalid(result: TaskResult, policy: Policy) -> list[str]:
    before, after, n = sum(result.a.invalid), sum(result.b.invalid), len(result.a.ids)
    if after - before <= policy.invalid_margin * n:
        return []
    return [f"unreadable answers rose from {before:,} to {after:,} of {n:,}"]


def _speed(result: TaskResult, policy: Policy) -> list[str]:
    """A sentence if the candidate is slower; compared only where both runs are complete and on one device."""
    a, b = result.a, result.b
    if policy.speed == "off" or not a.device or a.device != b.device or not a.seconds or not b.seconds:
        return []
    slow = (b.seconds / len(b.ids)) / (a.seconds / len(a.ids)) - 1
    if slow <= policy.speed_margin or min(a.seconds, b.seconds) < 10:
        return []
    return [f"{100 * slow:.0f} % slower per sample, on the same device ({a.device})"]
