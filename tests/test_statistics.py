"""Intervals and tests against scipy's and statsmodels' recorded values, and by what they promise."""

from __future__ import annotations

import json
import math
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit.stats import intervals, significance
from evalkit.types import Metric, Rows

FOLDER = Path(os.environ.get("EVALKIT_PARITY", Path(__file__).parents[2] / "shared" / "parity"))


class Mean(Metric):
    def rows(self, answers: Any, targets: Any) -> Rows:
        raise AssertionError


class Ratio(Mean):
    """Not a mean: sums over sums."""

    def value(self, sums: Any) -> Any:
        return sums[..., 0] / sums[..., 1]


def recorded() -> list[dict[str, Any]]:
    path = FOLDER / "statistics.json"
    return list(json.loads(path.read_text())["cases"]) if path.is_file() else []


def close(found: float, expected: Any, tolerance: float = 1e-9) -> bool:
    return found == pytest.approx(float(expected), abs=tolerance, rel=1e-6, nan_ok=True)


@pytest.mark.skipif(not recorded(), reason="the reference evaluators' outputs are not here (EVALKIT_PARITY)")
@pytest.mark.parametrize("case", recorded(), ids=lambda c: c["id"])
def test_recorded(case: dict[str, Any]) -> None:
    given, expected = case["inputs"], case["expected"]
    check = CHECKS.get(case["id"].split("-")[0])
    if check is None:  # resampling by the references' own random numbers, for example
        pytest.skip(f"nothing here compares {case['id']}: {sorted(expected)}")
    check(given, expected)


def check_mean(given: dict[str, Any], expected: dict[str, Any]) -> None:
    x = np.array(given["x"], dtype=float)
    index = np.arange(len(x))
    assert close(intervals.cluster_error(x, index), expected["sem"])
    if "t_ci95" in expected and expected["sem"] > 0:
        low, high = intervals.mean_interval(x, index)
        assert close(low, expected["t_ci95"][0])
        assert close(high, expected["t_ci95"][1])
    if "wilson95" in expected:
        low, high = intervals.wilson(float(x.sum()), len(x), intervals.student(math.inf))
        assert close(low, expected["wilson95"][0])
        assert close(high, expected["wilson95"][1])


def check_cluster(given: dict[str, Any], expected: dict[str, Any]) -> None:
    x, index = np.array(given["x"]), intervals.cluster_index(given["cluster"])
    assert close(intervals.cluster_error(x, index), expected["se_cluster_corrected"])
    assert close(intervals.cluster_error(x, index, corrected=False), expected["se_cluster_uncorrected"])


def check_mcnemar(given: dict[str, Any], expected: dict[str, Any]) -> None:
    b, c = given["only_a_right"], given["only_b_right"]
    for method in ("exact", "chi2", "chi2_corrected"):
        found = significance.mcnemar(b, c, method)  # type: ignore[arg-type]
        assert close(found.statistic, expected[method]["statistic"])
        assert close(found.p, expected[method]["pvalue"])
    assert close(significance.mcnemar(b, c, "mid").p, expected["mid_p"])


def check_multitest(given: dict[str, Any], expected: dict[str, Any]) -> None:
    for method in ("holm", "bonferroni", "fdr_bh", "fdr_by"):
        found = significance.adjust(given["p"], method)  # type: ignore[arg-type]
        assert all(close(f, e) for f, e in zip(found, expected[method], strict=True))


CHECKS = {
    "mean": check_mean,
    "cluster": check_cluster,
    "mcnemar": check_mcnemar,
    "multitest": check_multitest,
}


def rows_of(values: Any) -> Rows:
    return np.stack([np.asarray(values, float), np.ones(len(values))], axis=1)


def test_clusters_widen_and_singles_do_not() -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(size=50).repeat(10)
    x = image + 0.1 * rng.normal(size=500)
    alone = intervals.interval(Mean(), rows_of(x), range(500))
    together = intervals.interval(Mean(), rows_of(x), [i // 10 for i in range(500)])
    assert together[1] - together[0] > 2.5 * (alone[1] - alone[0])  # type: ignore[operator]


def test_proportions_stay_within_bounds_and_are_never_certain() -> None:
    for values in (np.ones(20), np.zeros(20), [1.0] * 19 + [0.0]):
        for clusters in (range(20), [i // 2 for i in range(20)]):
            low, high, method = intervals.interval(Mean(), rows_of(values), clusters)
            assert low is not None
            assert high is not None
            assert 0 <= low < high <= 1
            assert method == "wilson"


def test_one_cluster_says_nothing() -> None:
    assert intervals.interval(Mean(), rows_of([1, 0, 1]), "aaa") == (None, None, "none")
    assert intervals.interval(Mean(), rows_of([]), []) == (None, None, "none")


def test_sums_are_resampled_by_cluster_and_repeatably() -> None:
    rng = np.random.default_rng(2)
    rows = np.stack([rng.uniform(0, 1, 300), rng.uniform(1, 2, 300)], axis=1)
    clusters = [i // 3 for i in range(300)]
    first = intervals.interval(Ratio(), rows, clusters)
    assert first == intervals.interval(Ratio(), rows, clusters)
    value = rows[:, 0].sum() / rows[:, 1].sum()
    assert first[0] < value < first[1]  # type: ignore[operator]


def test_intervals_cover_what_they_say() -> None:
    """94 to 96.5 % of 2,000 simulated proportions of .8 in 100 clusters of 1 to 4."""
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(100), rng.integers(1, 5, size=100))
    hits = 0
    for _ in range(2000):
        chance = np.clip(rng.normal(0.8, 0.1, size=100), 0, 1)[clusters]
        low, high = intervals.wilson_clustered((rng.random(len(clusters)) < chance).astype(float), clusters)
        hits += low <= 0.8 <= high
    assert 0.93 <= hits / 2000 <= 0.97


def test_sign_flips() -> None:
    index = np.arange(10)
    assert significance.sign_flip(np.ones(10), index) == pytest.approx(2 / 1024)
    assert significance.sign_flip(np.array([1.0, -1] * 5), index) == 1.0


@pytest.mark.parametrize("seed", range(6))
def test_sign_flips_are_scipys_exact_permutations(seed: int) -> None:
    """With ties, zeros and signs that are not balanced."""
    from scipy.stats import permutation_test

    rng = np.random.default_rng(seed)
    d = rng.choice([-1.0, 0.0, 1.0, 1.0], 7) if seed % 2 else rng.normal(0.3, 1, size=7).round(1) + 0.01
    theirs = permutation_test(
        (d, 0 * d), lambda a, b, axis: (a - b).mean(axis), permutation_type="samples", n_resamples=200
    )
    assert significance.sign_flip(d, np.arange(7)) == pytest.approx(theirs.pvalue, abs=1e-12)
    many = np.random.default_rng(0).normal(0.0, 1, size=400)
    p = [significance.sign_flip(many + shift, np.arange(400)) for shift in (0.06, 0.1, 0.14)]
    assert all(a > b for a, b in pairwise(p))


def test_no_discordant_sample_is_no_evidence() -> None:
    assert significance.mcnemar(0, 0).p == 1.0
    assert significance.adjust([]) == []
