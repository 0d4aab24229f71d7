"""How scores go: over the steps of a training, and over resolutions of one checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.comparison.trend import Trend
from evalkit.errors import UserError
from evalkit.runs import scored_run
from evalkit.viewer.gather import Gathered, Part, TaskRuns

FEWEST = 3  # checkpoints of a training
WATCHED = "watch.json"  # what `evalkit watch` and the callback keep


def of_report(gathered: Gathered, places: Sequence[Path]) -> dict[str, Any] | None:
    """The scores by step: of checkpoints that are named alike but for a number, and of a training that was
    watched into one of these folders. None where there is neither."""
    steps = _steps(gathered)
    tasks = [_of_task(task, steps) for task in gathered.tasks] if steps else []
    known = {task["name"] for task in tasks if len(task["points"]) >= FEWEST}
    tasks = [task for task in tasks if task["name"] in known]
    tasks += [task for place in places for task in _watched(place) if task["name"] not in known]
    return {"tasks": tasks} if tasks else None


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
    points = [
        {
            "step": steps[part.side],
            "value": part.main.score.value,
            "low": part.main.score.low,
            "high": part.main.score.high,
            "run": part.side,
            "cost_seconds": scored_run.spent(part.run.get("sessions", [])),
        }
        for part in task.parts
        if part.side in steps and part.main is not None
    ]
    return {"name": task.name, "points": sorted(points, key=lambda point: point["step"])}


def _watched(place: Path) -> list[dict[str, Any]]:
    """The trend that a folder of runs holds; each score's own curve, the task's name first."""
    path = place / WATCHED
    if not path.is_file():
        return []
    try:
        points = Trend.load(path).points
    except UserError:  # damaged: the runs themselves are here
        return []
    keys = dict.fromkeys(key for point in points for key in point.values)
    return [
        {
            "name": key,
            "points": [
                {"step": p.step, "value": p.values[key][0], "low": p.values[key][1], "high": p.values[key][2],
                 "run": None, "cost_seconds": None}
                for p in points
                if key in p.values
            ],
        }
        for key in keys
    ]  # fmt: skip


def over_resolutions(task: TaskRuns) -> list[dict[str, Any]]:
    """The section of a task whose checkpoints were run at several resolutions."""
    by_model: dict[str, list[tuple[int, Part]]] = {}
    for part in task.parts:
        pixels = part.run["identity"].get("preparation", {}).get("resolution")
        if part.main is not None and isinstance(pixels, int):
            by_model.setdefault(part.main.model, []).append((pixels, part))
    series = [
        {"name": model, "run": some[0][1].side, "points": _points(some), "filters": None}
        for model, some in by_model.items()
        if len({pixels for pixels, _ in some}) > 1
    ]
    if not series:
        return []
    return [
        {
            "name": "resolution",
            "kind": "curve",
            "title": "Score against resolution",
            "about": "The same checkpoint's score by the side of the image that it was given, in pixels.",
            "x": {"label": "pixels"},
            "y": {"label": "score"},
            "diagonal": False,
            "series": series,
        }
    ]


def _points(some: Sequence[tuple[int, Part]]) -> list[list[Any]]:
    found = [(px, part.main.score) for px, part in some if part.main is not None]
    return [[px, s.value, s.low, s.high] for px, s in sorted(found, key=lambda each: each[0])]
