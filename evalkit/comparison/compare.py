"""Are two models different: which runs may be compared, a verdict per task, wins over tasks.

Works on scored runs; prints nothing and applies no policy.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from evalkit.comparison.alike import aligned, shared_metrics
from evalkit.errors import UserError
from evalkit.metrics.group_mean import GroupMean
from evalkit.runs import scored_run
from evalkit.runs.naming import Named, labels
from evalkit.runs.scored_run import Head, ScoredRun, metric
from evalkit.stats import intervals, paired, significance
from evalkit.stats.paired import Difference
from evalkit.types import why_not_scored

MARGIN = 0.01
ALPHA = 0.05


# --- one task -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MetricResult:
    """One metric of a task, A against B; `flags` are statements about the difference (see `flags`). Where
    one of the two has no score on the shared samples, the difference is NaN and `why` says why."""

    metric: str
    spelled: str  # as written in the task file
    found: Difference
    flags: tuple[str, ...]
    why: str = ""  # "not scored, because ..."


@dataclass(frozen=True)
class TaskResult:
    """One task, A against B. The first metric's verdict counts; the others are shown next to it."""

    task: str
    a: ScoredRun
    b: ScoredRun
    metrics: tuple[MetricResult, ...]
    groups: Mapping[str, Difference]  # of the first metric, intervals simultaneous
    notes: tuple[str, ...]
    offsets: Mapping[str, Difference] = field(default_factory=dict)  # of boxes, in steps: `paired.offsets`
    p: float = 1.0  # of the first metric, after Holm over tasks

    @property
    def first(self) -> MetricResult:
        return self.metrics[0]

    @property
    def identical(self) -> bool:
        return self.a.texts == self.b.texts

    @property
    def outcome(self) -> str:
        """won, lost or tied, from B's side, at 5 % after Holm; or not scored."""
        if self.first.why:
            return "not scored"
        if self.p > ALPHA:
            return "tied"
        return "won" if self.first.found.value > 0 else "lost"

    @property
    def verdict(self) -> str:
        if self.identical:
            return "identical texts"
        return self.first.why or ", ".join(self.first.flags) or "undecided"


def flags(found: Difference, margin: float) -> tuple[str, ...]:
    """What is certain at 95 %: worse or better (the interval excludes 0), beyond the margin (all of it is
    below -margin), equivalent (two one-sided tests at 5 %: within the margin on both sides)."""
    certain = []
    if found.high < 0:
        certain.append("worse")
    if found.low > 0:
        certain.append("better")
    if found.high < -margin:
        certain.append(f"beyond {100 * margin:g}")
    if found.p_above(-margin) <= ALPHA and found.p_below(margin) <= ALPHA:
        certain.append(f"equivalent within {100 * margin:g}")
    return tuple(certain)


def task_result(a: ScoredRun, b: ScoredRun, allow: Collection[str], margin: float) -> TaskResult:
    """Compares two runs of one task on their shared samples. Raises UserError when they can't be."""
    a, b, notes = aligned(a, b, allow)
    results = []
    shared = shared_metrics(a, b)
    for name, spelling in a.spelled.items():
        if name not in shared:
            notes.append(f"{spelling or name} is scored in {a.run} only")
        elif spelling in b.scores:
            notes += _other_tools(a, b, spelling)
            results.append(_metric_result(a, b, spelling, margin))
        else:
            results.append(_unscored(a, b, name))
    groups = _of_groups(a, b, results[0])
    if results[0].found.clusters < intervals.FEW:
        images = results[0].found.clusters
        few = f"{images} image{'' if images == 1 else 's'} only"
        notes.append(f"{few}: intervals are rough below {intervals.FEW}")
    both = [m for m in a.rows if m in b.rows]
    moved = (paired.offsets(metric(m), a.rows[m], b.rows[m], a.index) for m in both)
    offsets = next((found for found in moved if found), {})
    return TaskResult(a.task, a, b, tuple(results), groups, tuple(notes), offsets)


def _other_tools(a: ScoredRun, b: ScoredRun, spelling: str) -> list[str]:
    """Notes on a metric that was scored by other tools in the two runs."""
    found = []
    for key in ("tools", "evalkit"):
        mine, other = (each.signature(spelling).get(key, "(none named)") for each in (a, b))
        if mine != other:
            found.append(
                f"{spelling} was scored by {key} {mine} and {other}; `evalkit score` scores both alike"
            )
    return found


def _metric_result(a: ScoredRun, b: ScoredRun, spelling: str, margin: float) -> MetricResult:
    judge, name = metric(spelling), a.scores[spelling].metric
    values = judge.reduce(a.rows[spelling]), judge.reduce(b.rows[spelling])
    for run, value in zip((a, b), values, strict=True):
        if not math.isfinite(value):  # the shared samples may lack what all have
            why = why_not_scored(judge.why_undefined(run.rows[spelling]))
            return MetricResult(spelling, name, paired.undefined(*values, *_sizes(a)), (), why)
    found = paired.difference(judge, a.rows[spelling], b.rows[spelling], a.index)
    return MetricResult(spelling, name, found, flags(found, margin))


def _unscored(a: ScoredRun, b: ScoredRun, name: str) -> MetricResult:
    """What stands for a metric that one of the two runs has no score of."""
    scores = [run.scores.get(run.spelled[name]) for run in (a, b)]
    lacking = next(run for run, score in zip((a, b), scores, strict=True) if score is None)
    why = why_not_scored(lacking.not_scored.get(name, f"{lacking.run} has no score of it"))
    values = [math.nan if score is None else score.value for score in scores]
    return MetricResult(name, name, paired.undefined(values[0], values[1], *_sizes(a)), (), why)


def _sizes(run: ScoredRun) -> tuple[int, int]:
    return len(run.ids), int(run.index.max(initial=-1)) + 1


def _of_groups(a: ScoredRun, b: ScoredRun, first: MetricResult) -> Mapping[str, Difference]:
    """The first metric's differences within groups."""
    if first.metric not in a.rows or first.metric not in b.rows:
        return {}
    judge, before, after = metric(first.metric), a.rows[first.metric], b.rows[first.metric]
    if isinstance(judge, GroupMean):  # a single group is scored by the inner metric
        before, after = judge.narrow(before), judge.narrow(after)
        judge = judge.metric
    found = paired.simultaneous(judge, before, after, a.index, a.groups)
    return {name: d for name, d in found.items() if math.isfinite(d.value)}


def holm(results: Sequence[TaskResult]) -> list[float]:
    """The p of every task's first metric, adjusted over the tasks that have one; 1 for the others."""
    scored = [r for r in results if not r.first.why]
    adjusted = iter(significance.adjust([r.first.found.p for r in scored]))
    return [1.0 if r.first.why else next(adjusted) for r in results]


# --- several tasks --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelRuns:
    """One model: its runs by task."""

    name: str
    runs: Mapping[str, ScoredRun]


@dataclass(frozen=True)
class Comparison:
    """B against A over their common tasks."""

    a: ModelRuns
    b: ModelRuns
    tasks: tuple[TaskResult, ...]
    margin: float
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()

    def count(self, outcome: str) -> int:
        return sum(t.outcome == outcome for t in self.tasks)


def compare(a: ModelRuns, b: ModelRuns, allow: Collection[str] = (), margin: float = MARGIN) -> Comparison:
    """Every common task, p-values adjusted by Holm over them. Raises UserError when none is common."""
    common = [t for t in a.runs if t in b.runs]
    if not common:
        raise UserError(
            f"{a.name} and {b.name} have no task in common: {', '.join(a.runs)} against {', '.join(b.runs)}"
        )
    results = [task_result(a.runs[t], b.runs[t], allow, margin) for t in common]
    tasks = tuple(replace(r, p=p) for r, p in zip(results, holm(results), strict=True))
    return Comparison(
        a, b, tasks, margin,
        tuple(t for t in a.runs if t not in b.runs), tuple(t for t in b.runs if t not in a.runs),
    )  # fmt: skip


Known = TypeVar("Known", ScoredRun, Head | ScoredRun)


def sides(given: Sequence[tuple[str, Sequence[ScoredRun]]]) -> list[ModelRuns]:
    """The models to compare, from the arguments on the command line and in their order.

    Each argument is one model, unless an argument holds a task twice, or arguments are single runs of
    one model: then runs are collected by model (one that ran in two ways counts as two).
    """
    return [ModelRuns(name, by_task) for name, by_task in by_model(given)]


def by_model(given: Sequence[tuple[str, Sequence[Known]]]) -> list[tuple[str, dict[str, Known]]]:
    """As `sides`, also of runs whose rows are not read yet. Raises UserError for what is no two models."""
    runs = [run for _, group in given for run in group]
    by_argument = all(len({r.task for r in group}) == len(group) for _, group in given)
    tasks = [{r.task for r in group} for _, group in given]
    if by_argument and len(given) > 1 and (len(given) == 2 or set.intersection(*tasks)):
        names = [_name(group, place) for place, group in given]
        unique = names if len(set(names)) == len(names) else [place for place, _ in given]
        return [(name, {r.task: r for r in group}) for name, (_, group) in zip(unique, given, strict=True)]
    found: dict[str, dict[str, Known]] = {}
    for run, name in zip(runs, labels([_named(run) for run in runs]), strict=True):
        there = found.setdefault(name, {})
        if run.task in there:
            if (there[run.task].run, there[run.task].digest) == (run.run, run.digest):
                raise UserError(f"compare: {run.run} is there twice; name each run, or a folder of it, once")
            raise UserError(
                f"{name}: has two runs of {run.task}, {there[run.task].run} and {run.run}; name one"
            )
        there[run.task] = run
    if len(found) < 2:
        raise UserError(
            f"compare: all runs are of one model, {', '.join(found)}; "
            "name two runs, or a folder with two models"
        )
    return list(found.items())


def _named(run: Head | ScoredRun) -> Named:
    return Named(run.name, run.task, run.digest, run.identity, run.overrides)


def _name(group: Sequence[Head | ScoredRun], place: str) -> str:
    names = {r.name for r in group}
    return names.pop() if len(names) == 1 else place


# --- as data --------------------------------------------------------------------------------------------


def record(found: Comparison) -> dict[str, Any]:
    """The whole comparison as plain JSON: every p, every sample gained and lost."""
    return {
        "a": found.a.name,
        "b": found.b.name,
        "margin": found.margin,
        "won": found.count("won"),
        "lost": found.count("lost"),
        "tied": found.count("tied"),
        "not_scored": found.count("not scored"),
        "tasks": [task_record(t) for t in found.tasks],
        "only_a": found.only_a,
        "only_b": found.only_b,
    }


def task_record(t: TaskResult) -> dict[str, Any]:
    return {
        "task": t.task,
        "runs": [t.a.run, t.b.run],
        "n": len(t.a.ids),
        "invalid": [sum(t.a.invalid), sum(t.b.invalid)],
        "verdict": t.verdict,
        "outcome": t.outcome,
        "p_holm": t.p,
        "metrics": [
            {"metric": m.metric, "flags": m.flags, "why": m.why, **plain(m.found, t.a.ids)} for m in t.metrics
        ],
        "groups": {name: plain(d, ()) for name, d in t.groups.items()},
        "offsets": {axis: plain(d, ()) for axis, d in t.offsets.items()},
        "notes": t.notes,
    }


def plain(found: Difference, ids: Sequence[str]) -> dict[str, Any]:
    """A difference as JSON: NaN as null, samples by id where `ids` are given."""
    content: dict[str, Any] = {}
    for key in found.__dataclass_fields__:
        value = getattr(found, key)
        if key == "sizes":
            continue
        if key in ("gained", "lost"):
            if value is not None:
                content[key] = [ids[i] for i in value] if ids else len(value)
        else:
            content[key] = None if isinstance(value, float) and value != value else value
    return content


def baseline_of(against: str | Path | None, tasks: Sequence[str], option: str = "--against") -> ModelRuns:
    """The runs of `tasks` that `--against` (or another option) names. Raises UserError where it has none, or
    two of one."""
    if not against:
        raise UserError("--until-decided: against what? --against BASELINE names a run or baseline file")
    runs = [run for run in scored_run.read(against) if run.task in tasks]
    if not runs:
        names = ", ".join(dict.fromkeys(tasks))
        raise UserError(f"{option} {against}: has no run of {names}; run the baseline on it first")
    return only_model(runs, str(against))


def only_model(group: Sequence[ScoredRun], place: str) -> ModelRuns:
    """The runs of one argument as a model's. Raises UserError when it holds a task twice."""
    found: dict[str, ScoredRun] = {}
    for one in group:
        if one.task in found:
            raise UserError(
                f"{place}: holds two runs of {one.task}, {found[one.task].run} and {one.run}; name one"
            )
        found[one.task] = one
    return ModelRuns(group[0].name, found)
