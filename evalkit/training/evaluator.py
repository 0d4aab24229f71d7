"""Evaluates the model in memory as `evalkit run` evaluates a checkpoint, for training loops of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalkit import files, own_code, trackers
from evalkit.api import Run, Runs
from evalkit.comparison.compare import ModelRuns
from evalkit.errors import TasksFailed, UserError, meant
from evalkit.evaluation import evaluate, own_data
from evalkit.models.paligemma.live import Live, unwrapped
from evalkit.models.paligemma.standstill import standstill
from evalkit.options.config import made
from evalkit.options.fields import Names, OptionError, Paths, flags, names, paths
from evalkit.options.groups import TRACKERS
from evalkit.options.model import MODEL_OPTIONS
from evalkit.options.verbs import RunOptions
from evalkit.runs import store
from evalkit.runs.store import RunFolder
from evalkit.tasks.dataset import Dataset
from evalkit.trackers import Reporter
from evalkit.training import ranks
from evalkit.training.improvement import Best
from evalkit.types import Checkpoint

USED = {"batch_size", "workers", "sliding_window"}  # options of a model that one in memory has a use for


@dataclass(frozen=True)
class _Found:
    """What an evaluation came to; the same on every process."""

    runs: Runs
    failed: TasksFailed | None
    metrics: dict[str, float]
    stopped: bool
    best: tuple[str, int, int]  # its name, evaluations since, improvements


class Evaluator:
    """Evaluates a model that is being trained: `Evaluator("docvqa_val", limit=200)(model, step)`.

    It takes the options of `evalkit run` except those that say how weights are loaded. `processor` is
    transformers' processor (or tokenizer) of the model; `name` what its runs are called:
    `NAME-checkpoint-STEP`. An evaluation ends as soon as it is decided as worse than the best so far, or as
    equivalent and not ahead; `until_decided=False` answers all samples each time. (With `against` and
    `until_decided=True` it is decided against that.) `data` is a folder or file of one's own, as for
    `evalkit run --data`. Raises UserError at once for tasks and data that are not there or cannot be read.
    """

    def __init__(
        self,
        tasks: Names = (),
        *,
        processor: Any = None,
        name: str = "live",
        limit: float | None = None,
        data_root: Paths = (),
        output_path: str | Path = "results",
        **options: Any,
    ) -> None:
        if not evaluate.LABEL.fullmatch(name):
            raise UserError(f"Evaluator: name: {name!r}: write letters, digits and any of _ . + - @")
        known = {*flags(RunOptions)} - (MODEL_OPTIONS - USED) - {"model", "model_args", "name", "dry_run"}
        for option in options:
            if option in MODEL_OPTIONS - USED:
                raise UserError(f"Evaluator: {option}: a model in memory is evaluated as it is; leave it out")
            if option not in known:
                wrong = f"Evaluator() got an unexpected keyword argument '{option}'"
                raise TypeError(wrong + meant(option, known))
        given = {"limit": limit, "data_root": data_root, "output_path": output_path, **options}
        told = given.pop("report_to", None)
        if given.get("against") is None:
            self._sequential = bool(given.pop("until_decided", True))
        else:
            self._sequential = not given.get("until_decided", False)
        try:
            self._options: RunOptions = made("run", {"model": name, "tasks": tasks, **given})
            said = None if told is None else made("run", {"model": name, "report_to": told}).report_to
        except OptionError as error:
            raise UserError(f"Evaluator: {error.in_python()}") from None
        self._look()
        self._told = None if said is None else names(said)  # None: those of the trainer
        trackers.refuse_missing(self._told or ())
        self._others: tuple[str, ...] = ()
        self.best, self.judged = Best(), self._sequential
        self._report: Reporter | None = None
        self._processor, self.name = processor, name
        self._live: Live | None = None
        self._ranks: ranks.Ranks | None = None
        self._data: list[Dataset] = []  # read once: a training comes again and again
        self.metrics: dict[str, float] = {}
        self.stopped = False  # whether the last evaluation left samples out
        self.always_whole: set[str] = set()  # tasks that are never stopped

    def _look(self) -> None:
        """A slip is said now, and not at the first evaluation, hours later."""
        options = self._options
        with self._own_code():
            tasks = evaluate.load_tasks(names(options.tasks), options, options.overrides)
            if options.data is not None:
                own_data.look(options.data, options)
            elif not tasks:
                raise UserError("Evaluator: name tasks, or data of your own with data=FOLDER")

    def _recognise(self) -> None:
        """Data of one's own becomes tasks in the output folder, said and written once a training."""
        options = self._options
        if options.data is None:
            return
        own = own_data.tasks(options.data, options, Path(options.output_path), options.overrides)
        for path, text in own.files.items():
            store.keep_task(path, text)
        self._options = replace(
            options,
            data=None,
            tasks=(*names(options.tasks), *(task.path for task in own.tasks)),
            data_root=(*paths(options.data_root), *own.root),
        )

    def __call__(self, model: Any, step: int, processor: Any = None, *, whole: bool = False) -> Runs:
        """The runs of this step, scored; the model is left as it was. With `whole` nothing is stopped before
        its end. Where several processes train, call it on each: they share the samples, and all get the
        result. Raises `evalkit.errors.UserError`.

        `metrics` then has its numbers as one curve shows them: `TASK/METRIC`, with `_low` and `_high`;
        `TASK/n` of `TASK/n_of` samples. Where a task was stopped, its score is the best's plus the mean
        difference on the samples that were answered, while `runs` have the score of these alone.
        """
        found = self._everywhere(model, step, processor or self._processor, whole)
        self.metrics, self.stopped = found.metrics, found.stopped
        self.best.name, self.best.since, self.best.improvements = found.best
        if found.failed is not None:
            raise found.failed
        return found.runs

    def _everywhere(self, model: Any, step: int, processor: Any, whole: bool) -> _Found:
        """What the first process found. Only it reads the runs' folders: other machines may not have them."""
        if not ranks.several():
            return self._found(model, step, processor, whole)
        self._ranks = self._ranks or ranks.Ranks()
        if self._ranks.rank == 0:
            return self._ranks.lead(lambda: _portable(self._found(model, step, processor, whole)))
        with ExitStack() as asked:  # begun only then: a model that is refused is no reason to be waited for

            def now() -> tuple[Checkpoint, Any]:
                asked.enter_context(standstill(model, self._sliding))
                return self._now(model, step, processor)

            found: _Found = self._ranks.follow(now)
            return found

    def _found(self, model: Any, step: int, processor: Any, whole: bool) -> _Found:
        """Evaluates, and judges by the best so far; after a failure only the numbers that there are."""
        failed = None
        try:
            runs = self._evaluate(model, step, processor, whole)
        except TasksFailed as error:
            runs, failed = Runs(error.runs), error
        folders = [run.folder for run in runs]
        with self._own_code():
            shown = self.best.shown(folders)
            if self.judged and failed is None:
                self.best.look(folders)
        return _Found(
            runs,
            failed,
            trackers.numbers(trackers.keys(shown)) | _counts(runs),
            any(run.record.get("early") for run in runs),
            (self.best.name, self.best.since, self.best.improvements),
        )

    def take_up(self, step: int, improvements: int, since: int) -> None:
        """Goes on where an earlier session of this training ended, whose best was that of `step`. Its runs
        are in the output folder; of a task that has several it is the last that was begun."""
        output, model = Path(self._options.output_path), f"{self.name}-checkpoint-{step}"
        there = store.find([output]) if output.exists() else []
        mine = [(folder, folder.read_run() or {}) for folder in there if f".{model}." in folder.name]
        mine.sort(key=lambda one: str(one[1].get("sessions", [{}])[-1].get("started")))
        last = {run["task"]: folder for folder, run in mine if run.get("model") == model}
        with self._own_code():
            self.best.take_up([*last.values()], improvements, since)

    def report_to(self, others: Iterable[str]) -> None:
        """Trackers that know the scores already (a Trainer's) are shown the samples; where `report_to` was
        given, only those that it names."""
        self._others = tuple(others)

    def close(self) -> None:
        """Ends what was begun with trackers; another evaluation begins it anew."""
        if self._report is not None:
            self._report.close()
        self._report = None

    def _reporter(self) -> Reporter:
        """The trackers, opened once: on the process that evaluates."""
        if self._report is None:
            known = [name for name in self._others if name in TRACKERS]
            told = known if self._told is None else self._told
            self._report = Reporter(told, Path(self._options.output_path), self._others)
        return self._report

    def _own_code(self) -> AbstractContextManager[None]:
        return own_code.allowed(self._options.allow_code, paths(self._options.include_path))

    def _evaluate(self, model: Any, step: int, processor: Any, whole: bool) -> Runs:
        if self._options.rehash:
            files.distrust()
        with self._own_code(), standstill(model, self._sliding):
            self._recognise()
            options = self._options
            checkpoint, weights = self._now(model, step, processor)
            if self._ranks is not None:
                checkpoint = self._ranks.shared(checkpoint, weights)
            try:
                found = self._answered(checkpoint, whole)
            except TasksFailed as error:
                runs = Runs(Run(folder, options.allow_code) for folder in error.runs)
                raise TasksFailed(error.failures, runs, error.done) from error
            return Runs(Run(folder, options.allow_code) for folder in found)

    def _answered(self, checkpoint: Checkpoint, whole: bool) -> list[RunFolder]:
        """The scored runs. Sequentially: until they are decided against the best so far."""
        best = self._reference(whole)
        place = (self._options, "evalkit.Evaluator", [checkpoint], self._data, self._reporter())
        found = evaluate.run(*place, best)
        return evaluate.run(*place) if best is not None and self.best.promising(found) else found

    def _reference(self, whole: bool) -> ModelRuns | None:
        """What an evaluation is decided against: the best's runs of the tasks that may stop."""
        best = self.best.runs
        if best is None or whole or not self._sequential:
            return None
        return ModelRuns(best.name, {t: run for t, run in best.runs.items() if t not in self.always_whole})

    @property
    def _sliding(self) -> bool:
        return self._options.sliding_window == "transformers"

    def _now(self, model: Any, step: int, processor: Any) -> tuple[Checkpoint, Any]:
        """The model as it is at this step, and its weights' digest."""
        live = self._held(model, processor).now()
        return live.as_checkpoint(f"{self.name}-checkpoint-{step}"), live.weights

    def _held(self, model: Any, processor: Any) -> Live:
        """The model with its tokenizer, which is read once."""
        if self._live is None or self._live.whole is not unwrapped(model):
            said = self._options.given(RunOptions)
            self._live = Live.of(model, processor, **{k: said[k] for k in USED if said.get(k) is not None})
        return self._live


def _portable(found: _Found) -> _Found:
    """The same, with failures that can be sent to another process."""
    if (failed := found.failed) is None:
        return found
    why = {task: ranks.portable(error) for task, error in failed.failures.items()}
    return replace(found, failed=TasksFailed(why, failed.runs, failed.done))


def _counts(runs: Sequence[Run]) -> dict[str, float]:
    """On how many samples each task's scores stand, and of how many."""
    found: dict[str, float] = {}
    for run in runs:
        for score in list(run.scores.values())[:1]:
            stopped = run.record.get("early")
            of = max(stopped["of"], score.n) if stopped else score.n
            found |= {f"{run.task}/n": float(score.n), f"{run.task}/n_of": float(of)}
    return found
