"""Which conventions a checkpoint was trained with: those by which known answers are likeliest, if the others
are surely less likely. One factor at a time, then those that matter together, then each around the best."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.conventions import CHOICES
from evalkit.stats import intervals
from evalkit.types import Conventions, Preparation

Floats = npt.NDArray[np.float64]
Score = Callable[[Conventions], Floats]
"""The mean log-probability of an answer's token by a convention, for each answer: (answers,)."""

LEVEL = 0.95  # of all comparisons together
MARGIN = 0.01  # nats a token: a smaller advantage may be what the base model likes, however sure it is
MOST = 0.5  # nats a token, for one answer: else one that fails altogether hides what all others say
ROUNDS = 3
TOGETHER = 4  # factors that are tried together
LIKELY = 0.5  # probability of the end token


@dataclass(frozen=True)
class Level:
    """One value of a factor: how much less likely it makes the answers than the best one, nats a token and at
    most `MOST` an answer, with a simultaneous interval and the p-value after correction."""

    value: Any
    behind: float = 0.0
    low: float = 0.0
    high: float = 0.0
    p: float = 1.0
    same_as: Any = None  # a value before it that is the same thing on this data

    @property
    def excluded(self) -> bool:
        """Whether it is surely behind, and by enough to say something of the training."""
        return self.low > 0 and self.behind > MARGIN


@dataclass(frozen=True)
class Factor:
    """One convention's values, likeliest first."""

    name: str
    levels: tuple[Level, ...]

    @property
    def distinct(self) -> tuple[Level, ...]:
        return tuple(level for level in self.levels if level.same_as is None)

    @property
    def left(self) -> tuple[Level, ...]:
        """Those that are not excluded."""
        return tuple(level for level in self.distinct if not level.excluded)

    @property
    def told(self) -> bool:
        """Whether one value is left of several, and no other is the same thing on this data."""
        alike = any(level.same_as == self.left[0].value for level in self.levels if level.same_as is not None)
        return len(self.distinct) > 1 and len(self.left) == 1 and not alike


FOREIGN = 1.0  # nats a token


@dataclass(frozen=True)
class Verdict:
    """What was found. `ends` is the mean probability of the end token after an answer, with its interval."""

    best: Conventions
    factors: tuple[Factor, ...]
    ends: tuple[float, float, float]
    samples: int
    clusters: int
    comparisons: int
    nats: float = 0.0  # a token, that the known answers cost under the best conventions

    @property
    def foreign(self) -> bool:
        """Whether the answers are so unlikely that the checkpoint was not trained on such data."""
        return self.nats > FOREIGN

    @property
    def told(self) -> dict[str, Any]:
        """The conventions that are certain, by name."""
        found = {f.name: f.left[0].value for f in self.factors if f.told}
        _, low, high = self.ends
        if low > LIKELY or high < LIKELY:
            found["eos"] = low > LIKELY
        return found


def start(usual: Preparation, stated: Conventions) -> Conventions:
    """Where the search begins: every convention by its value, as the protocol or `evalkit.yaml` has it."""
    resize = usual.resize if not (usual.antialias and usual.resize == "bilinear") else "antialiased"
    first = {name: values[0] for name, values in CHOICES.items()}
    first |= {"class_separator": "kept", "resize": resize, "pad": usual.pad or "none"}
    return Conventions(**{**first, **stated.said})


def values(name: str, here: Conventions) -> tuple[Any, ...]:
    """The values of a factor that are tried, its usual one first."""
    more = ("kept",) if name == "class_separator" else ()
    every = (*more, *CHOICES[name])
    mine = getattr(here, name)
    return every if mine in every else (mine, *every)


FACTORS = tuple(name for name in CHOICES if name != "eos")


def search(score: Score, begin: Conventions, say: Callable[[str], None] = lambda text: None) -> Conventions:
    """The likeliest conventions. A factor is moved only by more than a standard error, and up to `TOGETHER`
    of those that move are tried in all combinations."""
    here = begin
    for turn in range(ROUNDS):
        base = score(here)
        gains: dict[str, tuple[float, Any]] = {}
        for name in FACTORS:
            for value in values(name, here):
                gained = score(dataclasses.replace(here, **{name: value})) - base
                mean = float(gained.mean())
                if mean > _error(gained) and mean > gains.get(name, (0.0, None))[0]:
                    gains[name] = mean, value
        moving = sorted(gains, key=lambda name: -gains[name][0])[:TOGETHER]
        if not moving:
            return here
        say(f"  round {turn + 1}: " + ", ".join(f"{n} {gains[n][1]!r} {gains[n][0]:+.3f}" for n in moving))
        grid = [
            dataclasses.replace(here, **dict(zip(moving, combination, strict=True)))
            for combination in itertools.product(*((getattr(here, n), gains[n][1]) for n in moving))
        ]
        best = max(grid, key=lambda one: float(score(one).mean()))
        if best == here:
            return here
        here = best
    return here


def _error(values: Floats) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf


def verdict(
    score: Score, same: Callable[[Conventions], Any], best: Conventions, ends: Floats,
    clusters: Sequence[str],
) -> Verdict:  # fmt: skip
    """What is certain around the best conventions. `same` gives what decides a convention's numbers, `ends`
    (answers,) are log-probabilities of the end token. What it was trained with is excluded anywhere only if a
    comparison with it errs, so a factor counts as often as it has other values; and by Holm's procedure
    (1979) one that is certain counts no more for those that are less clear."""
    index = intervals.cluster_index(clusters)
    groups = int(index.max()) + 1
    kinds = {name: _kinds(name, best, same) for name in FACTORS}
    behind = {name: _behind(name, score, best, kinds[name]) for name in FACTORS}
    worst = {name: max(_p(each, index, groups) for each in behind[name].values()) for name in FACTORS}
    every = left = 1 + sum(len(others) - 1 for others in behind.values())
    factors = {}
    for name in sorted(FACTORS, key=worst.__getitem__):
        levels = [_level(v, each, index, groups, left) for v, each in behind[name].items()]
        alike = [Level(v, same_as=other) for v, other in kinds[name].items() if other is not None]
        factors[name] = Factor(name, (*levels, *alike))
        if len(factors[name].left) == 1:
            left -= len(levels) - 1
    likely = np.exp(ends)
    half = _quantile(groups, every) * intervals.cluster_error(likely, index) if groups > 1 else 1.0
    mean = float(likely.mean())
    found = tuple(factors[name] for name in FACTORS)
    return Verdict(
        best, found, (mean, mean - half, mean + half), len(ends), groups, every, -float(score(best).mean())
    )


def _kinds(name: str, best: Conventions, same: Callable[[Conventions], Any]) -> dict[Any, Any]:
    """Each value of a factor, and the value before it that is the same thing on this data, or None."""
    seen: dict[Any, Any] = {}
    found: dict[Any, Any] = {}
    for value in values(name, best):
        key = same(dataclasses.replace(best, **{name: value}))
        found[value] = seen.get(key)
        seen.setdefault(key, value)
    return found


def _behind(name: str, score: Score, best: Conventions, kinds: dict[Any, Any]) -> dict[Any, Floats]:
    """Of each distinct value, likeliest first: how much less likely than by the first each answer is, at most
    `MOST`."""
    at = {v: score(dataclasses.replace(best, **{name: v})) for v, same_as in kinds.items() if same_as is None}
    order = sorted(at, key=lambda v: (-float(at[v].mean()), v != getattr(best, name)))
    return {v: np.clip(at[order[0]] - at[v], -MOST, MOST) for v in order}


def _quantile(groups: int, comparisons: int) -> float:
    return intervals.student(groups - 1, 1 - (1 - LEVEL) / comparisons)


def _p(behind: Floats, index: Any, groups: int) -> float:
    """Of a paired t test over clusters, 0 where there is nothing to compare."""
    from scipy.special import stdtr

    if groups < 2:
        return 1.0
    error, mean = intervals.cluster_error(behind, index), float(behind.mean())
    return 2 * float(stdtr(groups - 1, -abs(mean) / error)) if error > 0 else 0.0


def _level(value: Any, behind: Floats, index: Any, groups: int, comparisons: int) -> Level:
    """How far behind a value is, by a paired t interval over clusters that holds for some comparisons."""
    mean = float(behind.mean())
    if groups < 2 or not behind.any():
        return Level(value, mean, -math.inf if behind.any() else 0.0, math.inf if behind.any() else 0.0)
    half = _quantile(groups, comparisons) * intervals.cluster_error(behind, index)
    return Level(value, mean, mean - half, mean + half, min(1.0, comparisons * _p(behind, index, groups)))
