"""Counting and comparing for the parity tests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from evalkit import registry
from evalkit.types import Prediction


class Compared:
    """How many values of what were compared, and which differ."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []

    def near(self, what: str, ours: float, theirs: float, where: object, tolerance: float = 1e-9) -> None:
        self.counts[what] += 1
        same = ours == theirs or abs(ours - theirs) <= tolerance
        if not (same or (math.isnan(ours) and math.isnan(theirs))):
            self.failures.append(f"{what}: {ours!r}, reference {theirs!r}: {str(where)[:300]}")

    def equal(self, what: str, ours: object, theirs: object, where: object) -> None:
        self.counts[what] += 1
        if ours != theirs:
            self.failures.append(f"{what}: {ours!r}, reference {theirs!r}: {str(where)[:300]}")


def score(spelling: str, answer: Any, target: Any) -> float:
    """One sample's score by the metric spelled."""
    return score_all(spelling, [answer], [target])


def score_all(spelling: str, answers: Sequence[Any], targets: Sequence[Any]) -> float:
    metric = registry.make("metrics", spelling)
    return metric.reduce(metric.rows(answers, targets))


def predicted(text: str) -> Prediction:
    return Prediction(id="case", prompt="", text=text)


def raised(expected: Any) -> bool:
    """Whether the reference raises there."""
    return isinstance(expected, dict) and "error" in expected
