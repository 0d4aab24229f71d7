"""The callback for transformers' Trainer, and for every trainer that is built on it (TRL's SFTTrainer)."""

from __future__ import annotations

import logging
import math
import re
import sys
from pathlib import Path
from typing import Any

from transformers import TrainerCallback as Callback
from transformers.trainer_callback import CallbackHandler

from evalkit import own_code
from evalkit.errors import TasksFailed, UserError, nearest
from evalkit.options.fields import Names, Paths
from evalkit.printing import say
from evalkit.trackers import keys
from evalkit.training.evaluator import Evaluator
from evalkit.training.improvement import Best

IMPROVEMENTS = "evalkit/improvements"
PREFIX = "eval_"  # of metrics that `metric_for_best_model` and the trackers know as the evaluation's

log = logging.getLogger("evalkit")


class TrainerCallback(Callback):  # type: ignore[misc, no-any-unimported]
    """Evaluates the model in training on tasks, keeps the runs, and logs `eval_TASK/METRIC` with the
    Trainer's own trackers.

    `every`: a number of steps, and the last step too; "epoch"; without it, whenever the Trainer evaluates. At
    the Trainer's own evaluations the metrics are among its own, so that `metric_for_best_model` finds them.
    An evaluation ends as soon as it is decided that it is not the best so far (`until_decided=False` answers
    all samples each time); the first and the last of a training, and each new best, have all samples.
    `patience=N` ends the training after N evaluations without a significant improvement of any task over the
    best so far. The metric `evalkit/improvements` counts significant improvements: `metric_for_best_model`
    by it keeps the last of them. What fails is told and the training goes on, unless `strict`. The other
    options are those of `evalkit.Evaluator`, `data` (a folder of one's own) among them; the processor is the
    Trainer's `processing_class` where none is given.
    """

    def __init__(
        self,
        tasks: Names = (),
        *,
        limit: float | None = None,
        every: int | str | None = None,
        patience: int | None = None,
        strict: bool = False,
        processor: Any = None,
        name: str | None = None,
        data_root: Paths = (),
        output_path: str | Path = "results",
        **options: Any,
    ) -> None:
        if every not in (None, "epoch") and (type(every) is not int or every < 1):
            raise UserError(f"TrainerCallback: every: {every!r}: must be a number of steps, or 'epoch'")
        if patience is not None and (type(patience) is not int or patience < 1):
            raise UserError(f"TrainerCallback: patience: {patience!r}: must be a number of evaluations")
        self.every, self.patience, self.strict = every, patience, strict
        self._called = name
        self.evaluator = Evaluator(
            tasks, processor=processor, name=name or "live", limit=limit, data_root=data_root,
            output_path=output_path, **options,
        )  # fmt: skip
        self.evaluator.judged |= patience is not None
        self.metrics: dict[int, dict[str, float]] = {}  # by step; none where it failed
        self._handler: CallbackHandler | None = None

    # --- when -----------------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        """Takes the name of the training's folder, and finds the trainer's trackers."""
        if self._called is None:
            folder = re.sub(r"[^\w.+@-]+", "-", Path(args.output_dir or "").resolve().name).strip("-.")
            self.evaluator.name = folder or "live"
        self.evaluator.report_to(args.report_to)
        self.evaluator.judged |= str(args.metric_for_best_model).endswith(IMPROVEMENTS)
        self._handler = _handler()
        if self.evaluator.judged and state.is_world_process_zero:
            self._take_up(state)

    def _take_up(self, state: Any) -> None:
        """Of a resumed training, what its earlier sessions found."""
        key = f"{PREFIX}{IMPROVEMENTS}"
        every = ((entry["step"], entry.get(key, math.nan)) for entry in state.log_history)
        told = {step: int(n) for step, n in every if math.isfinite(n)}  # none of a failed evaluation
        if not told:
            return
        best = min(step for step, n in told.items() if n == max(told.values()))
        try:
            self.evaluator.take_up(best, told[best], sum(step > best for step in told))
        except UserError as error:
            say(f"evalkit: the best so far is not known, it is judged anew: {error}")

    def on_train_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        """Closes what `report_to` opened."""
        self.evaluator.close()

    def on_step_end(self, args: Any, state: Any, control: Any, **known: Any) -> Any:
        """Evaluates every so many steps, and at the last one."""
        last = self.every is not None and state.global_step >= state.max_steps
        if last or (isinstance(self.every, int) and state.global_step % self.every == 0):
            self._evaluate(args, state, control, known)
        return control

    def on_epoch_end(self, args: Any, state: Any, control: Any, **known: Any) -> Any:
        """Evaluates where `every` is "epoch"."""
        if self.every == "epoch":
            self._evaluate(args, state, control, known)
        return control

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float], **known: Any
    ) -> Any:
        """Adds the metrics to the Trainer's; it evaluates where they are asked for and not there yet."""
        wanted = _for_best(args, metrics)
        if self.every is None or wanted:
            self._evaluate(args, state, control, known)
        metrics.update(self.metrics.get(state.global_step, {}))
        if wanted and wanted not in metrics:
            self._lacks(wanted, state.global_step)
            metrics[wanted] = math.nan  # better than nothing is; without it the Trainer would end
        return control

    # --- what -----------------------------------------------------------------------------------------

    def _evaluate(self, args: Any, state: Any, control: Any, known: dict[str, Any]) -> None:
        step = state.global_step
        if step in self.metrics:
            return
        self.metrics[step] = {}
        last = state.global_step >= state.max_steps or control.should_training_stop
        self._keep_whole(args)
        try:
            self._runs(known, step, last)
            if self._ends() and self.evaluator.stopped:
                self._runs(known, step, True)  # the last of a training has all samples
            self.metrics[step] = {f"{PREFIX}{k}": value for k, value in self.evaluator.metrics.items()}
            if self.evaluator.judged:
                self.metrics[step][f"{PREFIX}{IMPROVEMENTS}"] = float(self.best.improvements)
            self._log(args, state, control, self.metrics[step])
            self._judge(state, control)
        except Exception as error:
            if self.strict:
                raise
            where = "" if isinstance(error, UserError) else f" ({own_code.where(error)})"
            say(f"evalkit: step {step}: not evaluated, training goes on: {own_code.said(error)}{where}")
            log.debug("step %d", step, exc_info=True)

    def _runs(self, known: dict[str, Any], step: int, whole: bool) -> None:
        """Runs this step. What some of several tasks lack is told, unless it must end the training."""
        try:
            self.evaluator(known["model"], step, known.get("processing_class"), whole=whole)
        except TasksFailed as error:
            if self.strict or not error.runs:
                raise
            for why in error.failures.values():
                say(f"evalkit: step {step}: {why}")

    def _log(self, args: Any, state: Any, control: Any, metrics: dict[str, float]) -> None:
        """Does what `Trainer.log` does, which a callback cannot reach."""
        logs = {**metrics, "epoch": state.epoch} if state.epoch is not None else dict(metrics)
        state.log_history.append({**logs, "step": state.global_step})
        if self._handler is not None:
            self._handler.call_event("on_log", args, state, control, logs=logs)

    @property
    def best(self) -> Best:
        """The best evaluation so far."""
        return self.evaluator.best

    def _judge(self, state: Any, control: Any) -> None:
        """Ends the training where nothing has become significantly better for too long."""
        if not self.evaluator.judged:
            return
        if state.is_world_process_zero:
            say(f"evalkit: {self.best}")
        if self._ends():
            control.should_training_stop = True

    def _ends(self) -> bool:
        return self.patience is not None and self.best.since >= self.patience

    def _keep_whole(self, args: Any) -> None:
        """A task whose other metrics choose the best checkpoint is not stopped: it would be by its first."""
        name = (args.metric_for_best_model or "").removeprefix(PREFIX)
        task = name.partition("/")[0]
        run = None if self.best.runs is None else self.best.runs.runs.get(task)
        if run is not None and name != next(iter(keys(run.scores.values()))):
            self.evaluator.always_whole.add(task)

    def _lacks(self, wanted: str, step: int) -> None:
        every = (key for metrics in self.metrics.values() for key in metrics)
        there = {key for key in every if not key.endswith(("_low", "_high", "/n", "/n_of"))}
        if there and wanted not in there:
            say(f"evalkit: metric_for_best_model {wanted}: no such metric{nearest(wanted, sorted(there))}")
        else:
            say(f"evalkit: step {step}: has no {wanted}; it counts as not the best")


def _for_best(args: Any, metrics: dict[str, float]) -> str:
    """The metric that decides the best checkpoint, where it is not one of the Trainer's own; else ''."""
    name = args.metric_for_best_model or ""
    name = name if not name or name.startswith(PREFIX) else PREFIX + name
    return name if "/" in name and name not in metrics else ""


def _handler() -> CallbackHandler | None:
    """Who called: a Trainer gives its callbacks no way to it, nor to its trackers."""
    frame: Any = sys._getframe()
    while frame is not None:
        if isinstance(found := frame.f_locals.get("self"), CallbackHandler):
            return found
        frame = frame.f_back
    say("evalkit: the trainer's trackers are not found; metrics are in results/ and the state's log_history")
    return None
