"""Whether a task's format, parser and metrics fit together: by what they declare, then by its samples.

Code of the user's own that declares nothing is not checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evalkit import registry
from evalkit.errors import UserError
from evalkit.text.answers import accepted
from evalkit.types import Format, Metric, Parser, Sample, Task, target_kinds

Spelled = Mapping[str, Any]
"""Objects by how the task spells them."""


def takes(metric: Metric) -> tuple[str, ...]:
    """The kinds of target that a metric scores; () where it declares none."""
    return metric.takes if registry.declares(metric, "takes") else ()


def used(task: Task) -> frozenset[str] | None:
    """The kinds of target that any of the task's metrics takes; None where one does not declare it."""
    kinds = [takes(registry.make("metrics", spelling)) for spelling in task.metrics]
    return frozenset(kind for some in kinds for kind in some) if all(kinds) else None


def check_declared(
    shown: str, formats: Spelled, parser: tuple[str, Parser], metrics: Spelled, means: bool
) -> None:
    """Raises UserError for a metric that cannot read what the parser gives or score what a format gives.

    `means`: whether scores are means over groups.
    """
    spelled, kind = parser[0], parser[1].kind
    given: list[str] = [k for each in formats.values() for k in _gives(each)]
    for spelling, metric in metrics.items():
        if kind not in metric.wants:
            raise UserError(
                f"{shown}: metrics: {spelling} reads {_or(metric.wants)}, but parser {spelled} gives {kind}"
                + _fitting(kind, given)
            )
        for name, fmt in formats.items():
            if _gives(fmt) and takes(metric) and not set(_gives(fmt)) & set(takes(metric)):
                raise UserError(
                    f"{shown}: metrics: {spelling} scores targets of kind {_or(takes(metric))}, but format "
                    f"{name} gives {_or(_gives(fmt))}{_fitting(kind, _gives(fmt))}"
                )
        if means and not metric.columns and not metric.confident:
            raise UserError(
                f"{shown}: group_mean: {spelling} has no rows that add up; its score for each group is shown "
                "without group_mean too"
            )


def check_samples(task: Task, fmt: Format, samples: Sequence[Sample]) -> None:
    """Raises UserError where targets are of a kind that a metric does not take, or group_mean leaves out a
    group that is not there. Samples without target are not looked at."""
    groups = {sample.group for sample in samples}
    if absent := sorted(set(task.group_mean or ()) - groups):
        there = ", ".join(sorted(groups - {""})) or "none, since no sample states its group"
        raise UserError(f"{task.path}: group_mean: without: no group '{absent[0]}'; there are: {there}")
    if not _gives(fmt):
        return
    for spelling in task.metrics:
        metric: Metric = registry.make("metrics", spelling)
        if taken := takes(metric):
            _check_kinds(task, spelling, taken, samples)
        for sample in samples:
            if target_kinds(sample.target) and (problem := metric.unfit(sample.target)):
                raise UserError(
                    f"{task.path}: metrics: {spelling}: the target of sample {sample.id} {problem}"
                )


def _check_kinds(task: Task, spelling: str, taken: Iterable[str], samples: Sequence[Sample]) -> None:
    found = [(s, k) for s in samples if (k := target_kinds(s.target))]
    wrong = [(s, k) for s, k in found if k.isdisjoint(taken)]
    if not wrong:
        return
    (first, kinds), kind = wrong[0], registry.make("parsers", task.parser).kind
    more = _fitting(kind, kinds)
    if len(wrong) < len(found):
        more = f"; the others have {_or(taken)}"
    elif "texts" in kinds and any("<loc" in text for text in accepted(first.target)):
        more += "; boxes of a target are numbers, not <loc> tokens: docs/data.md converts them"
    raise UserError(
        f"{task.path}: metrics: {spelling} scores targets of kind {_or(taken)}, but {len(wrong):,} of "
        f"{len(samples):,} samples have {_or(sorted(kinds))}, the first is {first.id}{more}"
    )


def _gives(fmt: Format) -> tuple[str, ...]:
    return fmt.gives if registry.declares(fmt, "gives") else ()


def _fitting(kind: str, given: Iterable[str]) -> str:
    """`; there are: ...`: the metrics that come along and read such answers against such targets. Where there
    are none, those that score the targets, with the kind of parser that they need."""
    known = {name: registry.find("metrics", name) for name in registry.names("metrics")}
    known.pop("group_mean")
    scoring = {n: m for n, m in known.items() if not set(given) or set(given) & set(m.takes)}
    here = [name for name, metric in scoring.items() if kind in metric.wants]
    if here:
        return f"; there are: {', '.join(here)}"
    wanted = sorted({each for metric in scoring.values() for each in metric.wants})
    return f"; with a parser that gives {_or(wanted)} there are: {', '.join(scoring)}" if scoring else ""


def _or(names: Iterable[str]) -> str:
    return " or ".join(names)
