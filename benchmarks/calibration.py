"""How often the interval of a calibration error holds the truth, and plain percentiles beside it.

python -m benchmarks.calibration [RUNS]   (8 worlds; half a second of one core each)
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from evalkit.metrics.calibration_error import CalibrationError
from evalkit.printing import put
from evalkit.stats import intervals
from evalkit.stats.selective import Ranked
from evalkit.types import Confident

Floats = npt.NDArray[np.float64]
WORLDS: dict[str, Callable[[Floats], Floats]] = {
    "calibrated": lambda c: c,
    "2 points too sure": lambda c: np.maximum(c - 0.02, 0),
    "15 points too sure": lambda c: np.maximum(c - 0.15, 0),
    "too sure at both ends": lambda c: 1 / (1 + np.exp(-0.6 * np.log(c / (1 - c)))),
}


@cache
def truth(right: Callable[[Floats], Floats], bins: int) -> float:
    """The error of infinitely many answers, in bins of equally many."""
    sure = np.sort(np.random.default_rng(0).beta(4, 1.5, 600_000))
    parts = np.array_split(sure - right(sure), bins)
    return float(sum(abs(part.sum()) for part in parts) / len(sure))


def holds(right: Callable[[Floats], Floats], n: int, seed: int) -> tuple[bool, bool, float]:
    """Whether the interval, and that of plain percentiles, holds the truth; and the score."""
    rng = np.random.default_rng(seed)
    sure = rng.beta(4, 1.5, n)
    values = rng.random(n) < right(sure)
    metric = CalibrationError()
    answers = [Confident("a" if v else "b", (math.log(c),)) for c, v in zip(sure, values, strict=True)]
    rows = metric.rows(answers, [("a",)] * n)
    low, high, _ = intervals.interval(metric, rows, range(n))
    ranked = Ranked.of(list(zip(zip(sure, values.astype(float), strict=True), strict=True)))
    drawn = (np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(500))
    plain = np.quantile([metric.figure(ranked.drawn(times)) for times in drawn], [0.025, 0.975])
    known = truth(right, metric.bins)
    return (
        low is not None and high is not None and low <= known <= high,
        bool(plain[0] <= known <= plain[1]),
        metric.reduce(rows),
    )


def main(runs: int = 100) -> None:
    put("answers  world                    truth  mean score  interval holds  percentiles hold")
    for n in (200, 1000):
        for name, right in WORLDS.items():
            found = [holds(right, n, seed) for seed in range(runs)]
            ours, plain, score = (float(np.mean(column)) for column in zip(*found, strict=True))
            known = truth(right, CalibrationError().bins)
            put(f"{n:7}  {name:24} {known:.3f}  {score:10.3f}  {ours:14.0%}  {plain:16.0%}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
