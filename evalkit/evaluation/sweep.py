"""What `evalkit sweep` does: a grid of settings on nested samples, more where it is undecided.

Runs lie in the results folder as any others, so a sweep that is stopped goes on. Prints progress alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.comparison.compare import ALPHA, TaskResult, task_result
from evalkit.comparison.sweep import Point, Sweep
from evalkit.errors import UserError
from evalkit.evaluation import evaluate, own_data, progress
from evalkit.evaluation.plan import Plan
from evalkit.options.fields import models as every_model
from evalkit.options.fields import names, paths
from evalkit.options.groups import MAY_DIFFER
from evalkit.options.verbs import SweepOptions
from evalkit.runs import scored_run
from evalkit.runs.scored_run import ScoredRun
from evalkit.runs.store import RunFolder
from evalkit.stats.looks import Looks
from evalkit.tasks import grid, loader
from evalkit.tasks.dataset import Dataset, DatasetCache, Selection, choose, roots
from evalkit.tasks.grid import Setting
from evalkit.types import Checkpoint, Task

Variant = tuple[str, tuple[tuple[str, str], ...]]
"""A checkpoint, '' for the only one, and the options that it is loaded with."""
GROWTH = 4  # each look has so many times the images of the one before


@dataclass
class _Place:
    """One setting of a task while the sweep runs."""

    task: Task
    setting: Setting
    limits: tuple[int, ...]  # images at each look
    run: ScoredRun | None = None
    result: TaskResult | None = None
    why: str = ""
    done: bool = False


@dataclass
class _Grid:
    """All places of a sweep; those of one task together, its first setting first."""

    options: SweepOptions
    command: str
    own: own_data.Made  # of data of one's own
    tasks: dict[str, list[_Place]] = field(default_factory=dict)
    datasets: dict[str, Dataset] = field(default_factory=dict)  # of each task's first setting
    other: Looks = field(default_factory=lambda: Looks(0))
    alike: Looks = field(default_factory=lambda: Looks(0))
    opened: dict[Variant, Checkpoint] = field(default_factory=dict)
    ran: list[RunFolder] = field(default_factory=list)

    def open(self) -> None:
        """Inspects every checkpoint, so that what is wrong is said before anything runs."""
        for spec, changed in _by_model([place for places in self.tasks.values() for place in places]):
            wanted = dataclasses.replace(self.options, **dict[str, Any](changed))
            found = evaluate.checkpoint(spec or every_model(self.options.model)[0], wanted)
            self.opened[spec, changed] = found

    def look(self, number: int) -> None:
        """Runs what is undecided on the samples of this look, and compares."""
        due = [
            place
            for places in self.tasks.values()
            if number < len(places[0].limits) and not all(p.done for p in places[1:])
            for place in places
            if not place.done
        ]
        for variant, places in _by_model(due).items():
            self._run(variant, places, number)
        for name, places in self.tasks.items():
            for place in places[1:]:
                if place in due:
                    self._compare(name, places[0], place, number)
        self._decide()

    def _run(self, variant: Variant, places: Sequence[_Place], number: int) -> None:
        candidate = self.opened[variant]
        limits = {place.task.digest: place.limits[number] for place in places}
        tasks = [place.task for place in places]
        work = evaluate.Work(
            [candidate], tasks, DatasetCache(roots(list(paths(self.options.data_root)), tasks)),
            Path(self.options.output_path), lambda data: Selection(limits[data.task.digest]),
            lambda task: self.options.protocol, command=self.command, own=self.own,
        )  # fmt: skip
        (plans,) = work.plans()
        for place, plan in zip(places, plans, strict=True):
            progress.say(f"  {plan.folder.name}: {', '.join(place.setting.values)}")
        found = dict[tuple[Path, Any], ScoredRun]()
        self.ran += [plan.folder for plan in plans]
        for way in dict.fromkeys(map(_scoring, plans)):  # the same texts may be scored in several ways
            alike = [plan for plan in plans if _scoring(plan) == way]
            unique = list({plan.folder.path: plan for plan in alike}.values())  # settings that mean the same
            work.run(unique, candidate)
            found |= {(folder.path, way): scored_run.of_run(folder) for folder in work.finished(unique)}
        for place, plan in zip(places, plans, strict=True):
            place.run = found[plan.folder.path, _scoring(plan)]

    def _compare(self, name: str, first: _Place, place: _Place, number: int) -> None:
        """One look: both on the samples of this look, though a run may have more from before."""
        assert first.run is not None
        assert place.run is not None
        wanted = {s.id for s in choose(self.datasets[name].samples, Selection(first.limits[number]))}
        try:
            result = task_result(
                first.run.only(wanted), place.run.only(wanted), MAY_DIFFER, self.options.margin
            )
        except UserError as error:
            place.why, place.done = str(error), True
            return
        place.result, d, margin = result, result.first.found, self.options.margin
        planned = len(first.limits)
        if result.first.why:
            place.why, place.done = result.first.why, True
        self.other.add(id(place), d.p, planned)
        self.alike.add(id(place), max(d.p_above(-margin), d.p_below(margin)), planned)

    def _decide(self) -> None:
        other, alike = self.other.adjusted(), self.alike.adjusted()
        for places in self.tasks.values():
            for place in places[1:]:
                least = min(other.get(id(place), 1.0), alike.get(id(place), 1.0))
                place.done = place.done or least <= ALPHA

    def points(self) -> Iterator[Point]:
        other, alike = self.other.adjusted(), self.alike.adjusted()
        for name, places in self.tasks.items():
            for place in places:
                run, result = place.run, place.result
                assert run is not None
                spelled = run.first if result is None or result.first.why else result.first.metric
                score = run.scores[spelled]
                yield Point(
                    name, score.metric, place.setting.values, run.run, score,
                    len(run.ids) if result is None else result.first.found.n,
                    None if result is None or place.why else result.first.found,
                    other.get(id(place), 1.0), alike.get(id(place), 1.0), place.why,
                    result is not None and result.identical,
                )  # fmt: skip


def sweep(options: SweepOptions, command: str = "") -> Sweep:
    """Runs the grid and compares it. Raises UserError for axes without values, and what a run raises."""
    specs = list(every_model(options.model))
    axes = grid.axes(options.over, specs, options.prompt)
    tasks = evaluate.load_tasks(names(options.tasks), options, options.overrides)
    own = own_data.Made()
    if options.data is not None:
        own = own_data.tasks(options.data, options, Path(options.output_path), options.overrides)
        tasks += own.tasks
        options = dataclasses.replace(options, data_root=(*paths(options.data_root), *own.root))
    if not tasks:
        raise UserError("sweep: name tasks with --tasks, or data of your own with --data FOLDER")
    work = _Grid(options, command, own)
    with own.kept(work.ran):
        for task in tasks:
            some = grid.settings(task, axes, options.prompt)
            work.tasks[task.name] = _places(task, some, options, work.datasets)
        tests = sum(len(places) - 1 for places in work.tasks.values())
        work.other, work.alike = Looks(tests), Looks(tests)
        work.open()
        most = max(len(places[0].limits) for places in work.tasks.values())
        for number in range(most):
            work.look(number)
            left = sum(not p.done for places in work.tasks.values() for p in places[1:])
            progress.say(f"look {number + 1} of {most}: {tests - left} of {tests} settings decided")
            if not left:
                break
    return Sweep(tuple(axes), tuple(work.points()), options.margin)


def _places(
    task: Task, some: Sequence[Setting], options: SweepOptions, datasets: dict[str, Dataset]
) -> list[_Place]:
    """The settings of a task as tasks of their own, with how many images each look has."""
    folders = paths(options.include_path)
    name = task.path if Path(task.path).is_file() else task.name
    changed = [loader.load(name, {**options.overrides, **s.task}, folders) for s in some]
    data = DatasetCache(roots(list(paths(options.data_root)), changed)).get(changed[0])
    datasets[task.name] = data
    images = len({sample.cluster or sample.id for sample in data.samples})
    total = min(images, data.limit(options.limit) or images)
    looks = [options.first * GROWTH**k for k in range(32) if options.first * GROWTH**k < total]
    return [_Place(one, setting, (*looks, total)) for one, setting in zip(changed, some, strict=True)]


def _by_model(due: Sequence[_Place]) -> dict[Variant, list[_Place]]:
    """Places that one loaded model answers."""
    found: dict[Variant, list[_Place]] = {}
    for place in due:
        key = place.setting.spec, tuple(place.setting.model.items())
        found.setdefault(key, []).append(place)
    return found


def _scoring(plan: Plan) -> tuple[Any, ...]:
    """What of a plan's task moves a score and no text: such settings share a run's folder."""
    task = plan.task
    return task.parser, task.metrics, task.group_mean, task.nms_across_calls, plan.data
