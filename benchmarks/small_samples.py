"""Do intervals of few images, at the extremes and of every wrapper hold what they say? By simulation.

`python -m benchmarks.small_samples [--runs 400] [means] [groups] [sums] [ap] [pairs]` prints Markdown; each
part takes at most two minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalkit import registry
from evalkit.stats import intervals, paired
from evalkit.types import Box, Metric, Rows, Share

Rng = np.random.Generator
Draw = Callable[[Rng], tuple[Rows, Sequence[int]]]
"""One simulated benchmark: rows, and the cluster of each."""


@dataclass(frozen=True)
class Case:
    """A kind of benchmark whose true score is known."""

    name: str
    metric: Metric
    truth: float
    draw: Draw


def measured(case: Case, runs: int) -> tuple[float, float, float]:
    """(share of intervals that hold the truth, share of benchmarks without one, mean half width)."""
    rng = np.random.default_rng(11)
    widths, hits = [], 0
    for _ in range(runs):
        low, high, _ = intervals.interval(case.metric, *case.draw(rng))
        if low is not None and high is not None:
            widths.append((high - low) / 2)
            hits += low - 1e-12 <= case.truth <= high + 1e-12
    return hits / max(1, len(widths)), 1 - len(widths) / runs, float(np.mean(widths)) if widths else 0.0


def _rows(values: Any) -> Rows:
    return np.stack([np.asarray(values, dtype=float), np.ones(len(values))], axis=1)


# --- what is drawn -----------------------------------------------------------------------------------------

KINDS: dict[str, tuple[Sequence[float], Sequence[float]]] = {
    "right or wrong, .5": ((0, 1), (0.5, 0.5)),
    "right or wrong, .95": ((0, 1), (0.05, 0.95)),
    "always .6": ((0.6,), (1.0,)),
    "VQA accuracy": ((0, 0.3, 0.6, 0.9, 1), (0.2, 0.1, 0.1, 0.1, 0.5)),
    "nearly always 1": ((0.3, 1), (0.05, 0.95)),
    "rarely 0": ((0, 0.97), (0.03, 0.97)),
}
"""Values of a sample and how often each comes."""


def mean_of(kind: str, images: int, questions: int) -> Case:
    values, shares = KINDS[kind]

    def draw(rng: Rng) -> tuple[Rows, Sequence[int]]:
        sizes = rng.integers(1, questions + 1, size=images)
        index = np.repeat(np.arange(images), sizes)
        return _rows(rng.choice(values, len(index), p=shares)), index.tolist()

    truth = float(np.dot(values, shares))
    return Case(
        f"mean, {kind} | {images} | {'1' if questions == 1 else f'1-{questions}'}", Share(), truth, draw
    )


def groups_of(chances: Sequence[float], sizes: Sequence[int], alike: float = 0.0) -> Case:
    """A mean over groups; with `alike` all groups are asked of the same images, and that share of answers
    depends on the image alone."""
    names = [f"g{k}" for k in range(len(chances))]
    metric: Any = registry.make("metrics", f"group_mean(of='exact_match', groups={names!r})")
    groups = [name for name, n in zip(names, sizes, strict=True) for _ in range(n)]

    def draw(rng: Rng) -> tuple[Rows, Sequence[int]]:
        image = rng.random(max(sizes))
        drawn = [np.where(rng.random(n) < alike, image[:n], rng.random(n)) for n in sizes]
        values = np.concatenate([u < p for u, p in zip(drawn, chances, strict=True)])
        labels = [i for n in sizes for i in range(n)] if alike else list(range(len(values)))
        return metric.spread(_rows(values), groups), labels

    shared = ", of the same images" if alike else ""
    name = f"mean over groups {_list(chances)}{shared} | {_list(sizes)} | 1"
    return Case(name, metric, float(np.mean(chances)), draw)


def _list(values: Sequence[float]) -> str:
    same = len(set(values)) == 1 and len(values) > 2
    return f"{len(values)} × {values[0]}" if same else ", ".join(map(str, values))


def areas_of(p: float, spread: float, images: int) -> Case:
    """Cumulative IoU: unions are log-normal, `spread` their standard deviation."""

    def draw(rng: Rng) -> tuple[Rows, Sequence[int]]:
        union = np.exp(rng.normal(0, spread, images))
        return np.stack([union * rng.beta(2 * p, 2 * (1 - p), images), union], axis=1), range(images)

    name = f"cumulative IoU {p}, areas {spread} | {images} | 1"
    return Case(name, registry.make("metrics", "cumulative_iou"), p, draw)


def f1_of(p: float, images: int) -> Case:
    """F1 of yes and no in equal shares, each right with chance `p`."""

    def draw(rng: Rng) -> tuple[Rows, Sequence[int]]:
        wanted, right = rng.random(images) < 0.5, rng.random(images) < p
        column = np.where(wanted, np.where(right, 0, 3), np.where(right, 2, 1))
        return np.eye(6)[column], range(images)

    return Case(
        f"F1 of yes or no {p} | {images} | 1", registry.make("metrics", "yes_no(figure='f1')"), p, draw
    )


def detection(images: int, rng: Rng, hit: float, wrong: float, off: float) -> tuple[Any, Rows]:
    """AP of three categories: objects are found with chance `hit`, about `off` of the image displaced, and
    `wrong` false boxes an image have scores that overlap the right ones'."""
    names, answers, targets = ("cat", "dog", "cow"), [], []
    for image in range(images):
        objects, boxes = [], []
        for _ in range(1 + rng.poisson(1)):
            name, (y, x), moved = names[rng.integers(3)], rng.random(2) / 2, abs(rng.normal(0, off))
            objects.append({"category": name, "box": (100 * x, 100 * y, 30, 30), "area": 900, "iscrowd": 0})
            if rng.random() < hit:
                place = (y + moved, x + moved, y + moved + 0.3, x + moved + 0.3)
                boxes.append(Box(*place, label=name, score=float(rng.normal(1, 1))))
        for _ in range(rng.poisson(wrong)):
            y, x = rng.random(2) / 2
            label, score = names[rng.integers(3)], float(rng.normal(0, 1))
            boxes.append(Box(y, x, y + 0.2, x + 0.2, label=label, score=score))
        answers.append(tuple(boxes))
        targets.append({"size": (100, 100), "image_id": image, "categories": names, "objects": objects})
    metric: Any = registry.make("metrics", "coco_ap(rank='logprob')")
    return metric, metric.rows(answers, targets)


def ap_of(images: int, hit: float, wrong: float, off: float) -> Case:
    """AP; its truth is that of 4,000 images."""
    metric, many = detection(4000, np.random.default_rng(1), hit, wrong, off)
    truth = metric.reduce(many)
    name = f"AP {truth:.2f} | {images} | 1"
    return Case(name, metric, truth, lambda rng: (detection(images, rng, hit, wrong, off)[1], range(images)))


# --- tables ------------------------------------------------------------------------------------------------


def cases(part: str) -> Iterator[Case]:
    if part == "means":
        for kind in KINDS:
            for images, questions in ((2, 1), (5, 1), (9, 1), (30, 1), (100, 1), (10, 5), (30, 5)):
                yield mean_of(kind, images, questions)
    elif part == "groups":
        for chances, sizes in (
            ((0.5, 0.5), (5, 5)), ((0.95, 0.95), (5, 5)), ((0.99, 0.99), (5, 5)), ((0.99, 0.01), (10, 10)),
            ((0.9, 0.6, 0.3), (100, 10, 3)), ((0.98,) * 3, (30,) * 3), ((0.995, 0.9), (100, 2)),
            ((0.7,) * 8, (4,) * 8), ((0.5, 0.5), (50, 50)), ((0.7, 0.8), (200, 300)),
        ):  # fmt: skip
            yield groups_of(chances, sizes)
        for p, images, count, alike in (
            (0.5, 20, 4, 0.8),
            (0.95, 20, 4, 0.8),
            (0.99, 10, 10, 0.9),
            (0.7, 100, 10, 0.5),
        ):
            yield groups_of((p,) * count, (images,) * count, alike)
    elif part == "sums":
        for p, spread in ((0.6, 0.3), (0.6, 1.0), (0.95, 1.0)):
            for images in (2, 5, 10, 20, 30, 100):
                yield areas_of(p, spread, images)
        for p in (0.5, 0.8, 0.95, 0.99):
            for images in (5, 10, 20, 50):
                yield f1_of(p, images)
    elif part == "ap":
        for hit, wrong, off in ((0.7, 0.5, 0.03), (0.97, 0.02, 0.005)):
            for images in (2, 5, 10, 20, 50, 100):
                yield ap_of(images, hit, wrong, off)


def table(part: str, runs: int) -> Iterator[str]:
    yield "| score | images | samples an image | coverage % | without % | half width × 100 |"
    yield "|---|---|---|---|---|---|"
    for case in cases(part):
        slow = 10 if part == "ap" else 1
        held, without, half = measured(case, runs // slow)
        yield f"| {case.name} | {100 * held:.1f} | {100 * without:.0f} | {100 * half:.1f} |"


def errors(images: int, chances: Sequence[float], changing: float, runs: int) -> tuple[float, float]:
    """(coverage, share of p <= .05) of the difference of two equally good models in a mean over groups of
    `images` each; `changing` of the answers are drawn again for the second."""
    names = [f"g{k}" for k in range(len(chances))]
    metric: Any = registry.make("metrics", f"group_mean(of='exact_match', groups={names!r})")
    groups = [name for name in names for _ in range(images)]
    chance = np.repeat(chances, images)
    rng, index = np.random.default_rng(12), np.arange(len(groups))
    held = small = 0
    for _ in range(runs):
        a = rng.random(len(groups)) < chance
        b = np.where(rng.random(len(groups)) < changing, rng.random(len(groups)) < chance, a)
        rows = [metric.spread(_rows(side), groups) for side in (a, b)]
        found = paired.difference(metric, rows[0], rows[1], index)
        held += found.low <= 0 <= found.high
        small += found.p <= 0.05
    return held / runs, small / runs


def pairs(runs: int) -> Iterator[str]:
    yield "| difference of means over groups | images each | changing % | coverage % | p ≤ .05 % |"
    yield "|---|---|---|---|---|"
    for chances in ((0.5, 0.5), (0.95, 0.9)):
        for images, changing in ((5, 0.2), (20, 0.2), (100, 0.02), (100, 0.2)):
            held, small = errors(images, chances, changing, runs)
            cells = (_list(chances), images, f"{100 * changing:g}", f"{100 * held:.1f}", f"{100 * small:.1f}")
            yield "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    every = ["means", "groups", "sums", "ap", "pairs"]
    parser.add_argument("parts", nargs="*", choices=[*every, []], default=every)
    parser.add_argument("--runs", type=int, default=400)
    given = parser.parse_args()
    for part in given.parts or every:
        for line in pairs(given.runs) if part == "pairs" else table(part, given.runs):
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
