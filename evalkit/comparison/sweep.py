"""What a sweep found: a map of settings with paired differences, and which of them move the score.

Knows no run and runs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from evalkit.comparison.compare import ALPHA
from evalkit.stats.paired import Difference
from evalkit.types import Score


@dataclass(frozen=True)
class Point:
    """One setting of a task: its score, and its difference from the task's first one on the same samples."""

    task: str
    metric: str
    values: tuple[str, ...]  # one an axis
    run: str
    score: Score  # of all samples that it was run on
    n: int  # samples that were compared
    found: Difference | None  # None: the first setting itself
    p: float  # that it differs, after looks and Holm over the whole sweep
    alike: float  # the same for "within the margin"
    why: str = ""  # why it cannot be compared
    identical: bool = False

    def verdict(self, margin: float) -> str:
        """worse, better, equivalent within the margin, or undecided."""
        if self.found is None:
            return self.why or "compared with"
        if self.identical:
            return "identical texts"
        if self.p <= ALPHA and self.found.value:
            return "better" if self.found.value > 0 else "worse"
        return f"equivalent within {100 * margin:g}" if self.alike <= ALPHA else "undecided"


@dataclass(frozen=True)
class Sweep:
    """The map: all settings of all tasks, the first of each being what the others are compared with."""

    axes: tuple[str, ...]
    points: tuple[Point, ...]
    margin: float

    @property
    def moved(self) -> tuple[Point, ...]:
        """What moves the score beyond noise."""
        return tuple(p for p in self.points if p.verdict(self.margin) in ("better", "worse"))

    def changed(self, point: Point) -> dict[str, str]:
        """The axes on which a point is not as the first setting of its task, with its values."""
        first = next(p for p in self.points if p.task == point.task)
        each = zip(self.axes, point.values, first.values, strict=True)
        return {axis: value for axis, value, before in each if value != before}

    def records(self) -> Iterator[dict[str, Any]]:
        """One a point, all with the same keys; None for what is no number."""
        for p in self.points:
            d = p.found
            yield {
                "task": p.task,
                "metric": p.metric,
                **dict(zip(self.axes, p.values, strict=True)),
                "value": p.score.value,
                "low": p.score.low,
                "high": p.score.high,
                "n": p.n,
                "difference": None if d is None else _number(d.value),
                "difference_low": None if d is None else _number(d.low),
                "difference_high": None if d is None else _number(d.high),
                "p": None if d is None else p.p,
                "verdict": p.verdict(self.margin),
                "run": p.run,
                "signature": p.score.signature,
            }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
