"""What the report says before any sample is looked at: runs, scores, what each task is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from evalkit.options.fields import paths
from evalkit.options.verbs import ReportOptions
from evalkit.report import leaderboard, published
from evalkit.report.leaderboard import Cell
from evalkit.runs import scored_run
from evalkit.types import CUT, remarked, why_not_scored
from evalkit.viewer import marks, sections, trend
from evalkit.viewer.assembled import Assembled
from evalkit.viewer.gather import Gathered, Part, TaskRuns

SCALE, DIGITS = 100, 1  # as every table shows scores


def report(gathered: Gathered, options: ReportOptions, command: str) -> dict[str, Any]:
    """`report` without what needs the samples."""
    runs = [_side(gathered, side) for side in range(len(gathered.sides))]
    if options.limit is not None:
        for run in runs:
            run["partial"].append(
                f"at most {options.limit:,} samples of each task can be opened in this report (--limit); "
                "its figures are of all samples"
            )
    return {
        "title": options.title or " · ".join(gathered.sides[:3]) + (" …" if len(gathered.sides) > 3 else ""),
        "command": command,
        "redacted": options.redact,
        "images": not (options.no_images or options.redact),
        "runs": runs,
        "tasks": [_of_task(task, len(gathered.sides), options.redact) for task in gathered.tasks],
        "look_first": [],
        "comparisons": [],
        "trend": trend.of_report(gathered, paths(options.runs)),
    }


# --- checkpoints ----------------------------------------------------------------------------------


def _side(gathered: Gathered, side: int) -> dict[str, Any]:
    parts = gathered.parts_of(side)
    run = parts[0].run
    model = run["identity"].get("model", {})
    seconds = [scored_run.spent(part.run.get("sessions", [])) for part in parts]
    known = None if any(s is None for s in seconds) else sum(s for s in seconds if s is not None)
    n = sum(part.main.score.n for part in parts if part.main is not None)
    return {
        "name": gathered.sides[side],
        "short": gathered.sides[side][-24:],
        "model": str(run["model"]),
        "identity": _identity(run),
        "resolution": run["identity"].get("preparation", {}).get("resolution"),
        "precision": str(model.get("dtype") or ""),
        "partial": _partial(parts),
        "seconds": known,
        "samples_per_second": n / known if known else None,
        "memory_bytes": max(map(_memory, parts), default=0) or None,
        "colour": side,
    }


def _memory(part: Part) -> int:
    """The most memory that any session of the run recorded, in bytes."""
    found = [session.get("peak_memory") for session in part.run.get("sessions", [])]
    return max((int(peak) for peak in found if isinstance(peak, (int, float))), default=0)


def _identity(run: Mapping[str, Any]) -> list[list[str]]:
    """What the model is and how it was run, a label and a value each."""
    model = run["identity"].get("model", {})
    session = (run.get("sessions") or [{}])[-1]
    found = {
        "backend": model.get("backend"),
        "precision": model.get("dtype"),
        "keys and values": model.get("kv_dtype"),
        "attention": model.get("attention"),
        "quantised": (model.get("quantisation") or {}).get("scheme") if model.get("quantisation") else None,
        "weights": ", ".join(f"{name} {digest[:12]}" for name, digest in _weights(model)),
        "device": session.get("device"),
        "batch size": session.get("batch_size"),
        "evalkit": session.get("evalkit"),
        "libraries": ", ".join(f"{k} {v}" for k, v in (session.get("libraries") or {}).items()),
        "started": session.get("started"),
    }
    return [[label, str(value)] for label, value in found.items() if value not in (None, "", {})]


def _weights(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    weights = model.get("weights")
    return [(str(k), str(v)) for k, v in weights.items()][:4] if isinstance(weights, Mapping) else []


def _partial(parts: list[Part]) -> list[str]:
    """What keeps a run from being a whole one, in sentences."""
    found: list[str] = []
    for part in parts:
        cell = part.cells[0]
        found += [f"{part.run['task']}: {leaderboard.STAMPS[name][1]}" for name in cell.stamped]
        data = part.run.get("data") or {}
        found += [f"{part.run['task']}: {text}" for text in data.get("remarks") or ()]
        if part.run.get("bad_images"):
            found.append(f"{part.run['task']}: {len(part.run['bad_images']):,} samples left out: bad images")
    return found


# --- tasks ----------------------------------------------------------------------------------------


def _of_task(task: TaskRuns, sides: int, redact: bool) -> dict[str, Any]:
    scores: list[Any] = [None] * sides
    for part in task.parts:
        scores[part.side] = _score(part, redact)
    main = next((part.main for part in task.parts if part.main is not None), None)
    judge = None
    if main is not None:
        judge = next(p.judges[main.score.metric] for p in task.parts if main.score.metric in p.judges)
    return {
        "name": task.name,
        "about": task.first.get("task_file", {}).get("about", ""),
        "license": task.first.get("task_file", {}).get("license", ""),
        "n": max((part.main.score.n for part in task.parts if part.main is not None), default=0),
        "metric": "" if main is None else main.score.metric,
        "lower_is_better": False if judge is None else marks.inner(judge).lower_is_better,
        "maximum": None if judge is None else marks.inner(judge).maximum,
        "scale": SCALE,
        "digits": DIGITS,
        "scores": scores,
        "published": _published(task),
    }


def _published(task: TaskRuns) -> list[dict[str, Any]]:
    """The papers' number of each checkpoint whose name is of a released one, compared or not."""
    found = []
    for part in task.parts:
        if part.main is None:
            continue
        for name, beside in published.beside(part.main, None):
            row = beside.row
            if row is None or name:
                continue
            half = None if row.stdev is None else 2 * row.stdev
            found.append(
                {
                    "run": part.side,
                    "model": f"{row.model} {row.kind} {row.resolution}",
                    "value": row.score,
                    "low": None if half is None else row.score - half,
                    "high": None if half is None else row.score + half,
                    "source": row.source,
                    "why_not": beside.why_not,
                }
            )
    return found


def _score(part: Part, redact: bool) -> dict[str, Any] | None:
    cell = part.main
    if cell is None:
        return {"value": None, "why": why_not_scored(part.cells[0].not_scored), "run": part.folder.name}
    doubts = list((part.run.get("data") or {}).get("doubts") or ())
    if doubts and redact:  # they name files and labels
        doubts = ["its data is doubtful; the report was asked not to say how"]
    return _figures(cell, redact) | {
        "run": part.folder.name,
        "doubts": doubts,
        "metrics": [_figures(c, redact) for c in part.cells if not c.not_scored],
    }


def _quotes(remark: str) -> bool:
    """Whether a remark has words of an answer in it."""
    return remark.startswith("of them ")


def _figures(cell: Cell, redact: bool) -> dict[str, Any]:
    score = cell.score
    return {
        "metric": score.metric,
        "value": score.value if math.isfinite(score.value) else None,
        "low": score.low,
        "high": score.high,
        "n": score.n,
        "clusters": score.clusters,
        "coverage": score.coverage,
        "stamps": [leaderboard.STAMPS[name][1] for name in cell.stamped],
        "invalid": score.invalid,
        "cut": score.remarks.get(CUT, 0),
        "remarks": remarked({what: n for what, n in score.remarks.items() if not (redact and _quotes(what))}),
        "details": dict(score.details),
        "comparable": "",
    }


def task(runs: TaskRuns, found: Assembled) -> dict[str, Any]:
    """What a task is, and its sections."""
    run, file = runs.first, runs.first.get("task_file", {})
    main = next((part.main for part in runs.parts if part.main is not None), None)
    return {
        "name": runs.name,
        "version": file.get("version"),
        "about": file.get("about", ""),
        "license": file.get("license", ""),
        "homepage": file.get("homepage", ""),
        "prompt": file.get("prompt", ""),
        "exact_prompt": "" if found.collector.redact else found.collector.exact_prompt,
        "protocol": run["identity"].get("protocol", ""),
        "signature": "" if main is None else main.score.signature,
        "signature_words": [] if main is None else _in_words(main.score.signature),
        "metrics": list(file.get("metrics", ())),
        "sections": sections.of_task(found),
    }


def _in_words(signature: str) -> list[list[str]]:
    return [[key, value] for key, value in scored_run.parts(signature).items()]
