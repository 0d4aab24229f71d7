"""The sections of a task's page: what was right and wrong, by kind, group, class, size; each part names the
filter that shows its samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from evalkit import registry
from evalkit.geometry import oddities
from evalkit.report import breakdowns, causes
from evalkit.stats.intervals import FEW
from evalkit.stats.parts import HIGH, LOW
from evalkit.types import CUT
from evalkit.viewer import curves, faults, marks, parted
from evalkit.viewer.assembled import Assembled, has_flag
from evalkit.viewer.collect import STATES, OfRun

Section = dict[str, Any]
BINS = 20
PARTS = 60  # rows of a table of groups or classes, the largest
SIZES = ((0.0, 0.005), (0.005, 0.02), (0.02, 0.1), (0.1, 0.3), (0.3, 1.0))
"""Shares of the image; an object of 32 by 32 pixels in a photo of COCO has about 0.003."""


def filter_of(column: str, value: str) -> str:
    """`group=yes%2Fno`: what a sample's column must have, as in the page's address."""
    return f"{column}={quote(value, safe='')}"


def of_task(found: Assembled) -> list[Section]:
    """All sections that have anything to show, what to look at first before the rest; `name` says which of
    `MAKERS` made one."""
    runs = found.collector.runs
    return [{"name": name, **section} for name, make in MAKERS.items() for section in make(found, runs)]


# --- errors ------------------------------------------------------------------------------------------


def errors(found: Assembled, run: OfRun) -> dict[str, tuple[int, float | None]]:
    """Of each kind of error how many samples have it, and what the score would gain without it (None where
    that is not known), the costliest first."""
    labels = list(run.errors.names)
    counts = {name: has_flag(run.error, labels, name) for name in labels}
    if found.collector.survey.kind == "objects":
        gains = _gains(run)
        each = {name: (int(there.sum()), gains.get(name)) for name, there in counts.items()}
    else:
        lost = np.where(run.has, 1 - np.nan_to_num(run.share.astype(np.float64), nan=1.0), 0.0)
        main = run.part.main
        judge = None if main is None else marks.inner(run.part.judges[main.score.metric])
        plain = judge is not None and judge.maximum == 1.0 and not judge.lower_is_better
        total = max(1, int(run.has.sum()))
        each = {
            name: (int(there.sum()), float(lost[there].sum()) / total if plain else None)
            for name, there in counts.items()
        }
    return dict(sorted(each.items(), key=lambda item: (-(item[1][1] or 0.0), -item[1][0])))


def _gains(run: OfRun) -> Mapping[str, float]:
    """ΔAP of each kind of error: as the task's own metric says it, else TIDE's at an IoU of .5."""
    for cell in run.part.cells:
        if stored := cell.score.breakdowns.get("error"):
            return _known(stored)
    if not run.objects or len(run.objects) < int(run.has.sum()):
        return {}
    found = registry.make("metrics", "tide").breakdowns(run.objects).get("error", {})
    return _known(found)


def _known(table: Mapping[str, Mapping[str, float | None]]) -> dict[str, float]:
    """The gains that are known: of a class without an object nothing is gained or lost."""
    gains = {name: row.get("ΔAP") for name, row in table.items()}
    return {name: gain for name, gain in gains.items() if gain is not None and math.isfinite(gain)}


def _errors(found: Assembled, runs: Sequence[OfRun]) -> Iterator[Section]:
    each = [errors(found, run) for run in runs]
    names = sorted(
        {name for one in each for name in one},
        key=lambda name: -max(one[name][1] or one[name][0] / 1e9 for one in each if name in one),
    )
    if not names:
        return
    sides, objects = found.collector.sides, found.collector.survey.kind == "objects"
    rows = []
    for name in names:
        counts, values, filters = _empty(sides), _empty(sides), _empty(sides)
        for run, one in zip(runs, each, strict=True):
            priced = any(gain is not None for _, gain in one.values())
            n, gain = one.get(name, (0, 0.0 if priced else None))
            counts[run.side] = n
            values[run.side] = None if gain is None else {"value": gain, "low": None, "high": None}
            filters[run.side] = filter_of(f"error:{run.side}", name)
        about = causes.ERRORS.get(name) or faults.TEXTS.get(name) or faults.REGIONS.get(name) or ""
        rows.append({"label": name, "n": counts, "filter": filters, "values": values, "about": about})
    cost = "what AP would gain without them (TIDE)" if objects else "what the score would gain without them"
    yield {
        "kind": "bars",
        "title": "Kinds of error",
        "about": f"How many samples have each, and {cost}. Begin with the longest bar.",
        "unit": "ΔAP" if objects else "gain",
        "rows": rows,
    }


def _empty(sides: int) -> list[Any]:
    return [None] * sides


# --- parts of the score ------------------------------------------------------------------------------


def _groups(found: Assembled, runs: Sequence[OfRun]) -> Iterator[Section]:
    names = list(found.collector.groups.names)
    if len(names) < 2:
        return
    group, rows = found.collector.group, []
    for code in sorted(range(len(names)), key=lambda code: -int((group == code).sum()))[:PARTS]:
        values = _empty(found.collector.sides)
        for run in runs:
            stored = run.part.main.score.groups.get(names[code]) if run.part.main is not None else None
            values[run.side] = _interval(stored or {"value": _mean(run.score[(group == code) & run.has])})
        rows.append(
            {
                "label": names[code] or "other",
                "n": int((group == code).sum()),
                "filter": filter_of("group", names[code]),
                "values": values,
            }
        )
    yield {
        "kind": "bars",
        "title": "Score by group",
        "about": "Groups are question types, languages or whatever else the dataset states.",
        "unit": "score",
        "rows": rows,
    }


def _interval(row: Mapping[str, float | None]) -> dict[str, float | None] | None:
    if row.get("value") is None or math.isnan(row["value"] or 0.0):
        return None
    return {"value": row["value"], "low": row.get("low"), "high": row.get("high")}


def _mean(values: npt.NDArray[np.float32]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _by_class(found: Assembled, runs: Sequence[OfRun]) -> Iterator[Section]:
    tables = {run.side: _table(run, "class") for run in runs}
    names = [n for n in dict.fromkeys(n for table in tables.values() for n in table) if n[:1] != "("]
    if not names:
        return
    figure = next(
        (f for f in ("AP", "F1", "recall") if any(f in row for t in tables.values() for row in t.values())),
        "",
    )
    wanted = {
        name: max(int(t[name].get("wanted") or 0) for t in tables.values() if name in t) for name in names
    }
    there = {} if found.asked is None else found.asked.counts
    rows = []
    for name in sorted(names, key=lambda name: (-wanted[name], name))[:PARTS]:
        values = _empty(found.collector.sides)
        for side, table in tables.items():
            row = table.get(name, {})
            bounds = {"low": row.get(figure + LOW), "high": row.get(figure + HIGH)}
            values[side] = _interval({"value": row.get(figure), **bounds})
        opens = there.get(name, 0)
        spelled = filter_of("class", name) if opens else None
        shown: dict[str, Any] = {"n": wanted[name], "filter": spelled, "opens": opens}
        if found.asked is None:
            shown = {"n": _empty(found.collector.sides), "filter": _empty(found.collector.sides)}
            for run in runs:
                shown["filter"][run.side], shown["n"][run.side] = parted.opening(found, run, "class", name)
        rows.append({"label": name, "values": values, **shown})
    yield {
        "kind": "bars",
        "title": f"{figure} by class",
        "about": "The most frequent class first; a rare class scatters." + _few(tables.values()),
        "unit": figure,
        "rows": rows,
    }


def _few(tables: Iterable[Mapping[str, Mapping[str, float]]]) -> str:
    each = [text for table in tables for text in breakdowns.rough(table)]
    few = list({text.rpartition(" (")[0]: text for text in reversed(each)}.values())[::-1]
    more = f" and {len(few) - 6} more" if len(few) > 6 else ""
    return f" Rough, of fewer than {FEW} images: {', '.join(few[:6])}{more}." if few else ""


def _table(run: OfRun, name: str) -> Mapping[str, Mapping[str, float]]:
    """A stored breakdown, of the metric that says most."""
    every = [cell.score.breakdowns.get(name, {}) for cell in run.part.cells]
    return max(every, key=lambda table: sum(map(len, table.values())), default={})


def _confusion(found: Assembled, runs: Sequence[OfRun]) -> Iterator[Section]:
    for side, matrix in found.matrices.items():
        yield {
            "kind": "matrix",
            "run": side,
            "title": "Which class was answered for which",
            "about": "A row is a true class, a column an answered one; beside the diagonal are confusions.",
            "rows": list(matrix.names),
            "columns": list(matrix.names),
            "cells": matrix.cells.tolist(),
            "opens": matrix.samples.tolist(),
            "filters": f"pair:{side}",
        }


# --- distributions -----------------------------------------------------------------------------------


def _scores(found: Assembled, runs: Sequence[OfRun]) -> Iterator[Section]:
    main = next((run.part.main for run in runs if run.part.main is not None), None)
    if main is None:
        return
    judge = marks.inner(
        next(r.part.judges[main.score.metric] for r in runs if main.score.metric in r.part.judges)
    )
    top = judge.maximum
    about = f"Each sample's own {main.score.metric.partition('(')[0]}."
    yield from _histogram("Scores", about, "score", [(r, r.score) for r in runs], judge.minimum, top)


def _overlap(found: Assembled, runs: Sequence[OfRun]) -> Iterator[Section]:
    about = "How well boxes lie: of one box its IoU, of several their mean."
    yield from _histogram("IoU of boxes", about, "iou", [(r, r.iou) for r in runs], 0.0, 1.0)


def _lengths(found: Assembled, runs: Sequence[OfRun]) -> Iterator[Section]:
    about = "In tokens where the run kept them, else in characters; a heap at the end means answers were cut."
    yield from _histogram("Answer length", about, "length", [(r, r.length) for r in runs], 0.0, None)


def _histogram(
    title: str, about: str, column: str, values: Sequence[tuple[OfRun, npt.NDArray[np.float32]]], low: float,
    high: float | None,
) -> Iterator[Section]:  # fmt: skip
    known = [(run.side, one[~np.isnan(one)]) for run, one in values]
    every = np.concatenate([one for _, one in known]) if known else np.zeros(0)
    if not len(every) or (top := float(every.max())) <= low:
        return
    edges = np.linspace(low, top if high is None or top > high else high, BINS + 1)
    if column == "length":  # whole numbers
        step = math.ceil((top + 1) / BINS)
        edges = np.arange(0, top + step + 1, step, dtype=np.float64)
    yield {
        "kind": "histogram",
        "title": title,
        "about": about,
        "column": column,
        "edges": [round(float(edge), 6) for edge in edges],
        "series": [{"run": side, "counts": _counts(one, edges)} for side, one in known],
    }


def _counts(values: npt.NDArray[np.float32], edges: npt.NDArray[np.float64]) -> list[int]:
    found = np.histogram(values.astype(np.float64), edges)[0]
    return [int(n) for n in found]


def _sizes(found: Assembled, runs: Sequence[OfRun]) -> Iterator[Section]:
    size, rows = found.collector.size, []
    for low, high in SIZES:
        inside = (size >= low) & ((size < high) | (high == 1.0))
        if not inside.any():
            continue
        values = _empty(found.collector.sides)
        for run in runs:
            values[run.side] = _interval({"value": _mean(run.iou[inside & run.has])})
        label = f"{100 * low:g} to {100 * high:g} % of the image"
        to = "" if high == 1.0 else f"{high:g}"
        rows.append(
            {
                "label": label,
                "n": int(inside.sum()),
                "filter": f"size={low:g}..{to}",
                "values": values,
            }
        )
    if len(rows) > 1:
        yield {
            "kind": "bars",
            "title": "IoU by box size",
            "about": "The mean IoU; where small objects fall off, a higher resolution may help.",
            "unit": "IoU",
            "rows": rows,
        }


# --- tables ------------------------------------------------------------------------------------------


def _stored(found: Assembled, runs: Sequence[OfRun]) -> Iterator[Section]:
    """Other parts that the scores hold: JSON fields, thresholds."""
    named = _named(runs)
    kinds = {name for run in runs for cell in run.part.cells for name in cell.score.breakdowns}
    for name in sorted(kinds - {"class", "confusion", "error"}):
        rows, opens = [], []
        for run in runs:
            table = _table(run, name)
            opens += [parted.opening(found, run, name, part) for part in table]
            figures = breakdowns.figures([table])
            rows += [
                [named[run.side], part, *(breakdowns.spread(row, f) for f in figures)]
                for part, row in table.items()
            ]
        yield {
            "kind": "table",
            "title": f"By {name}",
            "about": "Shares × 100; whole numbers are counts.",
            "head": ["checkpoint", name, *figures],
            "rows": rows[: PARTS * len(runs)],
            "filters": [spelled for spelled, _ in opens][: PARTS * len(runs)],
            "opens": [n for _, n in opens][: PARTS * len(runs)],
        }


def _named(runs: Sequence[OfRun]) -> dict[int, str]:
    """The checkpoints' names, with the resolution of one that was run at several."""
    models = [run.part.cells[0].model for run in runs]
    return {
        run.side: f"{model} {run.part.cells[0].resolution} px" if models.count(model) > 1 else model
        for run, model in zip(runs, models, strict=True)
    }


def _odd(found: Assembled, runs: Sequence[OfRun]) -> Iterator[Section]:
    rows, filters, named = [], [], _named(runs)
    for run in runs:
        for what, line in odd(run).items():
            said, _, cause = line.partition(": ")
            spelled, n = having(run, what)
            rows.append([named[run.side], said, cause, n])
            filters.append(spelled)
    if rows:
        yield {
            "kind": "table",
            "title": "Odd answers",
            "about": "What is odd about answers, and what usually causes it.",
            "head": ["checkpoint", "what", "usual cause", "samples"],
            "rows": rows,
            "filters": filters,
            "opens": [row[-1] for row in rows],
        }


def odd(run: OfRun) -> dict[str, str]:
    """What is odd about a run's answers, and the sentence that says it with its usual cause."""
    if (main := run.part.main) is None:
        return {}
    alone = {what: replace(main.score, remarks={what: n}) for what, n in main.score.remarks.items()}
    found = {what: next(causes.odd(score, main.task_file), "") for what, score in alone.items()}
    return {what: line for what, line in found.items() if line}


def having(run: OfRun, what: str) -> tuple[str | None, int | None]:
    """The filter of the samples that a score's remark is about, and how many they are; None where samples do
    not tell it."""
    labels = list(run.errors.names)
    if what in run.remarks.names:
        return filter_of(f"remark:{run.side}", what), int((run.remark == run.remarks.names[what]).sum())
    if (state := REMARKED.get(what)) is not None:
        there = has_flag(run.state, STATES, state)
        return filter_of(f"state:{run.side}", state), int(there.sum())
    if faults.LABEL in what and faults.LABEL in labels:
        there = has_flag(run.error, labels, faults.LABEL)
        return filter_of(f"error:{run.side}", faults.LABEL), int(there.sum())
    return None, None


REMARKED: Mapping[str, str] = {
    CUT: "cut",
    oddities.WHOLE: "whole-image box",
    oddities.REPEATED: "repeated box",
}
"""By a score's remark the state of the samples that it is about."""

MAKERS: Mapping[str, Callable[[Assembled, Sequence[OfRun]], Iterator[Section]]] = {
    "errors": _errors, "groups": _groups, "scores": _scores, "overlap": _overlap, "sizes": _sizes,
    "classes": _by_class, "confusion": _confusion, "precision-recall": curves.precision,
    "calibration": curves.calibration, "coverage": curves.margins, "resolution": curves.resolutions,
    "lengths": _lengths, "stored": _stored, "odd": _odd,
}  # fmt: skip
