"""Samples whose annotation is probably wrong: answered with confidence, by all checkpoints alike, against it.

Knows runs, scores and answers; no dataset.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.errors import UserError
from evalkit.geometry import boxes, overlaps, rle
from evalkit.metrics.group_mean import GroupMean
from evalkit.runs import scored_run
from evalkit.runs.scored_run import ScoredRun
from evalkit.runs.store import RunFolder
from evalkit.types import Prediction

SENTENCE = 4  # words: shorter answers say the same only where they are the same
EXPECTED = 0.033  # of annotations are wrong: the mean of ten test sets (Northcutt et al. 2021)
WEAK = 0.5  # trust: below it a checkpoint alone is not believed
UNSURE = 0.5  # the confidence of an answer that came without margin and log-probabilities


@dataclass(frozen=True)
class Suspect:
    """One sample. `suspicion` is from 0 to 1; `answer` is what `agreeing` of `runs` checkpoints answered
    alike, with the mean `score` (0 to 1) that the annotation gives it, and `confidence` that they had.
    `trust` is the factor that is in the suspicion where one checkpoint alone says so; `by` are the places of
    those that agree among the answers given."""

    task: str
    id: str
    suspicion: float
    answer: Any
    agreeing: int
    runs: int
    score: float
    confidence: float
    group: str
    image: str
    trust: float = 1.0
    by: tuple[int, ...] = ()

    def trusted(self, trust: float) -> Suspect:
        """With the trust in the checkpoint that alone says so."""
        return replace(self, suspicion=self.suspicion * trust, trust=trust)


@dataclass(frozen=True)
class Answer:
    """One checkpoint's answer to one sample."""

    answer: Any
    score: float
    confidence: float
    group: str
    image: str


def find(folders: Sequence[RunFolder]) -> list[Suspect]:
    """The suspects of all tasks, the most suspicious first; samples that nothing speaks against are left out.

    A checkpoint that answers against the annotation adds its confidence times how wrong it is by it; one that
    agrees with the annotation, or answers something else, takes its own away. Of answers
    against it that differ from each other only the largest part counts. The sum is divided by the number of
    checkpoints. Where a single one answers so, it is worth as much as `trust` says of that checkpoint.

    Raises UserError where a run is not scored, or runs of one task have other targets.
    """
    by_task: dict[str, list[tuple[ScoredRun, dict[str, Answer]]]] = {}
    for folder in folders:
        run = scored_run.of_run(folder)
        by_task.setdefault(run.task, []).append((run, _answers(folder, run)))
    found: list[Suspect] = []
    for task, runs in by_task.items():
        _same_targets(task, [run for run, _ in runs])
        each = [trust([a.score for a in answers.values()]) for _, answers in runs]
        for name in dict.fromkeys(name for _, answers in runs for name in answers):
            given = [k for k, (_, answers) in enumerate(runs) if name in answers]
            if (one := suspect(task, name, [runs[k][1][name] for k in given])) is not None:
                found.append(one if one.agreeing > 1 else one.trusted(each[given[one.by[0]]]))
    return sorted(found, key=lambda s: (-s.suspicion, s.task, s.id))


def record(suspect: Suspect) -> dict[str, Any]:
    """A suspect as one line of JSON."""
    rounded = {key: round(getattr(suspect, key), 4) for key in ("suspicion", "score", "confidence", "trust")}
    return {key: value for key, value in (asdict(suspect) | rounded).items() if key != "by"}


def trust(scores: Sequence[float] | npt.NDArray[np.floating[Any]]) -> float:
    """From 0 to 1, what one checkpoint's word against annotations is worth, by the scores (0 to 1) of all its
    answers to the task: where it is wrong by more of them than annotations are expected to be wrong, the
    others are its own mistakes."""
    known = np.asarray(scores, dtype=np.float64)
    known = known[~np.isnan(known)]
    wrong = (int((known < boxes.HIT).sum()) + 1) / (len(known) + 1)  # of few answers little is known
    return min(1.0, EXPECTED / wrong)


def _same_targets(task: str, runs: Sequence[ScoredRun]) -> None:
    first = runs[0]
    for other in runs[1:]:
        a, b = (run.signature(run.first).get("targets") for run in (first, other))
        if a != b:
            raise UserError(
                f"suspects: {task}: {first.run} and {other.run} were scored against other annotations; "
                "`evalkit score` scores both against today's"
            )


def suspect(task: str, name: str, given: Sequence[Answer]) -> Suspect | None:
    """What checkpoints' answers to one sample say against its annotation, as `find` ranks it, or None."""
    best: tuple[float, list[int]] = (0.0, [])
    for one in given:
        alike = [k for k, other in enumerate(given) if _alike(one.answer, other.answer)]
        against = sum(given[k].confidence * (1 - given[k].score) for k in alike)
        rest = sum(a.confidence for k, a in enumerate(given) if k not in alike)
        agreed = sum(given[k].confidence * given[k].score for k in alike)
        best = max(best, (against - agreed - rest, alike), key=lambda each: each[0])
    if best[0] <= 0:
        return None
    some = [given[k] for k in best[1]]
    return Suspect(
        task=task,
        id=name,
        suspicion=best[0] / len(given),
        answer=some[0].answer,
        agreeing=len(some),
        runs=len(given),
        score=float(np.mean([a.score for a in some])),
        confidence=float(np.mean([a.confidence for a in some])),
        group=some[0].group,
        image=some[0].image,
        by=tuple(best[1]),
    )


# --- what a run says of each sample -----------------------------------------------------------------------


def _answers(folder: RunFolder, run: ScoredRun) -> dict[str, Answer]:
    """The answers by sample id; unreadable ones, and those that the metric has no score for, are left out."""
    scores = _shares(run)
    predictions = {name: entry.prediction for name, entry in folder.entries().items()}
    found = {}
    for place, line in enumerate(folder.each_row()):
        if line["id"] != run.ids[place] or run.invalid[place] or math.isnan(scores[place]):
            continue
        prediction = predictions.get(line["id"])
        found[line["id"]] = Answer(
            line["answer"],
            float(scores[place]),
            _confidence(prediction),
            line["group"],
            line["image"],
        )
    return found


def _shares(run: ScoredRun) -> npt.NDArray[np.float64]:
    """How good each sample's answer is by the task's first metric, from 0 to 1; NaN where it has no score."""
    judge, rows = scored_run.metric(run.first), run.rows[run.first]
    if isinstance(judge, GroupMean):
        inner = judge.narrow(rows)
        judge, rows = judge.metric, inner
    if isinstance(rows, list):
        values = np.array([judge.reduce([row]) for row in rows], dtype=np.float64)
    else:
        values = judge.value(np.asarray(rows, dtype=np.float64))
    top = judge.maximum if judge.maximum is not None else max(float(np.nanmax(values, initial=0.0)), 1e-9)
    share = np.clip((values - judge.minimum) / (top - judge.minimum), 0.0, 1.0)
    return np.asarray(1 - share if judge.lower_is_better else share)


def _confidence(prediction: Prediction | None) -> float:
    """From 0 to 1: how far the answer's closest choice of a token was from even, else the mean
    probability."""
    if prediction is not None and prediction.margin is not None:
        return sure(prediction.margin)
    if prediction is not None and prediction.logprobs:
        return math.exp(min(float(np.mean(prediction.logprobs)), 0.0))
    return UNSURE


def sure(margin: float) -> float:
    """From 0 to 1, the confidence of an answer whose closest choice of a token had this margin of logits."""
    return math.tanh(max(margin, 0.0) / 2)


def _alike(one: Any, other: Any) -> bool:
    """Whether two answers say the same: texts but for case and blanks, sentences where half of their words
    are the same, boxes or masks of one label where half or more of them overlap by half or more."""
    if isinstance(one, list) and isinstance(other, list):
        if not one or not other:
            return not one and not other
        near = np.array([[_near(a, b) for b in other] for a in one])
        return 2 * len(overlaps.pairs(near, boxes.HIT)) >= max(len(one), len(other))
    words, others = (str(text).casefold().split() for text in (one, other))
    if min(len(words), len(others)) < SENTENCE:
        return words == others
    shared = sum((Counter(words) & Counter(others)).values())
    return 2 * shared >= boxes.HIT * (len(words) + len(others))


def _near(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    if one["label"] != other["label"]:
        return 0.0
    if "rle" in one and "rle" in other and one["rle"]["size"] == other["rle"]["size"]:
        both, either = rle.overlap(*(rle.rle(a["rle"], tuple(a["rle"]["size"])) for a in (one, other)))
        return both / either if either else 1.0
    return boxes.iou(one["box"], other["box"])
