"""Predictions and targets to scores: parse, one row a sample, reduce, interval, signature.

Knows no model. What it gets is samples and predictions; what it gives is scores and row lines.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evalkit import __version__, own_code, provenance, registry
from evalkit.data.packed import Samples
from evalkit.errors import DataError, UserError
from evalkit.evaluation import sample_lines
from evalkit.evaluation.parsed import Given, Parsed
from evalkit.reading import Reading
from evalkit.stats import intervals
from evalkit.types import Breakdowns, Confident, Metric, Parser, Prediction, Rows, Sample, Score, Task


@dataclass(frozen=True)
class Scored:
    """Scores, for rows.jsonl one line a sample (sorted by id), why a metric of the task has no score, the
    files that own parsers and metrics have read, with their digests, and which metrics failed."""

    scores: list[Score]
    lines: Iterable[dict[str, Any]]  # made while they are read, once: of a million they need 2 GB
    not_scored: dict[str, str]
    used: dict[str, str] = field(default_factory=dict)
    failed: dict[str, UserError] = field(default_factory=dict)


def score(
    task: Task,
    parser: Parser,
    samples: Sequence[Sample],
    predictions: Mapping[str, Prediction],
    coverage: str,
    targets: str,
    metrics: Mapping[str, Metric] | None = None,
    root: Path | None = None,
) -> Scored:
    """Scores the samples that have a prediction and a target; the caller knows the coverage that this makes.

    `targets` is the digest of all the dataset's targets, `metrics` what `metrics_of` gives; below `root`
    images are named in rows.jsonl. A metric that fails leaves the others; where none is left its error is
    raised. Raises DataError when nothing is left to score.
    """
    every_sample = Samples.of(samples)
    chosen = _answered(task, every_sample, predictions)
    used: dict[str, str] = {}
    with _named(f"{task.path}: parser: {task.parser}"), _running(parser, used):
        seen = Parsed.of(task, parser, chosen, predictions)
    answers, invalid, given = seen.answers, seen.invalid, Given(chosen, predictions)
    read = _Answers(
        task, parser, chosen, answers, invalid, _clusters(chosen, seen.images), coverage, targets, used,
        seen.remarks(),
    )  # fmt: skip
    every, missing = dict(used), not_scored(task)
    scores, columns, failed = [], [], dict[str, UserError]()
    for spelling, metric in (metrics_of(task) if metrics is None else metrics).items():
        more = dict(used)
        try:
            with _named(f"{task.path}: metrics: {spelling}"):
                mean = None
                if task.group_mean is not None and not metric.confident:
                    mean = group_mean(spelling, every_sample, task.group_mean)
                asked = [*map(Confident.of, answers, given)] if metric.confident else answers
                with _running(metric, more):
                    rows = _rows(metric, chosen, asked, every_sample, mean)
                if why := _no_number(rows, chosen):
                    raise DataError(f"{task.path}: metrics: {spelling}: {why}")
                found = _score(replace(read, used=more), spelling, metric, mean, rows)
        except UserError as error:
            failed[spelling], missing[spelling] = error, f"it failed: {error}"
            continue
        every |= more
        if isinstance(found, str):
            missing[spelling] = found
            continue
        columns.append((spelling, rows))
        scores.append(found)
    if failed and not scores:
        raise next(iter(failed.values()))
    answered = zip(chosen, given, answers, invalid, read.clusters, strict=True)
    lines = (
        sample_lines.line(*one, {metric: rows[i] for metric, rows in columns}, root)
        for i, one in enumerate(answered)
    )
    return Scored(scores, lines, missing, every, failed)


def _answered(task: Task, samples: Samples, predictions: Mapping[str, Prediction]) -> Samples:
    """The samples that can be scored, sorted by id. Raises DataError where there is none."""
    chosen = samples.take(at for at, name in enumerate(samples.ids) if name in predictions).in_order()
    if not chosen:
        raise DataError(f"{task.name}: nothing to score; no prediction belongs to a sample of the dataset")
    first = chosen.ids[0]
    if task.metrics and not all(chosen.has_target):
        chosen = chosen.take(at for at, there in enumerate(chosen.has_target) if there)
    if not chosen:
        raise DataError(f"{task.name}: nothing to score; no answered sample has a target, such as {first}")
    return chosen


def _no_number(rows: Rows, samples: Samples) -> str:
    """Which sample's row is NaN or infinite, or ''; rows of objects are looked at when they are reduced."""
    if isinstance(rows, list):
        return ""
    wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    return f"the row of sample {samples.ids[wrong[0]]} is no number" if len(wrong) else ""


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    """Says which parser or metric failed where its code raised what nobody foresaw."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise DataError(f"{what} raised {own_code.said(error)} ({own_code.where(error)})") from error


@contextlib.contextmanager
def _running(thing: Parser | Metric, used: dict[str, str]) -> Iterator[None]:
    """Runs what may be own code inside the block, and adds the files that it has read to `used`."""
    if own_code.files(type(thing)) is None:
        yield
        return
    reading = Reading(type(thing), registry.spell(thing))
    with reading.watching():
        yield
    used.update(reading.used())


@dataclass(frozen=True)
class _Answers:
    """What one run's predictions were read as, sorted by sample id; every metric starts from it."""

    task: Task
    parser: Parser
    samples: Samples
    answers: Sequence[Any]
    invalid: Sequence[bool]
    clusters: Sequence[str]
    coverage: str
    targets: str  # digest of all targets of the dataset
    used: Mapping[str, str]  # files that own code has read
    remarks: Mapping[str, int]  # what is odd about the texts


def metrics_of(task: Task) -> dict[str, Metric]:
    """The task's metrics that can be scored here, by their spellings."""
    missing = not_scored(task)
    return {m: registry.make("metrics", m) for m in task.metrics if m not in missing}


def not_scored(task: Task) -> dict[str, str]:
    """The task's metrics whose optional package is not installed, and the reason that tables give."""
    needed = {spelling: registry.make("metrics", spelling).package for spelling in task.metrics}
    return {
        spelling: f"the package {package} is not installed"
        for spelling, package in needed.items()
        if package and importlib.util.find_spec(package) is None
    }


def _clusters(samples: Samples, images: Sequence[str]) -> list[str]:
    """What is resampled together: samples with the same images, by content, or of one stated cluster
    (the two halves of a pair). A cluster is named by its images' digests (`images`), where they differ as
    stated."""
    clusters = [stated or name for stated, name in zip(samples.clusters, samples.ids, strict=True)]
    keys = [shown or stated for shown, stated in zip(images, clusters, strict=True)]
    first: dict[str, str] = {}  # stated cluster -> a key in it
    parent: dict[str, str] = {}  # of a key that is not the only one of its cluster

    def root(key: str) -> str:
        while key in parent:
            key = parent[key]
        return key

    for stated, key in zip(clusters, keys, strict=True):
        before = first.setdefault(stated, key)
        if before != key and (a := root(before)) != (b := root(key)):
            parent[max(a, b)] = min(a, b)
    if not parent:
        return keys
    whole: dict[str, str] = {}  # the only key of a cluster, or ''
    named: dict[str, str] = {}
    for stated, key in zip(clusters, keys, strict=True):
        at = root(key)
        if whole.setdefault(at, key) != key:
            whole[at] = ""
        named[at] = min(named.get(at, stated), stated)
    return [whole[at] or named[at] for at in map(root, keys)]


def group_mean(spelling: str, samples: Samples, without: Sequence[str]) -> Any:
    """The metric that is the mean of another over the samples' groups."""
    groups = sorted(set(samples.groups))
    return registry.make(
        "metrics", f"group_mean(of={spelling!r}, groups={groups!r}, without={list(without)!r})"
    )


def _rows(metric: Metric, chosen: Samples, answers: Sequence[Any], samples: Samples, mean: Any) -> Rows:
    """One row a chosen sample. A corpus metric sees every target of the dataset, answered or not: a
    sample's row (CIDEr's idf) is the same in a limited run as in the whole one, so they compare.
    With a `mean` over groups it sees those of the sample's own group, as if that were the dataset."""

    def made(some: Sequence[Any], asked: Samples) -> Rows:
        targets = _targets(metric, asked)
        if mean is None:
            return metric.rows(some, targets)
        rows: Rows = mean.own_rows(some, targets, list(asked.groups))
        return rows

    if not metric.corpus or len(chosen) == len(samples):
        return made(answers, chosen)
    places = dict(zip(chosen.ids, range(len(chosen)), strict=True))
    every = samples.take(at for at, there in enumerate(samples.has_target) if there).in_order()
    at = [places.get(name) for name in every.ids]
    rows = made([None if place is None else answers[place] for place in at], every)
    kept = [i for i, place in enumerate(at) if place is not None]
    return [rows[i] for i in kept] if isinstance(rows, list) else rows[kept]


def _targets(metric: Metric, samples: Samples) -> Sequence[Any]:
    """The samples' targets; for a metric of the user's own a list, with which it may do what it likes."""
    return samples.targets if own_code.files(type(metric)) is None else list(samples.targets)


def _score(read: _Answers, spelling: str, metric: Metric, mean: Any, rows: Rows) -> Score | str:
    """The score, or why there is none."""
    task, parser, groups = read.task, read.parser, list(read.samples.groups)
    whole: Metric = metric if mean is None else mean
    wide = rows if mean is None else mean.spread(rows, groups)
    value = whole.reduce(wide)
    if not math.isfinite(value):
        return whole.why_undefined(wide)
    low, high, method = intervals.interval(whole, wide, read.clusters)
    broken_down = _breakdowns(metric, rows, read.clusters)  # at once: they use what was drawn
    parts = {
        "task": task.name,
        "v": task.version,
        "metric": registry.spell(whole),
        "parser": registry.spell(parser) + (f"#{parser.identity()[:12]}" if parser.identity() else ""),
        "nms": "" if task.nms_across_calls is None else f"{task.nms_across_calls:g} across calls",
        "files": _digest_of(read.used)[:12],
        "targets": read.targets[:12],
        "n": len(read.answers),
        "coverage": read.coverage,
        "interval": method,
        "tools": metric.tools(),
        "evalkit": __version__,
    }
    return Score(
        task=task.name,
        metric=spelling,
        signature="|".join(f"{k}:{v}" for k, v in parts.items() if v != ""),
        value=value,
        low=low,
        high=high,
        n=len(read.answers),
        clusters=len(set(read.clusters)),
        coverage=read.coverage,
        invalid=sum(read.invalid),
        groups=_groups(metric, rows, read.invalid, groups),
        details={name: v for name, v in whole.details(wide).items() if math.isfinite(v)},
        lower_is_better=metric.lower_is_better,
        remarks={**read.remarks, **metric.remarks(read.answers, _targets(metric, read.samples))},
        breakdowns=broken_down,
    )


def _breakdowns(metric: Metric, rows: Rows, clusters: Sequence[str]) -> Breakdowns:
    """The score's parts, each with its intervals, which are left out where they are no number."""
    more = metric.part_intervals(rows, intervals.cluster_index(clusters))
    return {
        table: {
            name: {**row, **{k: v for k, v in more.get(table, {}).get(name, {}).items() if math.isfinite(v)}}
            for name, row in found.items()
        }
        for table, found in metric.breakdowns(rows).items()
    }


def _digest_of(used: Mapping[str, str]) -> str:
    """One digest of files, wherever they are; '' of none."""
    named = sorted((Path(path).name, digest) for path, digest in used.items())
    return hashlib.sha256(json.dumps(named).encode()).hexdigest() if named else ""


def _groups(
    metric: Metric, rows: Rows, invalid: Sequence[bool], groups: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """The score of each group of samples, when there is more than one group; None where it has none."""
    names = sorted(set(groups))
    if len(names) < 2:
        return {}
    found: dict[str, dict[str, float | None]] = {}
    for name in names:
        chosen = [i for i, g in enumerate(groups) if g == name]
        part: Rows = [rows[i] for i in chosen] if isinstance(rows, list) else rows[chosen]
        value = metric.reduce(part)
        found[name or "other"] = {
            "value": value if math.isfinite(value) else None,
            "n": len(chosen),
            "invalid": sum(invalid[i] for i in chosen),
        }
    return found


# --- digests -------------------------------------------------------------------------------------


def inputs_digest(
    task: Task,
    data: str,
    answers: str,
    coverage: str,
    parser: Parser,
    metrics: Mapping[str, Metric],
) -> str:
    """sha256 over all that scores are computed from: the same digest, the same scores. `data` and `answers`
    are the digests of these."""
    head = [
        __version__,
        provenance.code("metrics", "parsers", "text", "geometry", "stats", "evaluation", "tasks", "types"),
        task.version,
        task.metrics,
        task.group_mean,
        task.nms_across_calls,
        [(registry.spell(metric), metric.tools()) for metric in metrics.values()],
        (registry.spell(parser), parser.identity()),
        data,
        coverage,
        answers,
    ]
    return hashlib.sha256(json.dumps(head).encode()).hexdigest()
