"""The only loop over a model: predict what a plan still misses, keep every answer, then score.

Knows plans, journals and a `Model`; nothing of its inside, and nothing of how things are printed.
"""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit import __version__, registry
from evalkit.errors import DataError, ImageError, ResultsError
from evalkit.evaluation import estimate
from evalkit.evaluation import score as scoring
from evalkit.evaluation.plan import Plan, coverage, requests, stamps
from evalkit.provenance import _commit, _now, versions
from evalkit.runs.store import Entry, scores_of
from evalkit.tasks.dataset import Dataset, Shelf
from evalkit.types import Checkpoint, Metric, Model, Parser, Prediction, Request, Sample, Score, Task


@dataclass(frozen=True)
class Options:
    """How to run, beside what: nothing here may change a text."""

    on_bad_image: str = "stop"  # stop | skip
    resume_across: bool = False  # go on with other library versions or another device
    command: str = ""


Progress = Callable[[Plan, int, float | None], None]
"""Told after every answer: the plan, how many of its samples are done, the running score."""


def run(
    plans: Sequence[Plan],
    shelf: Shelf,
    checkpoint: Checkpoint,
    options: Options,
    progress: Progress,
    done: Callable[[Plan, list[Score]], None],
) -> None:
    """Runs and scores the plans of one checkpoint; the model is loaded at most once a protocol."""
    models: dict[str, Model] = {}
    for plan in plans:
        if plan.missing:
            check_resume(plan, options)
            if plan.protocol not in models:
                models[plan.protocol] = checkpoint.load(plan.protocol)
            predict(plan, shelf.get(plan.task), models[plan.protocol], options, progress, checkpoint.flops)
        done(plan, score(plan, shelf))


# --- predicting ----------------------------------------------------------------------------------


Next = Callable[[Sequence[Prediction]], Sequence[str]]
"""Given the answers to the last block, the ids of the next block; none ends the run."""


def predict(
    plan: Plan,
    data: Dataset,
    model: Model,
    options: Options,
    progress: Progress,
    flops: Callable[[int, int, int], float] | None = None,
    following: Next | None = None,
) -> None:
    """Asks the model for every missing sample and journals each answer as it comes.

    How long it took, and by `flops` how much work it was, is recorded for later estimates. With
    `following` it asks block after block, until that names no more samples.
    """
    missing = set(plan.missing)
    todo = {s.id: s for s in data.samples if s.id in missing}
    running = _Running(plan.task)
    bad: dict[str, str] = {}

    def skip(request: Request, error: ImageError) -> None:
        bad[request.id] = str(error)

    with plan.folder.journal() as journal:
        record = _record(plan, model, options)
        plan.folder.write_run(record)
        done = len(plan.wanted) - len(plan.missing)
        begun, work = time.monotonic(), 0.0
        block: Sequence[str] = following([]) if following else list(todo)
        try:
            while block:
                asked = requests(plan, [todo[name] for name in block])
                answers = []  # for `following` alone: a long run must not hold what the journal has
                for prediction in model.predict(asked, skip if options.on_bad_image == "skip" else None):
                    sample = todo[prediction.id]
                    journal.write(Entry(prediction, stamps(sample.images)))
                    if following:
                        answers.append(prediction)
                    done += 1
                    if flops is not None:
                        tokens = estimate.prompt_tokens(plan, prediction.prompt)
                        work += flops(len(sample.images), tokens, len(prediction.tokens))
                    progress(plan, done, running.add(sample, prediction))
                block = following(answers) if following else ()
        except ImageError as error:
            raise ImageError(f"{error}; --on-bad-image skip goes on without such samples") from None
        took = {"ended": _now(), "seconds": time.monotonic() - begun, "flops": work}
        record["sessions"][-1] |= {**took, **model.provenance()}
        record["bad_images"] = {**record["bad_images"], **bad}
        plan.folder.write_run(record)


class _Running:
    """The score so far of the first metric that single samples add up to; for the eye only."""

    def __init__(self, task: Task) -> None:
        self.parser: Parser = registry.make("parsers", task.parser)
        metrics: list[Metric] = [registry.make("metrics", m) for m in task.metrics]
        quick = [m for m in metrics if not m.corpus and not m.package]
        fitting = quick if self.parser.kind != "masks" else []
        self.metric = fitting[0] if fitting else None
        self.sums: Any = 0.0

    def add(self, sample: Sample, prediction: Prediction) -> float | None:
        if self.metric is None or sample.target in (None, ()):
            return None
        size = sample.size or (prediction.sizes[0] if prediction.sizes else None)
        rows = self.metric.rows([self.parser.read(prediction, size)], [sample.target])
        if isinstance(rows, list):
            return None
        self.sums = self.sums + rows[0]
        return float(self.metric.value(self.sums))


# --- scoring -------------------------------------------------------------------------------------


def score(plan: Plan, shelf: Shelf) -> list[Score]:
    """Scores what the journals hold of the wanted samples and writes rows.jsonl and scores.json.

    What was scored before from the same inputs is read, not computed: the second run is instant.
    """
    entries = plan.folder.entries()
    wanted = set(plan.wanted)
    predictions = {name: entry.prediction for name, entry in entries.items() if name in wanted}
    if not predictions:
        run = plan.folder.read_run() or {}
        why = next(iter(run.get("bad_images", {}).values()), "its folder was emptied while it ran")
        raise DataError(f"{plan.task.name}: nothing is left to score in {plan.folder.path}: {why}")
    covered = coverage(plan, len(predictions))
    inputs = scoring.inputs_digest(plan.task, plan.targets, predictions, covered, decoder_digest(plan.task))
    before = plan.folder.read_scores()
    if before is not None and before.get("inputs") == inputs:
        return scores_of(plan.folder)
    samples = shelf.get(plan.task).samples
    scored = scoring.score(plan.task, samples, predictions, covered, plan.targets)
    plan.folder.write_rows(scored.lines)
    plan.folder.write_scores(scored.scores, inputs, scored.not_scored)
    return scored.scores


def decoder_digest(task: Task) -> str:
    """What beside text and targets decides the answers; '' where no mask is decoded."""
    parser: Parser = registry.make("parsers", task.parser)
    return parser.identity()


# --- identity and provenance ---------------------------------------------------------------------


def _record(plan: Plan, model: Model, options: Options) -> dict[str, Any]:
    """run.json's content, this session added to what earlier ones left."""
    before = plan.folder.read_run() or {}
    session = {
        "started": _now(),
        "ended": None,
        "command": options.command,
        "evalkit": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "libraries": versions(),
        **model.provenance(),
    }
    return {
        "name": plan.folder.name,
        "task": plan.task.name,
        "model": plan.model,
        "digest": plan.digest,
        "identity": plan.identity,
        "asked": dataclasses.asdict(plan.asked),
        "task_file": dataclasses.asdict(plan.task),
        "source": {"root": str(plan.source.root), "entry": dict(plan.source.entry)},
        "bad_images": {k: v for k, v in before.get("bad_images", {}).items() if k in plan.missing},
        "sessions": [*before.get("sessions", []), session],
    }


def check_resume(plan: Plan, options: Options) -> None:
    """Going on under other library versions could mix two texts; that must be asked for."""
    before = plan.folder.read_run()
    if before is None or options.resume_across or len(plan.missing) == len(plan.wanted):
        return
    for session in before.get("sessions", [])[-1:]:
        for library, version in versions().items():
            old = session.get("libraries", {}).get(library)
            if old is not None and old != version:
                raise ResultsError(
                    f"{plan.folder.path}: was begun with {library} {old}, here is {version}; "
                    "add --resume-across to go on all the same, or use another --output_path"
                )
