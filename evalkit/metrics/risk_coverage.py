"""Area under the risk-coverage curve: how wrong the answers are that remain when unsure ones are left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from evalkit import registry
from evalkit.stats.judged import Judged, Per
from evalkit.stats.selective import Drawn
from evalkit.types import Breakdowns, Metric, Rows

SHOWN = 10  # coverages in `breakdowns`


@dataclass(frozen=True)
class RiskCoverage(Judged):
    """Mean risk (1 - value of the metric `of`) over all coverages, the most confident answers first: AURC.

    Geifman & El-Yaniv 2017, as a mean over coverages 1/n to 1 (Geifman, Uziel & El-Yaniv 2019). Answers of
    equal confidence count in no order. `confidence` as in calibration_error; only its order matters here.
    `details` have the area in the best order, and the risk without leaving out any.
    """

    of: str = "exact_match"
    confidence: Per = "sequence"
    metric: Metric = field(init=False, repr=False, compare=False)

    lower_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.judge_by(registry.make("metrics", self.of), self.of)

    def figure(self, drawn: Drawn) -> float:
        return drawn.risk()

    def details(self, rows: Rows) -> dict[str, float]:
        drawn = self.whole(rows)
        return {"in the best order": drawn.least_risk(), "risk of all": 1 - drawn.kept(1.0)[0]}

    def breakdowns(self, rows: Rows) -> Breakdowns:
        """The curve: at each coverage the risk, and the least probability that is kept."""
        drawn = self.whole(rows)
        shares = [i / SHOWN for i in range(1, SHOWN + 1)]
        found = {f"{share:.0%}": drawn.kept(share) for share in shares}
        return {
            "coverage": {
                name: {"risk": 1 - value, "least confidence": least} for name, (value, least) in found.items()
            }
        }
