"""Do intervals cover, do tests keep their error rates, how fast is resampling: measured on simulated tables.

`python -m benchmarks.statistics [--runs 2000] [coverage] [sequential] [training] [speed]` prints Markdown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from evalkit import registry
from evalkit.evaluation.early_stopping import BATCH
from evalkit.stats import intervals, paired, significance
from evalkit.stats.sequential import Decider, block_size
from evalkit.types import Metric, Rows

Floats = intervals.Floats


class Mean(Metric):
    """The mean of the first column."""

    def rows(self, answers: Any, targets: Any) -> Rows:
        raise AssertionError("the simulations make rows themselves")


class Ratio(Mean):
    """The same sums, but resampled like those of a corpus metric."""

    def value(self, sums: Floats) -> Floats:
        result: Floats = sums[..., 0] / sums[..., 1]
        return result


# --- coverage ------------------------------------------------------------------------------------------


def proportions(p: float, clusters: int, most: int, rng: np.random.Generator) -> tuple[Rows, Any, float]:
    """0/1 rows whose clusters (1 to `most` samples) share a chance drawn from a beta around `p`."""
    sizes = rng.integers(1, most + 1, size=clusters)
    chance = p if most == 1 else np.repeat(rng.beta(4 * p, 4 * (1 - p), size=clusters), sizes)
    values = (rng.random(sizes.sum()) < chance).astype(float)
    return np.stack([values, np.ones(len(values))], axis=1), np.repeat(np.arange(clusters), sizes), p


def means(p: float, clusters: int, most: int, rng: np.random.Generator) -> tuple[Rows, Any, float]:
    """Graded rows such as IoU: many zeros, the others between 0 and 1, similar within a cluster."""
    sizes = rng.integers(1, most + 1, size=clusters)
    shared = np.repeat(rng.normal(0, 0.5, size=clusters), sizes)
    noise = rng.normal(0, 1, size=sizes.sum()) + shared
    values = np.where(noise > 0.5, 0.0, 1 / (1 + np.exp(-noise - 1)))
    return np.stack([values, np.ones(len(values))], axis=1), np.repeat(np.arange(clusters), sizes), _MEAN


def ratios(p: float, clusters: int, most: int, rng: np.random.Generator) -> tuple[Rows, Any, float]:
    """Intersections over unions, with areas over two orders of magnitude (log-normal)."""
    sizes = rng.integers(1, most + 1, size=clusters)
    n = int(sizes.sum())
    area = np.exp(rng.normal(0, 1, size=n))
    return np.stack([area * rng.beta(4 * p, 4 * (1 - p), size=n), area], axis=1), np.repeat(
        np.arange(clusters), sizes
    ), p  # fmt: skip


def _graded_mean() -> float:
    """The true mean of `means`, from four million draws."""
    noise = np.random.default_rng(99).normal(0, np.sqrt(1.25), size=4_000_000)
    return float(np.where(noise > 0.5, 0.0, 1 / (1 + np.exp(-noise - 1))).mean())


_MEAN = _graded_mean() if __name__ == "__main__" else 0.0


def coverage(
    make: Callable[..., tuple[Rows, Any, float]],
    metric: Metric,
    p: float,
    clusters: int,
    most: int,
    runs: int,
) -> float:
    """The share of `runs` simulated benchmarks whose 95 % interval holds the truth."""
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(runs):
        rows, labels, truth = make(p, clusters, most, rng)
        low, high, _ = intervals.interval(metric, rows, labels.tolist())
        hits += low is not None and high is not None and low <= truth <= high
    return hits / runs


def paired_coverage(clusters: int, most: int, changing: float, drop: float, runs: int) -> tuple[float, float]:
    """(coverage of the paired interval, share of p <= .05) for 0/1 rows of two models."""
    rng = np.random.default_rng(8)
    hits = small = 0
    for _ in range(runs):
        sizes = rng.integers(1, most + 1, size=clusters)
        index = np.repeat(np.arange(clusters), sizes)
        a, b = _two(len(index), changing, drop, rng)
        found = paired.difference(Mean(), _rows(a), _rows(b), index)
        hits += found.low <= -drop <= found.high
        small += found.p <= 0.05
    return hits / runs, small / runs


def _two(n: int, changing: float, drop: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """0/1 rows of A and B: a share `changing` of answers differs, B is `drop` worse."""
    draw = rng.random(n)
    lost, gained = draw < (changing + drop) / 2, draw > 1 - (changing - drop) / 2
    a = np.where(lost, 1.0, np.where(gained, 0.0, (rng.random(n) < 0.7).astype(float)))
    return a, np.where(lost, 0.0, np.where(gained, 1.0, a))


def _rows(values: Floats) -> Rows:
    return np.stack([values, np.ones(len(values))], axis=1)


def coverage_table(runs: int) -> Iterator[str]:
    yield "| rows | truth | clusters | samples a cluster | coverage % |"
    yield "|---|---|---|---|---|"
    for p in (0.1, 0.3, 0.5, 0.7, 0.9):
        for clusters, most in ((30, 1), (100, 1), (100, 5), (500, 5), (2000, 1)):
            found = coverage(proportions, Mean(), p, clusters, most, runs)
            yield f"| proportion | {p} | {clusters} | {_span(most)} | {100 * found:.1f} |"
    for clusters, most in ((10, 1), (30, 1), (100, 1), (100, 5), (500, 5)):
        found = coverage(means, Mean(), 0.0, clusters, most, runs)
        yield f"| graded | {_MEAN:.3f} | {clusters} | {_span(most)} | {100 * found:.1f} |"
    for clusters, most in ((10, 1), (30, 1), (100, 1), (100, 5)):
        found = coverage(ratios, Ratio(), 0.6, clusters, most, min(runs, 1000))
        yield f"| ratio of sums | 0.6 | {clusters} | {_span(most)} | {100 * found:.1f} |"
    yield ""
    yield "| paired 0/1 rows: changing % | drop | clusters | samples a cluster | coverage % | p ≤ .05 % |"
    yield "|---|---|---|---|---|---|"
    for clusters, most in ((100, 1), (300, 1), (100, 5)):
        for changing, drop in ((0.02, 0.0), (0.1, 0.0), (0.1, 0.03), (0.3, 0.0)):
            found, small = paired_coverage(clusters, most, changing, drop, min(runs, 1000))
            yield (
                f"| {100 * changing:.0f} | {drop} | {clusters} | {_span(most)} | "
                f"{100 * found:.1f} | {100 * small:.1f} |"
            )


def _span(most: int) -> str:
    return "1" if most == 1 else f"1-{most}"


# --- sequential ----------------------------------------------------------------------------------------


def sequential(
    drop: float, runs: int, samples: int = 10_240, changing: float = 0.1, margin: float = 0.02,
    least: int = 1, most: int = 1, together: bool = True, fixed: bool = False, seed: int = 5,
    block: int = 0, hopeful: bool = False,
) -> tuple[dict[str, int], list[int]]:  # fmt: skip
    """(verdicts, samples used in each run) of `runs` runs that are worse than a baseline by `drop`. With
    `hopeful` as inside a training, where what is ahead goes on to its end; `block` is the least of a look.

    `fixed`: one benchmark in which the difference is exactly `drop`, in a new random order for each run;
    else every run draws new samples from a population with that drop. `most` > 1 makes clusters of
    `least` to `most` samples that change `together`, or each by itself.
    """
    rng = np.random.default_rng(seed)
    verdicts = {"worse": 0, "better": 0, "equivalent": 0, "not better": 0, "": 0}
    used = []
    for _ in range(runs):
        sizes = rng.integers(least, most + 1, size=samples) if most > 1 else np.ones(samples, dtype=int)
        sizes = sizes[: int(np.searchsorted(np.cumsum(sizes), samples)) + 1]
        draws = rng.random(len(sizes) if together else sizes.sum())
        if fixed:
            draws = rng.permutation((np.arange(len(sizes)) + 0.5) / len(sizes))
        lost, gained = (changing + drop) / 2, (changing - drop) / 2
        moved = np.where(draws < lost, -1.0, np.where(draws > 1 - gained, 1.0, 0.0))
        by_cluster = np.add.reduceat(moved, np.cumsum(sizes) - sizes) if not together else sizes * moved
        sums: Floats = by_cluster.astype(np.float64)
        decider = Decider(margin, int(sizes.max()), float(sizes.mean()), hopeful=hopeful)
        step = max(block_size(len(sums), float(sizes.mean())), block)
        for start in range(0, len(sums), step):
            if decider.look(sums[start : start + step], sizes[start : start + step].astype(float)):
                break
        verdicts[decider.verdict] += 1
        used.append(samples if hopeful and decider.total > 0 else min(decider.samples, samples))
    return verdicts, used


SCENARIOS: list[tuple[str, dict[str, Any]]] = [
    ("5-point drop", {"drop": 0.05}),
    ("3-point drop", {"drop": 0.03}),
    ("3-point gain", {"drop": -0.03}),
    ("no change", {"drop": 0.0}),
    ("no change, one fixed benchmark", {"drop": 0.0, "fixed": True}),
    ("no change, 30 % changing", {"drop": 0.0, "changing": 0.3}),
    ("drop of exactly the margin", {"drop": 0.02}),
    ("gain of exactly the margin", {"drop": -0.02}),
    ("no change, clusters of 1-5", {"drop": 0.0, "most": 5}),
    ("drop of exactly the margin, clusters of 1-5", {"drop": 0.02, "most": 5}),
    ("3-point drop, clusters of 1-5", {"drop": 0.03, "most": 5}),
    ("no change, 5 a cluster, each by itself", {"drop": 0.0, "least": 5, "most": 5, "together": False}),
    ("3-point drop, 5 a cluster, each by itself", {"drop": 0.03, "least": 5, "most": 5, "together": False}),
    ("drop of exactly the margin, 5 a cluster, each by itself",
     {"drop": 0.02, "least": 5, "most": 5, "together": False}),
    ("no change, 50 a cluster, each by itself", {"drop": 0.0, "least": 50, "most": 50, "together": False}),
    ("5-point drop, 50 a cluster, each by itself",
     {"drop": 0.05, "least": 50, "most": 50, "together": False}),
]  # fmt: skip


def sequential_table(runs: int) -> Iterator[str]:
    head = f"10,240 samples, 10 % of answers changing, margin .02; {runs} runs each"
    yield f"| {head} | worse % | better % | equivalent % | undecided % | median samples % | p90 % |"
    yield "|---|---|---|---|---|---|---|"
    for name, options in SCENARIOS:
        verdicts, used = sequential(runs=runs, **options)
        shares = " | ".join(f"{100 * verdicts[v] / runs:.1f}" for v in ("worse", "better", "equivalent", ""))
        median, late = np.quantile(used, [0.5, 0.9]) / 102.4
        yield f"| {name} | {shares} | {median:.1f} | {late:.1f} |"


def training_table(runs: int) -> Iterator[str]:
    yield "| against the best so far | of 500 samples | of 2,000 | of 5,000 | stopped, of 2,000 |"
    yield "|---|---|---|---|---|"
    for points in (-5, -2, -1, 0, 1, 2):
        found = [
            sequential(-points / 100, runs, samples, block=BATCH, hopeful=True)[1]
            for samples in (500, 2000, 5000)
        ]
        means = " | ".join(f"{np.mean(used):,.0f}" for used in found)
        stopped = np.mean(np.array(found[1]) < 2000)
        yield f"| {points:+} points | {means} | {100 * stopped:.0f} % |"


# --- speed ---------------------------------------------------------------------------------------------


def speed_table() -> Iterator[str]:
    yield "| what | seconds | CPU seconds |"
    yield "|---|---|---|"
    rng = np.random.default_rng(0)
    rows = np.stack([rng.uniform(size=100_000), rng.uniform(1, 2, size=100_000)], axis=1)
    graded = np.stack([rng.integers(0, 11, size=100_000) / 10, np.ones(100_000)], axis=1)
    index, every = np.arange(100_000), range(100_000)
    moved = (rng.random(100_000) < 0.1) * rng.choice([-1.0, 1.0], size=100_000)
    images = detections(5000)
    boxes = sum(len(i["boxes"]) for i in images)
    metric = registry.make("metrics", "coco_ap")
    a, b = _rows(rows[:, 0]), _rows(rows[:, 1] - 1)
    works: list[tuple[str, Callable[[], Any]]] = [
        ("2,000 resamples of 100,000 different rows", lambda: intervals.interval(Ratio(), rows, every)),
        ("2,000 resamples of 100,000 rows of 11 values", lambda: intervals.interval(Ratio(), graded, every)),
        ("paired, 100,000 rows: bootstrap and sign flips", lambda: paired.difference(Mean(), a, b, index)),
        ("10,000 sign flips, 10 % of 100,000 changed", lambda: significance.sign_flip(moved, index)),
        (f"AP, 500 resamples of 5,000 images (80 classes, {boxes:,} boxes)",
         lambda: intervals.interval(metric, images, range(5000))),
    ]  # fmt: skip
    for name, work in works:
        start, busy = time.perf_counter(), time.process_time()
        work()
        yield f"| {name} | {time.perf_counter() - start:.2f} | {time.process_time() - busy:.2f} |"


def detections(images: int) -> list[dict[str, Any]]:
    """Rows as `coco_ap` makes them, with about as many boxes as COCO's val2017 (7 per image)."""
    rng = np.random.default_rng(1)
    found = []
    for number in range(images):
        objects: dict[str, list[int]] = {}
        boxes = []
        for _ in range(rng.poisson(7)):
            name = f"class{int(rng.beta(1, 4) * 80)}"
            objects.setdefault(name, [0, 0, 0, 0])
            objects[name][0] += 1
            matched = (1 << int(rng.integers(0, 11))) - 1
            if rng.random() < 0.9:
                boxes.append([name, float(rng.random()), matched, 0])
        found.append({"image": number, "objects": objects, "boxes": boxes})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", help="coverage, sequential, training, speed (default: all)")
    parser.add_argument("--runs", type=int, default=2000)
    given = parser.parse_args()
    tables: dict[str, Callable[[], Iterator[str]]] = {
        "coverage": lambda: coverage_table(given.runs),
        "sequential": lambda: sequential_table(given.runs),
        "training": lambda: training_table(given.runs),
        "speed": speed_table,
    }
    for name in given.tables or tables:
        print(f"## {name}\n")
        for line in tables[name]():
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
