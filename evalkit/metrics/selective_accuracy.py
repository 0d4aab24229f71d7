"""Accuracy at a coverage: of the most confident answers alone, the others being left to somebody else."""

from __future__ import annotations

from dataclasses import dataclass, field

from evalkit import registry
from evalkit.stats.judged import Judged, Per
from evalkit.stats.selective import Drawn
from evalkit.types import Metric, Rows


@dataclass(frozen=True)
class SelectiveAccuracy(Judged):
    """Mean value of the metric `of` over the most confident `coverage` of all answers (El-Yaniv & Wiener
    2010).

    Answers of equal confidence at the edge count by their mean. `confidence` as in calibration_error; only
    its order matters here. `details` have the least probability that is kept, which is the threshold to use.
    """

    of: str = "exact_match"
    coverage: float = 0.8
    confidence: Per = "sequence"
    metric: Metric = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.coverage <= 1:
            raise ValueError(f"coverage={self.coverage}: must be above 0 and at most 1")
        self.judge_by(registry.make("metrics", self.of), self.of)

    def figure(self, drawn: Drawn) -> float:
        return drawn.kept(self.coverage)[0]

    def details(self, rows: Rows) -> dict[str, float]:
        return {"least confidence kept": self.whole(rows).kept(self.coverage)[1]}
