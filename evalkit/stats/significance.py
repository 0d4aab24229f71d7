"""Whether a difference is real: paired tests on the same samples, and corrections for several tests.

Knows rows of numbers and clusters; not tasks, models or files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
FLIPS = 10_000


@dataclass(frozen=True, slots=True)
class McNemar:
    """Result of McNemar's test of two paired proportions, from the samples that only one got right."""

    statistic: float
    p: float


def mcnemar(
    only_a: int, only_b: int, method: Literal["exact", "mid", "chi2", "chi2_corrected"] = "exact"
) -> McNemar:
    """Two-sided McNemar (1947). `exact` is binomial with statistic min(b, c), `mid` its mid-p value
    (Fagerland et al. 2013), `chi2` the asymptotic test without and with Edwards' correction.

    Without discordant samples there is no evidence of a difference: p is 1.
    """
    n, less = only_a + only_b, min(only_a, only_b)
    if n == 0:
        return McNemar(0.0, 1.0)
    if method in ("exact", "mid"):
        from scipy.stats import binom

        p = 2 * float(binom.cdf(less, n, 0.5))
        if method == "mid":
            p -= float(binom.pmf(less, n, 0.5))
        return McNemar(float(less), min(1.0, p))
    correction = 1 if method == "chi2_corrected" else 0
    statistic = (abs(only_a - only_b) - correction) ** 2 / n
    return McNemar(statistic, math.erfc(math.sqrt(statistic / 2)))


def sign_flip(differences: Floats, index: npt.NDArray[np.intp], seed: int = 0) -> float:
    """Two-sided p of the mean paired difference, flipping the signs of whole clusters.

    Tries all flips if there are at most 2^13, otherwise `FLIPS` random ones and the observed one.
    As scipy's `permutation_test(permutation_type="samples")`: twice the smaller side, at most 1.
    """
    groups = int(index.max()) + 1
    sums = np.bincount(index, weights=differences, minlength=groups)
    observed = sums.sum()
    if groups <= 13:
        bits = (np.arange(2**groups)[:, None] >> np.arange(groups)) & 1
        totals, extra = (1 - 2 * bits) @ sums, 0
    else:
        sums = sums[sums != 0]  # a flipped zero changes nothing
        rng = np.random.default_rng(seed)
        step = max(8, 2_000_000 // (len(sums) + 1) // 8 * 8)
        parts = []
        for start in range(0, FLIPS, step):
            size = min(step, FLIPS - start)
            drawn = np.unpackbits(np.frombuffer(rng.bytes(size * len(sums) // 8 + 1), dtype=np.uint8))
            flipped = drawn[: size * len(sums)].reshape(size, len(sums)).astype(np.float64)
            parts.append(sums.sum() - 2 * (flipped @ sums))
        totals, extra = np.concatenate(parts), 1
    slack = 1e-12 * max(1.0, float(np.abs(sums).sum()))  # equal sums in another order
    above = int((totals >= observed - slack).sum()) + extra
    below = int((totals <= observed + slack).sum()) + extra
    return float(min(1.0, 2 * min(above, below) / (len(totals) + extra)))


def adjust(
    p: Sequence[float], method: Literal["holm", "bonferroni", "fdr_bh", "fdr_by"] = "holm"
) -> list[float]:
    """Adjusted p-values of several tests: Holm (1979), Bonferroni, Benjamini-Hochberg, -Yekutieli."""
    values = np.asarray(p, dtype=np.float64)
    n = len(values)
    if n == 0:
        return []
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    if method == "bonferroni":
        ranked = ranked * n
    elif method == "holm":
        ranked = np.maximum.accumulate(ranked * (n - np.arange(n)))
    else:
        harmonic = float((1 / np.arange(1, n + 1)).sum()) if method == "fdr_by" else 1.0
        ranked = np.minimum.accumulate((ranked * n * harmonic / np.arange(1, n + 1))[::-1])[::-1]
    result = np.empty(n)
    result[order] = np.minimum(ranked, 1.0)
    return [float(x) for x in result]
