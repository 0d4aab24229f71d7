"""Experiment trackers that `--report-to` names, one a file: scores with intervals, and samples with pictures.

A tracker is imported when it is asked for, and set up by its own environment variables. Where a run of its
is open already (a Trainer's), that one is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from evalkit import own_code
from evalkit.errors import UserError
from evalkit.printing import say
from evalkit.types import Score

STEP = "checkpoint step"  # what trackers that know several axes call the one of scores
COLUMNS = ("id", "prompt", "target", "answer", "score", "picture")
PICTURE = COLUMNS.index("picture")
_STEP = re.compile(r"(?:^|[-_.])(?:checkpoint|step)[-_]?(\d+)$")


@dataclass(frozen=True)
class Shown:
    """One sample for the eye: `picture` (h, w, 3) has the boxes and masks of answer and target drawn in."""

    id: str
    prompt: str
    target: str
    answer: str
    score: float | None  # its own, by the task's first metric; None where a single sample has none
    picture: npt.NDArray[np.uint8]

    def row(self, picture: Any) -> list[Any]:
        """What a table has of it, in the order of COLUMNS; `picture` as the tracker takes it."""
        return [self.id, self.prompt, self.target, self.answer, self.score, picture]


@dataclass(frozen=True)
class Told:
    """One scored run, as trackers get it."""

    series: str  # what its curve is called: the training, or the model
    step: int
    task: str
    run: str  # its folder's name
    numbers: Mapping[str, float]  # `TASK/METRIC`, with _low and _high of the 95 % interval, and the cost
    signature: str
    samples: Sequence[Shown]


class Tracker(ABC):
    """One tracker; `folder` is where it may keep files of its own. One file each, called like its package."""

    package: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        refuse_missing([self.package.partition(".")[0]])
        self.module = importlib.import_module(self.package)

    @abstractmethod
    def tell(self, told: Told, numbers: bool = True) -> None:
        """Keeps a scored run; without `numbers` (they are told otherwise) the samples alone."""

    @abstractmethod
    def close(self) -> None:
        """Ends what was begun here, and writes it out; what others had opened stays open."""


class Reporter:
    """Tells every tracker named of every run. A tracker's fault is said, and nothing else ends by it."""

    def __init__(self, names: Iterable[str], output: Path, without_numbers: Iterable[str] = ()) -> None:
        """Raises UserError for a package that is not there."""
        self._trackers = {name: opened(name, output / name) for name in dict.fromkeys(names)}
        self._without = set(without_numbers)
        self._last: dict[tuple[str, str], tuple[Any, ...]] = {}  # by curve and task, what was told

    def __bool__(self) -> bool:
        return bool(self._trackers)

    def __call__(self, told: Told) -> None:
        """Tells what is new: a step whose other tasks are answered to their end comes again."""
        known = told.step, told.run, dict(told.numbers), told.signature
        if self._last.get((told.series, told.task)) == known:
            return
        self._last[told.series, told.task] = known
        for name, tracker in self._trackers.items():
            with only_told(name):
                tracker.tell(told, name not in self._without)

    def close(self) -> None:
        for name, tracker in self._trackers.items():
            with only_told(name):
                tracker.close()


@contextlib.contextmanager
def only_told(name: str = "") -> Iterator[None]:
    """What fails inside is said, with the tracker's name; what a tracker prints is no part of the output."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except Exception as error:
        which = f"--report-to{f' {name}' if name else ''}"
        say(f"warning: {which}: {own_code.said(error)} ({own_code.where(error)}); results are kept")


@contextlib.contextmanager
def reporting(names: Iterable[str], output: Path) -> Iterator[Reporter]:
    """A reporter that is closed at the end, also where a run fails. Raises UserError as `Reporter` does."""
    made = Reporter(names, output)
    try:
        yield made
    finally:
        made.close()


def refuse_missing(names: Iterable[str]) -> None:
    """Raises UserError for the first tracker whose package is not there."""
    for name in names:
        if name in sys.modules:
            there = sys.modules[name] is not None
        else:
            there = importlib.util.find_spec(name) is not None
        if not there:
            raise UserError(f"--report-to {name}: its package is not installed; pip install {name}")


def opened(name: str, folder: Path) -> Tracker:
    """The tracker of that name. Raises UserError."""
    module = importlib.import_module(f"evalkit.trackers.{name}")
    kinds = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, Tracker)]
    (kind,) = [each for each in kinds if each is not Tracker]
    try:
        made: Tracker = kind(folder)
    except UserError:
        raise
    except Exception as error:  # of settings or a server that are the user's
        raise UserError(f"--report-to {name}: {own_code.said(error)}") from error
    return made


# --- what things are called ------------------------------------------------------------------------------


def series_of(model: str, training: str = "") -> tuple[str, int]:
    """(curve, step) of a model's name: `my-finetune-checkpoint-500` is step 500 of `my-finetune`, and
    `checkpoint-500` of the `training`."""
    found = _STEP.search(model)
    if found is None:
        return model, 0
    return model[: found.start()] or training or "checkpoints", int(found[1])


def curve_id(folder: Path, series: str, project: str = "") -> str:
    """Names a curve for a later session to go on with: by the `folder` that its runs' output folder has for
    the tracker, wherever that is named from. Another training of the same name writes elsewhere."""
    told = "\0".join((project, str(folder.resolve()), series))
    return hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def keys(scores: Iterable[Score]) -> dict[str, Score]:
    """Scores by `TASK/METRIC`: the metric's name alone where the task has it once, else with its parameters,
    in letters that every tracker takes (`coco_ap_iou_0.5`)."""
    every = list(scores)
    names = [(s.task, s.metric.partition("(")[0]) for s in every]
    return {
        f"{task}/{name if names.count((task, name)) == 1 else letters(score.metric)}": score
        for (task, name), score in zip(names, every, strict=True)
    }


def letters(text: str) -> str:
    """Letters, digits and `_ . -`, which every tracker takes in a name."""
    return re.sub(r"[^\w.-]+", "_", text).strip("_")


def numbers(scores: Mapping[str, Score]) -> dict[str, float]:
    """Values, and `_low` and `_high` of their 95 % intervals: behind a slash they could not stand, since
    MLflow's folders have a file of the value's name."""
    found: dict[str, float] = {}
    for key, score in scores.items():
        found[key] = score.value
        if score.low is not None and score.high is not None:
            found |= {f"{key}_low": score.low, f"{key}_high": score.high}
    return found
