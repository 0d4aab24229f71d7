"""Which runs a report is of: its checkpoints, its tasks, and each checkpoint's run of each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.report import leaderboard
from evalkit.report.leaderboard import Cell
from evalkit.runs import scored_run, store
from evalkit.runs.store import RunFolder
from evalkit.types import Metric


@dataclass(frozen=True)
class Part:
    """One run folder: what a checkpoint (`side`, its number in the report) answered to a task."""

    side: int
    folder: RunFolder
    run: Mapping[str, Any]  # run.json
    cells: tuple[Cell, ...]  # a metric each, those without a score too

    @property
    def main(self) -> Cell | None:
        """The first metric that has a score."""
        return next((cell for cell in self.cells if not cell.not_scored), None)

    @cached_property
    def judges(self) -> dict[str, Metric]:
        """The metrics that have a score, as the task spells them."""
        return {
            cell.score.metric: scored_run.metric(scored_run.parts(cell.score.signature)["metric"])
            for cell in self.cells
            if not cell.not_scored
        }


@dataclass(frozen=True)
class TaskRuns:
    """A task with the runs of it, in the order of the report's checkpoints."""

    name: str
    parts: tuple[Part, ...]

    @property
    def first(self) -> Mapping[str, Any]:
        """run.json of the first run, which says what the task is."""
        return self.parts[0].run


@dataclass(frozen=True)
class Gathered:
    """The columns of the report's leaderboard, and its tasks in the order in which they were found."""

    sides: tuple[str, ...]
    tasks: tuple[TaskRuns, ...]

    def parts_of(self, side: int) -> list[Part]:
        return [part for task in self.tasks for part in task.parts if part.side == side]


def gather(places: Sequence[Path]) -> Gathered:
    """The scored runs in these folders. Raises UserError where there is none."""
    folders = store.find(places)
    if not folders:
        raise UserError(
            f"{', '.join(map(str, places))}: holds no runs; give a run folder or a folder of runs"
        )
    cells = leaderboard.collect(folders)
    if not cells:
        raise UserError(f"{folders[0].path}: is not scored yet; `evalkit score {folders[0].path}` does it")
    sides: dict[tuple[str, int], int] = {}
    tasks: dict[str, dict[int, list[Cell]]] = {}
    for cell in cells:
        side = sides.setdefault((cell.model, cell.resolution or 0), len(sides))
        tasks.setdefault(cell.score.task, {}).setdefault(side, []).append(cell)
    return Gathered(
        _names(list(sides)),
        tuple(
            TaskRuns(name, tuple(_part(side, by_side[side]) for side in sorted(by_side)))
            for name, by_side in tasks.items()
        ),
    )


def _names(sides: Sequence[tuple[str, int]]) -> tuple[str, ...]:
    """A checkpoint's name, with its resolution where it was run at several."""
    several = [model for model, _ in sides]
    return tuple(f"{m} {px} px" if several.count(m) > 1 else m for m, px in sides)


def _part(side: int, cells: Sequence[Cell]) -> Part:
    place = cells[0].folder
    assert place is not None  # `collect` names it
    folder = RunFolder(place)
    run = folder.read_run()
    assert run is not None  # it was read a moment ago
    return Part(side, folder, run, tuple(cells))
