"""What `evalkit run` does, without a command line: options to plans, plans to scored run folders.

Says on stderr what will run and how far it is; knows nothing of tables.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from evalkit import door, models, trackers
from evalkit.comparison import partial, trend
from evalkit.comparison.compare import ModelRuns, baseline_of
from evalkit.data import sources
from evalkit.errors import DataError, MetricsFailed, ResultsError, TasksFailed, UserError
from evalkit.evaluation import callbacks, early_stopping, estimate, own_data, predict, progress, told
from evalkit.evaluation import plan as planning
from evalkit.evaluation.plan import Plan
from evalkit.evaluation.predict import Session
from evalkit.options.fields import models as every_model
from evalkit.options.fields import names, paths
from evalkit.options.model import DataOptions, ModelOptions
from evalkit.options.verbs import CheckOptions, DemoOptions, RunOptions, WatchOptions
from evalkit.printing import put
from evalkit.runs import scored_run
from evalkit.runs.scored_run import ScoredRun
from evalkit.runs.store import RunFolder
from evalkit.tasks import loader
from evalkit.tasks.dataset import Dataset, DatasetCache, Selection, roots
from evalkit.tasks.turned import turned
from evalkit.trackers import Reporter
from evalkit.types import Checkpoint, Score, Task

LABEL = re.compile(r"[\w.+@-]+")
DEMO = "demo"  # the suite of the embedded benchmark


@dataclass(frozen=True)
class Work:
    """What is to be evaluated on what; every checkpoint runs every task."""

    checkpoints: Sequence[Checkpoint]
    tasks: Sequence[Task]
    datasets: DatasetCache
    output: Path
    selection: Callable[[Dataset], Selection]
    protocol: Callable[[Task], str | None]
    on_bad_image: str = "stop"
    resume_across: bool = False
    command: str = ""
    on_scores: callbacks.OnScores | None = None
    report: Reporter | None = None
    training: str = ""  # what trackers call the curve of checkpoints that have no other name
    failures: dict[str, UserError] = field(default_factory=dict)  # by task, or by run
    views: dict[tuple[str, str, str], str] = field(default_factory=dict)  # what `_turned` said
    own: own_data.Made = field(default_factory=own_data.Made)  # of data of one's own

    def plans(self, leave_out: bool = False) -> list[list[Plan]]:
        """The plans of every checkpoint, also printed. All data is read before anything runs: gaps show at
        once. With `leave_out` a task whose data is missing or damaged is a failure, and the others go on;
        a task that cannot be scored is refused."""
        every: list[list[Plan]] = [[] for _ in self.checkpoints]
        for task in self.tasks:
            try:
                made = [self._plan(task, candidate) for candidate in self.checkpoints]
                data = self.datasets.get(task)
                known = self.own.doubts.get(task.name, ())  # said where the data was recognised
                doubts = () if known else [("warning", doubt) for doubt in self._doubts(data) or ()]
                views = [("warning", said) for said in dict.fromkeys(map(self._turned, made)) if said]
                for word, said in (*data.told, *doubts, *views):
                    if said not in known:
                        progress.say(f"{word}: {task.name}: {said}")
            except (DataError, ResultsError) as error:
                if not leave_out or len(self.tasks) == 1:
                    raise
                progress.say(f"warning: left out: {error}")
                self.failures[task.name] = error
                continue
            for plans, plan in zip(every, made, strict=True):
                plans.append(plan)
        if not any(every):
            raise TasksFailed(self.failures, (), 0)
        for plans, candidate in zip(every, self.checkpoints, strict=True):
            progress.plan(candidate, plans)
        return every

    def _plan(self, task: Task, candidate: Checkpoint) -> Plan:
        data, protocol = self.datasets.get(task), self.protocol(task)
        made = planning.plan(data, candidate, self.output, self.selection(data), protocol, self.on_bad_image)
        remarks = (*data.remarks, *filter(None, [self._turned(made)]))
        return replace(made, remarks=remarks, doubts=self._doubts(data))

    def _turned(self, plan: Plan) -> str:
        """What is said of photos whose boxes are of another view than the plan shows, looked for once."""
        samples, exif = self.datasets.get(plan.task).samples, plan.preparation.exif
        key = (plan.task.name, plan.protocol, exif)
        if key not in self.views:
            self.views[key] = turned(samples, plan.protocol, exif)
        return self.views[key]

    def _doubts(self, data: Dataset) -> tuple[str, ...] | None:
        """What makes numbers of this data doubtful; None where it is none that `--data` would recognise."""
        known = self.own.doubts.get(data.task.name)
        return data.doubts if known is None else known

    def run(self, plans: Sequence[Plan], candidate: Checkpoint, until: ModelRuns | None = None,
            margin: float | None = None, best: bool = False) -> None:  # fmt: skip
        """Predicts and scores the plans of one checkpoint, with progress on stderr; with `until`
        it stops when the difference from it is decided, where that is the `best` so far only if it is not
        ahead."""
        bar = progress.Bar()
        if len(self.checkpoints) > 1 and any(p.missing for p in plans):
            progress.say(f"{candidate.name}:")

        def done(plan: Plan, scores: list[Score]) -> None:
            bar.close()
            if plan.missing:
                progress.scores(plan, scores)
            if best and plan.early and until is not None:
                scores = partial.completed(scored_run.of_run(plan.folder), until.runs[plan.task.name])
            if self.on_scores is not None:
                self.on_scores(plan.folder.name, scores)
            if self.report:
                with trackers.only_told():
                    self.report(told.told(plan, scores, self.datasets, self.training))

        def failed(plan: Plan, error: UserError) -> None:
            bar.close()
            progress.say(f"  {plan.task.name}: failed: {error}")
            self.failures[plan.folder.name] = error

        session = Session(
            candidate, self.datasets, bar, done, self.on_bad_image, self.resume_across, self.command, failed
        )
        try:
            if until is None:
                predict.run(plans, session)
                return
            margin = margin or early_stopping.MARGIN
            for outcome in early_stopping.run(plans, session, until.runs, margin, best):
                progress.say(f"  {outcome.task}: {outcome}")
        finally:
            bar.close()

    def finished(self, plans: Iterable[Plan]) -> list[RunFolder]:
        """The folders of what was planned. Raises what kept a run from its end: the error itself where
        there was nothing else to do, else TasksFailed."""
        every = [plan.folder for plan in plans]
        folders = [f for f in every if isinstance(self.failures.get(f.name), MetricsFailed | None)]
        if len(self.failures) == 1 and not folders:
            raise next(iter(self.failures.values()))
        if self.failures:
            raise TasksFailed(self.failures, folders, sum(f.name not in self.failures for f in every))
        return folders


def checkpoint(spec: str, options: ModelOptions) -> Checkpoint:
    """The checkpoint that a `--model` means, inspected but not loaded; `SPEC,name=LABEL` calls it LABEL."""
    place, mark, label = spec.partition(",name=")
    if mark and not LABEL.fullmatch(label):
        raise UserError(f"--model {spec}: name: {label!r}: write letters, digits and any of _ . + - @")
    found = models.open_checkpoint(place, options, progress.say)
    return replace(found, name=label) if mark else found


def run(
    options: RunOptions,
    command: str = "",
    in_memory: Sequence[Checkpoint] = (),
    data: list[Dataset] | None = None,
    report: Reporter | None = None,
    best: ModelRuns | None = None,
) -> list[RunFolder]:
    """Does what `evalkit run` is asked for; returns the run folders, models first, then tasks. Checkpoints
    `in_memory` are evaluated in place of those that the options name; what is read is kept in `data`, and
    `report` is used in place of what the options name. With the `best` so far a task stops as soon as it is
    decided against that, where it can, and is not ahead; trackers are then told what it would be on all.

    Raises TasksFailed, after all others are done, where a task's data is missing or its scoring failed.
    """
    if options.num_fewshot:
        raise UserError(
            f"--num-fewshot {options.num_fewshot}: PaliGemma's prompts are zero-shot, transfer and mix "
            "checkpoints were never trained on examples in the prompt; leave it out, or say 0"
        )
    tasks, own = asked_for("run", options, options.overrides)
    reference = None
    if options.against or options.until_decided:  # what is wrong with it is said before anything runs
        reference = baseline_of(options.against, [task.name for task in tasks])
    ids = _ids(Path(options.ids)) if options.ids else None

    def selection(data: Dataset) -> Selection:
        return Selection(None if ids is not None else data.limit(options.limit), options.seed, ids)

    work = Work(
        in_memory or [checkpoint(spec, options) for spec in _models(options)],
        tasks,
        DatasetCache(roots([*paths(options.data_root), *own.root], tasks), data),
        Path(options.output_path),
        selection,
        lambda task: options.protocol,
        options.on_bad_image,
        options.resume_across,
        command,
        callbacks.load(options.on_scores) if options.on_scores else None,
        report,
        own=own,
    )
    with trackers.reporting(names(options.report_to), work.output) as opened:
        return _done(replace(work, report=report or opened), options, reference, best)


def _done(
    work: Work, options: RunOptions, reference: ModelRuns | None, best: ModelRuns | None
) -> list[RunFolder]:
    """The plans, then the runs, or with --dry-run what they would cost."""
    every = work.plans(leave_out=True)
    if options.dry_run:
        for plans, candidate in zip(every, work.checkpoints, strict=True):
            found = [estimate.estimate(plan, work.datasets, candidate, work.output) for plan in plans]
            put(f"{candidate.name}: {estimate.describe(found)}")
        if work.failures:
            raise TasksFailed(work.failures, (), len(every[0]))
        return []
    with work.own.kept(plan.folder for plans in every for plan in plans):
        for plans, candidate in zip(every, work.checkpoints, strict=True):
            if best is None:
                work.run(plans, candidate, reference if options.until_decided else None, options.margin)
                continue
            able = [plan for plan in plans if early_stopping.possible(plan, best.runs)]
            for some, until in ((able, best), ([p for p in plans if p not in able], None)):
                if some:
                    work.run(some, candidate, until, options.margin, best=True)
    return work.finished(p for plans in every for p in plans)


def demo(options: DemoOptions) -> list[RunFolder]:
    """The embedded suite with the two embedded checkpoints."""
    return run(
        RunOptions(
            [f"{DEMO}:earlier", f"{DEMO}:later"], DEMO, limit=options.limit, output_path=options.output_path
        ),
        "demo",
    )


def candidate_runs(
    candidate: Checkpoint, base: Sequence[ScoredRun], options: CheckOptions, command: str = ""
) -> list[ScoredRun]:
    """Runs a checkpoint on a baseline's tasks, as the baseline was run, and reads its runs.

    Without `output_path` it starts from nothing in `checks/`: answers of older code prove nothing.
    """
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%f")
    by_task = {run.task: run for run in base}
    tasks = [_known(run, options) for run in base]

    def selection(data: Dataset) -> Selection:
        before = Selection.of_run({"asked": by_task[data.task.name].asked})
        if options.limit and (before.limit is None or options.limit < before.limit):
            return Selection(options.limit, before.seed)
        return before

    work = Work(
        [candidate],
        tasks,
        DatasetCache(roots(paths(options.data_root), tasks)),
        Path(options.output_path or Path("checks") / stamp),
        selection,
        lambda task: str(by_task[task.name].identity["protocol"]),
        command=command,
    )
    return runs_of(work, candidate)


def _known(run: ScoredRun, options: CheckOptions) -> Task:
    """The task of a baseline's run. Raises UserError where its file is not known."""
    folders = paths(options.include_path)
    if run.task not in loader.names(folders):
        raise UserError(
            f"the baseline's task {run.task} is not known here; name the folder of its file with "
            "--include-path (`run --data` keeps it in results/tasks), and that of its data with --data-root"
        )
    return loader.load(run.task, dict(run.overrides), folders)


def refuse_watch(tasks: Sequence[Task], own: own_data.Made, options: WatchOptions) -> None:
    """Raises UserError for data that is not there and a callback that cannot be loaded: else that would be
    said of each checkpoint, hours later."""
    for task in tasks:
        sources.locate(task, roots([*paths(options.data_root), *own.root], tasks))
    if options.on_scores:
        callbacks.load(options.on_scores)


def watched_runs(
    path: Path,
    tasks: Sequence[Task],
    options: WatchOptions,
    command: str = "",
    report: Reporter | None = None,
    own: own_data.Made | None = None,
) -> list[ScoredRun]:
    """Runs a checkpoint of a training run on the watched tasks and reads its runs."""
    candidate = checkpoint(str(path), options)
    own = own or own_data.Made()
    work = Work(
        [candidate],
        tasks,
        DatasetCache(roots([*paths(options.data_root), *own.root], tasks)),
        Path(options.output_path),
        lambda data: Selection(options.limit),
        lambda task: options.protocol,
        command=command,
        on_scores=callbacks.load(options.on_scores) if options.on_scores else None,
        report=report,
        training=Path(options.folder).resolve().name,
        own=own,
    )
    return runs_of(work, candidate)


def runs_of(work: Work, candidate: Checkpoint) -> list[ScoredRun]:
    """All tasks of one checkpoint, or UserError: what is judged as a whole lacks none."""
    (plans,) = work.plans()
    with work.own.kept(plan.folder for plan in plans):
        work.run(plans, candidate)
    try:
        return scored_run.of_runs(work.finished(plans))
    except TasksFailed as error:
        raise UserError(f"{candidate.name}: {error.summary}: {error}") from error


def is_watched(path: Path, models: Mapping[str, str], options: WatchOptions) -> bool:
    """Whether a checkpoint is the one of which these are the digests, by protocol, of an earlier look."""
    candidate = checkpoint(str(path), options)
    now = {protocol: trend.digest(candidate.identity(protocol)) for protocol in models}
    return bool(models) and now == models


def asked_for(
    verb: str, options: RunOptions | WatchOptions, overrides: dict[str, str] | None = None
) -> tuple[list[Task], own_data.Made]:
    """The tasks that are named and those that are made of data of one's own. Raises UserError for none."""
    tasks, own = load_tasks(names(options.tasks), options, overrides), own_data.Made()
    if options.data is not None:
        own = own_data.tasks(options.data, options, Path(options.output_path), overrides or {})
    if not (tasks := [*tasks, *own.tasks]):
        raise UserError(f"{verb}: name tasks with --tasks, or data of your own with --data FOLDER")
    return tasks, own


def load_tasks(
    wanted: Sequence[str], options: DataOptions, overrides: dict[str, str] | None = None
) -> list[Task]:
    """The tasks that names, suites, patterns and files mean."""
    folders = paths(options.include_path)
    return [loader.load(name, overrides, folders) for name in loader.expand(wanted, folders)]


def _models(options: RunOptions) -> list[str]:
    """The models named; `--model paligemma --model_args pretrained=X` as in lm-eval."""
    given, pretrained = list(every_model(options.model)), options.pretrained
    if pretrained and given not in (["paligemma"], ["hf"]):
        raise UserError(
            "--model_args pretrained=...: goes with --model paligemma; else name the checkpoint by --model"
        )
    given = [pretrained] if pretrained else given
    if not options.name:
        return given
    if len(given) > 1:
        raise UserError("--name: calls one model; of several write --model PATH,name=LABEL")
    return [f"{given[0].partition(',name=')[0]},name={options.name}"]


def _ids(path: Path) -> tuple[str, ...]:
    with door.guarded(f"--ids {path}", "give a text file, one id a line", UserError):
        lines = door.text(path, door.WHOLE).split("\n")
    found = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not found:
        raise UserError(f"--ids {path}: holds no ids; one id a line")
    return found
