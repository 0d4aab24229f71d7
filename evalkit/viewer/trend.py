"""How scores go over the steps of a training."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.comparison.trend import Point, Trend
from evalkit.errors import UserError
from evalkit.runs import scored_run
from evalkit.viewer.gather import Gathered, TaskRuns

FEWEST = 3  # checkpoints of a training
WATCHED = "watch.json"  # what `evalkit watch` and the callback keep


def of_report(gathered: Gathered, places: Sequence[Path]) -> dict[str, Any] | None:
    """The scores by step: of checkpoints that are named alike but for a number, and of a training that was
    watched into one of these folders; of both the one that has more. None where there is neither."""
    steps = _steps(gathered)
    found = [_of_task(task, steps) for task in gathered.tasks] if steps else []
    curves = {(one["name"], one["metric"]): one for one in found if len(one["points"]) >= FEWEST}
    for one in (one for place in places for one in _watched(place, gathered)):
        key = one["name"], one["metric"]
        if key not in curves or len(one["points"]) > len(curves[key]["points"]):
            curves[key] = one
    return {"tasks": list(curves.values())} if curves else None


def _steps(gathered: Gathered) -> dict[int, int]:
    """The step of each checkpoint, by its number in the report; none where fewer than three are of a kind."""
    stems: dict[str, dict[int, int]] = {}
    for side in range(len(gathered.sides)):
        name = str(gathered.parts_of(side)[0].run["model"])
        if found := re.fullmatch(r"(.*?)(\d+)", name):
            stems.setdefault(found[1], {})[side] = int(found[2])
    most = max(stems.values(), key=len, default={})
    return most if len(set(most.values())) >= FEWEST else {}


def _of_task(task: TaskRuns, steps: Mapping[int, int]) -> dict[str, Any]:
    found = [(steps[part.side], part) for part in task.parts if part.side in steps and part.main is not None]
    points = [
        _point(step, (s.value, s.low, s.high, s.n), part.side, scored_run.spent(part.run.get("sessions", [])))
        for step, part in sorted(found, key=lambda each: each[0])
        if part.main is not None and (s := part.main.score)
    ]
    metric = next((part.main.score.metric for _, part in found if part.main is not None), "")
    return {"name": task.name, "metric": metric, "points": points}


def _point(
    step: int, value: tuple[float, float | None, float | None, int], side: int | None, seconds: float | None,
    place: str = "",
) -> dict[str, Any]:  # fmt: skip
    """`value` is a score, its interval and how many samples it is of; `side` the checkpoint in the report, if
    it is there, else `place` is the run's folder."""
    score, low, high, n = value
    return {
        "step": step, "value": score, "low": low, "high": high, "n": n, "run": side, "cost_seconds": seconds,
        "place": place,
    }  # fmt: skip


def _watched(place: Path, gathered: Gathered) -> list[dict[str, Any]]:
    """The trend that a folder of runs holds, a curve a task and metric. A point whose run is in the report
    leads to it."""
    path = place / WATCHED
    if not path.is_file():
        return []
    try:
        points = Trend.load(path).points
    except UserError:  # damaged: the runs themselves are here
        return []
    sides = {
        (task.name, os.path.realpath(part.folder.path)): part.side
        for task in gathered.tasks
        for part in task.parts
    }
    found = []
    for key in dict.fromkeys(key for point in points for key in point.values):
        task, _, metric = key.partition(" ")
        some = [
            _point(p.step, p.values[key], (side := _side(sides, task, place, p)), None, _run(p, task, side))
            for p in points
            if key in p.values
        ]
        found.append({"name": task, "metric": metric, "points": some})
    return found


def _run(point: Point, task: str, side: int | None) -> str:
    """The run folder of a point that is not in the report."""
    return next((run for run in point.runs if side is None and run.startswith(f"{task}.")), "")


def _side(sides: Mapping[tuple[str, str], int], task: str, place: Path, point: Point) -> int | None:
    each = ((task, os.path.realpath(place / run)) for run in point.runs)
    return next((sides[key] for key in each if key in sides), None)
