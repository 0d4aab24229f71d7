"""Paired comparison that may be checked after every block and stopped early: betting e-processes.

Knows blocks of cluster sums; not runs, models or files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from evalkit.stats.intervals import Floats

ALPHA = 0.05
ALTERNATIVES = (1.0, 1.75, 3.0)  # differences to bet on, in margins
_CAP = 0.9  # of the largest stake that cannot lose all capital
_PRIOR = (4.0, 0.15)  # weight in clusters, and the assumed variance of a sample's difference


@dataclass
class Decider:
    """Decides worse, better or equivalent within `margin`, valid however often it is checked.

    For each of four null hypotheses about the mean paired difference (>= 0, <= 0, <= -margin,
    >= margin) it has a capital that starts at 1 and is multiplied by 1 + stake x (difference - null) for
    every cluster. This is a test martingale for bounded differences, so by Ville's inequality it ever
    exceeds 1/alpha with probability at most alpha (Waudby-Smith & Ramdas 2024, "betting").
    Stakes are set before a block from earlier blocks alone, near the best ones for these alternatives:
    no difference for equivalence, some margins for worse and better (averaged). Worse and better use
    alpha/2 each; equivalence is two one-sided tests at alpha. Clusters count as a random sample from a
    population, without a correction for the finite task, so a decision holds beyond it.
    `size` is the largest cluster, `mean_size` their mean: both are known before the first request.
    Where only a better one matters (`hopeful`), it is also "not better" as soon as a difference of the
    margin or more is rejected at alpha and the samples so far show none at all.
    """

    margin: float
    size: int
    mean_size: float
    alpha: float = ALPHA
    hopeful: bool = False
    wealth: dict[str, Floats] = field(init=False)  # log capital of each null, one per stake
    clusters: int = 0
    samples: int = 0
    total: float = 0.0
    squares: float = 0.0
    verdict: str = ""

    def __post_init__(self) -> None:
        some = np.zeros(len(ALTERNATIVES))
        self.wealth = {
            "not worse": some.copy(), "not better": some.copy(),
            "too low": np.zeros(1), "too high": np.zeros(1),
        }  # fmt: skip

    def look(self, sums: Floats, sizes: Floats) -> str:
        """Takes one completed block: summed differences (in [-size, size]) and sizes of its clusters.

        Returns worse, better, equivalent, not better, or "" to continue. A verdict is final.
        """
        gains = {} if self.verdict else {null: self._gain(null, sums, sizes) for null in self.wealth}
        self.clusters += len(sums)
        self.samples += int(sizes.sum())
        self.total += float(sums.sum())
        self.squares += float((sums**2).sum())
        if not self.verdict:
            self.wealth = {null: old + gains[null] for null, old in self.wealth.items()}
            self.verdict = self._decide()
        return self.verdict

    def _gain(self, null: str, sums: Floats, sizes: Floats) -> Floats:
        """The growth of the log capital (stakes,) over a block."""
        m = self.margin
        shift = {"not worse": 0.0, "not better": 0.0, "too low": -m, "too high": m}[null]
        sign = 1.0 if null in ("not better", "too low") else -1.0
        aims = m * np.array(ALTERNATIVES if null in ("not worse", "not better") else (1.0,))
        weight, variance = _PRIOR
        known = (self.squares + weight * variance * self.mean_size**2) / (self.clusters + weight)
        most = _CAP / (self.size * (1 + m))
        stakes = np.minimum(aims * self.mean_size / (known + (aims * self.mean_size) ** 2), most)
        moved = sign * (sums - shift * sizes)
        growth: Floats = np.log1p(stakes[:, None] * moved[None, :]).sum(axis=1)
        return growth

    def capital(self, null: str) -> float:
        """The log of the mean capital over stakes."""
        logs = self.wealth[null]
        top = float(logs.max())
        return top + math.log(float(np.exp(logs - top).mean()))

    def _decide(self) -> str:
        half, one = math.log(2 / self.alpha), math.log(1 / self.alpha)
        if self.capital("not worse") >= half:
            return "worse"
        if self.capital("not better") >= half:
            return "better"
        if self.capital("too low") >= one and self.capital("too high") >= one:
            return "equivalent"
        if self.hopeful and self.total <= 0 and self.capital("too high") >= one:
            return "not better"
        return ""


def block_size(clusters: int, mean_size: float) -> int:
    """Clusters per block: about a hundred blocks at most, with at least 16 samples each."""
    return max(math.ceil(16 / mean_size), math.ceil(clusters / 100))
