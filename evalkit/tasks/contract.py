"""Whether a task's format, parser and metrics fit together: by what they declare, then by its samples.

Code of the user's own that declares nothing is not checked.
"""

from __future__ import annotations

from collections import Counter
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


class Checks:
    """Whether samples fit their task's metrics, seen one after the other."""

    def __init__(self, task: Task, fmt: Format) -> None:
        self._task, self._groups = task, set[str]()
        self._metrics: dict[str, Metric] = {}
        if _gives(fmt):
            self._metrics = {spelling: registry.make("metrics", spelling) for spelling in task.metrics}
        self._judging = {s: m for s, m in self._metrics.items() if type(m).unfit is not Metric.unfit}
        self._taken = {spelling: takes(metric) for spelling, metric in self._metrics.items()}
        self._found = Counter[frozenset[str]]()
        self._first: dict[frozenset[str], int] = {}  # of each set of kinds, the place of the first sample
        self._unfit: dict[str, str] = {}
        self._raised: Exception | None = None
        self._n = 0

    def add(self, sample: Sample) -> None:
        self._groups.add(sample.group)
        self._n += 1
        if not self._metrics:
            return
        kinds = target_kinds(sample.target)
        self._found[kinds] += 1
        self._first.setdefault(kinds, self._n - 1)
        for spelling, metric in self._judging.items() if kinds else ():
            if spelling not in self._unfit and (problem := self._problem(spelling, metric, kinds, sample)):
                self._unfit[spelling] = f"the target of sample {sample.id} {problem}"

    def _problem(self, spelling: str, metric: Metric, kinds: frozenset[str], sample: Sample) -> str:
        """What is wrong with a target. One of a kind that the metric does not take is another mistake."""
        if self._taken[spelling] and kinds.isdisjoint(self._taken[spelling]):
            return ""
        try:
            return metric.unfit(sample.target)
        except (
            Exception
        ) as error:  # own code's; said when all is read, as what is wrong with the files is first
            self._raised = self._raised or error
            return ""

    def done(self, samples: Sequence[Sample]) -> None:
        """Raises UserError where targets are of a kind that a metric does not take, or group_mean leaves out
        a group that is not there. Samples without target are not looked at."""
        task = self._task
        if absent := sorted(set(task.group_mean or ()) - self._groups):
            there = ", ".join(sorted(self._groups - {""})) or "none, since no sample states its group"
            raise UserError(f"{task.path}: group_mean: without: no group '{absent[0]}'; there are: {there}")
        for spelling in self._metrics:
            self._check_kinds(spelling, samples)
            if self._raised is not None:
                raise self._raised
            if spelling in self._unfit:
                raise UserError(f"{task.path}: metrics: {spelling}: {self._unfit[spelling]}")

    def _check_kinds(self, spelling: str, samples: Sequence[Sample]) -> None:
        task, taken = self._task, self._taken[spelling]
        wrong = [kinds for kinds in self._found if kinds and kinds.isdisjoint(taken)] if taken else []
        if not wrong:
            return
        first = samples[min(self._first[kinds] for kinds in wrong)]
        kinds, kind = target_kinds(first.target), registry.make("parsers", task.parser).kind
        n = sum(self._found[each] for each in wrong)
        more = _fitting(kind, kinds)
        if n < sum(n for each, n in self._found.items() if each):
            more = f"; the others have {_or(taken)}"
        elif "texts" in kinds and any("<loc" in text for text in accepted(first.target)):
            more += "; boxes of a target are numbers, not <loc> tokens: docs/data.md converts them"
        raise UserError(
            f"{task.path}: metrics: {spelling} scores targets of kind {_or(taken)}, but {n:,} of "
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
