"""How well confidence tells right from wrong: calibration error, risk at every coverage, accuracy at one.

Knows confidences in [0, 1] and values in [0, 1] (1 is right); not where they come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Pairs = Sequence[Sequence[tuple[float, float]]]
"""Of each sample its judged things (the answer, or every box), each with its confidence and its value."""


@dataclass(frozen=True)
class Ranked:
    """Things by falling confidence. Those of equal confidence are one step: which of them comes first would
    be chance, so the order of the samples decides nothing and a sample drawn twice counts as two."""

    confidence: Floats  # (steps,)
    starts: npt.NDArray[np.intp]  # (steps,): the first thing of each step
    value: Floats  # (things,)
    sample: npt.NDArray[np.intp]  # (things,)

    @classmethod
    def of(cls, pairs: Pairs) -> Ranked:
        lines = [(c, v, i) for i, some in enumerate(pairs) for c, v in some]
        array = np.array(lines, dtype=np.float64).reshape(-1, 3)
        array = array[np.argsort(-array[:, 0], kind="stable")]
        starts = np.flatnonzero(np.append(True, np.diff(array[:, 0]) != 0)[: len(array)])
        return cls(array[starts, 0], starts, array[:, 1], array[:, 2].astype(np.intp))

    def drawn(self, times: npt.NDArray[np.intp]) -> Drawn:
        """The things of samples that are drawn so many `times` (samples,)."""
        counts = times[self.sample]
        if not len(self.starts):
            return Drawn(self.confidence, np.zeros(0), np.zeros(0))
        weight = np.add.reduceat(counts, self.starts).astype(np.float64)
        return Drawn(self.confidence, weight, np.add.reduceat(counts * self.value, self.starts))


@dataclass(frozen=True)
class Drawn:
    """Steps of equal confidence, the most confident first: how many things, and the sum of their values."""

    confidence: Floats
    weight: Floats
    right: Floats

    @property
    def total(self) -> float:
        return float(self.weight.sum())

    def gaps(self, bins: int) -> Floats:
        """Confidence less value, summed over each of `bins` bins of equally many things (bins,): a step on
        an edge goes to both sides by its share. Divided by `total` their sizes add up to the expected
        calibration error (Guo et al. 2017) with the adaptive bins of Nixon et al. 2019."""
        return np.diff(self._along(self.confidence * self.weight - self.right, bins))

    def noise(self, bins: int) -> float:
        """The calibration error that a calibrated model is expected to show: in each bin the mean size of a
        normal error whose variance is the sum of p(1-p), of values 0 and 1. Values between spread less."""
        p = self.confidence
        spread = np.diff(self._along(self.weight * p * (1 - p), bins))
        return float(np.sqrt(np.maximum(spread, 0) * 2 / np.pi).sum() / self.total)

    def bins(self, bins: int) -> list[tuple[float, float, float]]:
        """(mean confidence, mean value, things) of each bin, the most confident first."""
        columns = (self.confidence * self.weight, self.right, self.weight)
        sums = np.stack([np.diff(self._along(column, bins)) for column in columns], axis=1)
        return [(c / n, v / n, n) for c, v, n in sums.tolist() if n > 0]

    def risk(self) -> float:
        """The area under the risk-coverage curve (Geifman & El-Yaniv 2017; as a mean over coverages 1/n to
        1, Geifman et al. 2019): risk is 1 less the mean value of what is kept."""
        kept = np.arange(1, int(self.total) + 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.where(self.weight > 0, self.right / self.weight, 0.0)
        return float((1 - np.cumsum(np.repeat(mean, self.weight.astype(np.intp))) / kept).mean())

    def least_risk(self) -> float:
        """The same area in the best order: right ones first."""
        right, n = float(self.right.sum()), int(self.total)
        kept = np.arange(1, n + 1)
        return float((1 - np.minimum(kept, right) / kept).mean())

    def kept(self, coverage: float) -> tuple[float, float]:
        """(mean value, least confidence) of the most confident `coverage` (above 0) of all."""
        counted = np.cumsum(self.weight)
        most = coverage * self.total
        value = float(np.interp(most, [0.0, *counted], [0.0, *np.cumsum(self.right)])) / most
        place = min(int(np.searchsorted(counted, most * (1 - 1e-12))), len(counted) - 1)
        return value, float(self.confidence[place])

    def _along(self, column: Floats, bins: int) -> Floats:
        """A column's running sum at the edges of `bins` bins of equally many things."""
        counted = np.concatenate([[0.0], np.cumsum(self.weight)])
        edges = np.linspace(0, counted[-1], bins + 1)
        return np.asarray(np.interp(edges, counted, np.concatenate([[0.0], np.cumsum(column)])))
