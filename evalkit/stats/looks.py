"""Several tests that are each looked at several times, held together. Knows p-values only."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from evalkit.stats import significance


@dataclass
class Looks:
    """The tests of one family: what is certain at 5 % of all of them together, however soon one stops.

    A test that is planned to be looked at k times has the smallest of its p-values times k (Bonferroni over
    looks); the family is held by Holm (1979). Both hold for any dependence. A test that is not looked at
    again keeps its p, so what was decided stays so.
    """

    tests: int  # in the family, looked at or not
    found: dict[Hashable, float] = field(default_factory=dict)

    def add(self, test: Hashable, p: float, planned: int) -> None:
        """One look at a test, of `planned`."""
        self.found[test] = min(self.found.get(test, 1.0), p * planned, 1.0)

    def adjusted(self) -> dict[Hashable, float]:
        """The p-value of each test that was looked at; those that were not count as 1."""
        rest = [1.0] * (self.tests - len(self.found))
        return dict(zip(self.found, significance.adjust([*self.found.values(), *rest]), strict=False))
