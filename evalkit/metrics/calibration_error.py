"""Expected calibration error: how far answers' probabilities are from how often such answers are right."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from evalkit import registry
from evalkit.stats import intervals
from evalkit.stats.judged import Judged, Per, ranked_of
from evalkit.stats.selective import Drawn, Floats
from evalkit.types import Breakdowns, Metric, Rows


@dataclass(frozen=True)
class CalibrationError(Judged):
    """Expected calibration error (Guo et al. 2017) in bins of equally many answers (Nixon et al. 2019).

    The mean over bins of |mean probability - mean value|; the values are those of the metric `of`, which may
    be partly right (vqa_accuracy), or whether each box is right (sweep_f1). `confidence`: the probability of
    the whole text with its end (sequence), or its geometric mean per token (token), which ranks long texts
    more fairly but is no probability of the answer. Boxes have their own, as `of` says.

    It is not debiased, so that it equals what other tools give: of few answers even a calibrated model's is
    above 0. `details` say how much ("of a calibrated model"), and the interval begins at 0 where the figure
    is no larger than what chance gives.
    """

    of: str = "exact_match"
    bins: int = 15
    confidence: Per = "sequence"
    metric: Metric = field(init=False, repr=False, compare=False)

    lower_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise ValueError(f"bins={self.bins}: must be at least 1")
        self.judge_by(registry.make("metrics", self.of), self.of)

    def figure(self, drawn: Drawn) -> float:
        return float(np.abs(drawn.gaps(self.bins)).sum() / drawn.total)

    def details(self, rows: Rows) -> dict[str, float]:
        """Mean probability and mean value, and the error that a calibrated model would show."""
        drawn = self.whole(rows)
        return {
            "mean confidence": float(drawn.confidence @ drawn.weight / drawn.total),
            "mean value": float(drawn.right.sum() / drawn.total),
            "of a calibrated model": drawn.noise(self.bins),
        }

    def breakdowns(self, rows: Rows) -> Breakdowns:
        """The reliability diagram: each bin's mean probability and value, the most confident first."""
        found = enumerate(self.whole(rows).bins(self.bins), 1)
        return {"bin": {str(i): {"confidence": c, "value": v, "n": round(n)} for i, (c, v, n) in found}}

    def bounds(self, rows: Rows, index: intervals.Ints) -> intervals.Interval | None:
        """Sums of sizes grow with noise, so resamples lie above the score. The interval is their percentiles
        reflected at the score (its upper end no lower than theirs); from 0 where the score is no larger than
        97.5 % of the sizes of what resampling adds, or from what the mean gap of all bins together leaves,
        which is never above the score that bins were to estimate."""
        ranked = ranked_of(rows)
        groups = int(index.max()) + 1
        if ranked is None or groups < intervals.FEW:
            return None
        rng, seen, added, mean = np.random.default_rng(0), list[float](), list[float](), list[float]()
        whole = self._shares(self.whole(rows))
        for _ in range(intervals.RESAMPLES_SLOW):
            times = np.bincount(rng.integers(0, groups, size=groups), minlength=groups)[index]
            drawn = ranked.drawn(times)
            if drawn.total:
                gaps = self._shares(drawn)
                seen.append(float(np.abs(gaps).sum()))
                added.append(float(np.abs(gaps - whole).sum()))
                mean.append(float(gaps.sum()))
        value = float(np.abs(whole).sum())
        low, high = intervals.percentiles(np.array(seen), groups)
        _, chance = intervals.percentiles(np.array(added), groups)
        under, over = intervals.percentiles(np.array(mean), groups)
        bottom = max(0.0, under, -over, 0.0 if value <= chance else 2 * value - high)
        return bottom, max(high, 2 * value - low), f"bootstrap({intervals.RESAMPLES_SLOW}, reflected)"

    def _shares(self, drawn: Drawn) -> Floats:
        return drawn.gaps(self.bins) / drawn.total
