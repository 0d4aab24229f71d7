"""The only loop over a model: predict what a plan still misses, keep every answer, then score.

Knows plans, journals and a `Model`; nothing of its inside, and nothing of how things are printed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit import __version__, provenance, registry
from evalkit.errors import DataError, ImageError, ModelError, ResultsError, UserError
from evalkit.evaluation import estimate
from evalkit.evaluation import score as scoring
from evalkit.evaluation.plan import Plan, ToScore, again, requests
from evalkit.evaluation.stamps import Stamps
from evalkit.reading import unchanged
from evalkit.runs.store import Entry, scores_of
from evalkit.tasks.dataset import DatasetCache
from evalkit.types import Checkpoint, Metric, Model, Prediction, Request, Sample, Score

Progress = Callable[[Plan, int, float | None], None]
"""Told after every answer: the plan, how many of its samples are done, the running score."""
Done = Callable[[Plan, list[Score]], None]
"""Told after every run: its plan and its scores."""
Failed = Callable[[Plan, UserError], None]
"""Told of a run that cannot be done; the others go on."""


@dataclass(frozen=True)
class Session:
    """One checkpoint at work on the data: how, and what to call meanwhile. None of it may change a text."""

    checkpoint: Checkpoint
    datasets: DatasetCache
    progress: Progress = lambda plan, done, score: None
    done: Done = lambda plan, scores: None
    on_bad_image: str = "stop"  # stop | skip
    resume_across: bool = False  # go on with other library versions or another device
    command: str = ""
    failed: Failed | None = None  # without it the first failure is raised

    @functools.cached_property
    def _models(self) -> dict[str, Model]:
        return {}

    def model(self, protocol: str) -> Model:
        """The model under a protocol; the weights are loaded when it is first asked for."""
        if protocol not in self._models:
            self._models[protocol] = self.checkpoint.load(protocol)
        return self._models[protocol]


def run(plans: Sequence[Plan], session: Session) -> None:
    """Runs and scores the plans of one checkpoint; the model is loaded at most once a protocol."""
    for plan in plans:
        with reported(plan, session):
            if plan.missing:
                check_resume(plan, session)
                predict(plan, session)
            session.done(plan, score(plan, session.datasets))


@contextlib.contextmanager
def reported(plan: Plan, session: Session) -> Iterator[None]:
    """Reports what is wrong with one task's data, results or scoring, so that the other tasks go on. What is
    wrong with the model is raised: it would be so for every task."""
    try:
        yield
    except (DataError, ResultsError) as error:
        if session.failed is None:
            raise
        session.failed(plan, error)


# --- predicting ----------------------------------------------------------------------------------


Next = Callable[[Sequence[Prediction]], Sequence[str]]
"""Given the answers to the last block, the ids of the next block; none ends the run."""


def predict(plan: Plan, session: Session, following: Next | None = None) -> None:
    """Asks the model for every missing sample and journals each answer as it comes.

    How long it took, and how much work it was, is recorded for later estimates. With `following` it asks
    block after block, until that names no more samples.
    """
    data, model, flops = (
        again(plan, session.datasets),
        session.model(plan.protocol),
        session.checkpoint.flops,
    )
    missing = set(plan.missing)
    todo = {s.id: s for s in data.samples if s.id in missing}
    running = _Running(plan)
    bad: dict[str, str] = {}

    def skip(request: Request, error: ImageError) -> None:
        bad[request.id] = str(error)

    with plan.folder.journal() as journal:
        record = _record(plan, model, session)
        plan.folder.write_run(record)
        done = len(plan.wanted) - len(plan.missing)
        begun, work = time.monotonic(), 0.0
        block: Sequence[str] = following([]) if following else list(todo)
        try:
            while block:
                samples = [todo[name] for name in block]
                asked, stamps = requests(plan, samples), Stamps(plan.source.root, samples)
                answers = []  # for `following` alone: a long run must not hold what the journal has
                for prediction in model.predict(asked, skip if session.on_bad_image == "skip" else None):
                    _note_used(plan, model, record)
                    sample = todo[prediction.id]
                    journal.write(Entry(prediction, stamps.of(sample)))
                    if following:
                        answers.append(prediction)
                    done += 1
                    if flops is not None:
                        tokens = estimate.prompt_tokens(plan, prediction.prompt)
                        work += flops(len(sample.images), tokens, len(prediction.tokens))
                    session.progress(plan, done, running.add(sample, prediction))
                block = following(answers) if following else ()
        except ImageError as error:
            raise ImageError(f"{error}; --on-bad-image skip goes on without such samples") from None
        took = {"ended": provenance.now(), "seconds": time.monotonic() - begun, "flops": work}
        record["sessions"][-1] |= {**took, **model.provenance()}
        record["bad_images"] = {**record["bad_images"], **bad}
        plan.folder.write_run(record)


class _Running:
    """The score so far of the first metric that single samples add up to; for the eye only."""

    def __init__(self, plan: Plan) -> None:
        self.parser = plan.parser
        metrics: list[Metric] = [registry.make("metrics", m) for m in plan.task.metrics]
        quick = [m for m in metrics if not m.corpus and not m.package]
        fitting = quick if self.parser.kind != "masks" else []
        self.metric = fitting[0] if fitting else None
        self.sums: Any = 0.0

    def add(self, sample: Sample, prediction: Prediction) -> float | None:
        if self.metric is None or sample.target in (None, ()):
            return None
        size = sample.size or (prediction.sizes[0] if prediction.sizes else None)
        try:
            rows = self.metric.rows([self.parser.read(prediction, size)], [sample.target])
        except Exception:  # it is for the eye only: scoring says what is wrong
            self.metric = None
            return None
        if isinstance(rows, list):
            return None
        self.sums = self.sums + rows[0]
        return float(self.metric.value(self.sums))


# --- scoring -------------------------------------------------------------------------------------


def score(run: ToScore, datasets: DatasetCache) -> list[Score]:
    """Scores what the journals hold of the wanted samples and writes rows.jsonl and scores.json.

    What was scored before from the same inputs is read, not computed: the second run is instant.
    """
    entries = run.folder.entries()
    wanted = set(run.wanted)
    predictions = {name: entry.prediction for name, entry in entries.items() if name in wanted}
    if not predictions:
        recorded = run.folder.read_run() or {}
        why = next(iter(recorded.get("bad_images", {}).values()), "its folder was emptied while it ran")
        raise DataError(f"{run.task.name}: nothing is left to score in {run.folder.path}: {why}")
    try:
        return _score(run, predictions, datasets)
    except (DataError, ResultsError):
        raise
    except UserError as error:  # a mask decoder or a package that a metric needs
        raise DataError(f"{run.task.name}: {error}") from error


def _score(run: ToScore, predictions: Mapping[str, Prediction], datasets: DatasetCache) -> list[Score]:
    covered = run.coverage(len(predictions))
    metrics = scoring.metrics_of(run.task)
    inputs = scoring.inputs_digest(run.task, run.data, predictions, covered, run.parser, metrics)
    before = run.folder.read_scores()
    if before is not None and before.get("inputs") == inputs and unchanged(before.get("used", {})):
        return scores_of(run.folder)
    data = again(run, datasets)
    scored = scoring.score(
        run.task, run.parser, data.samples, predictions, covered, run.targets, metrics, data.source.root
    )
    run.folder.write_rows(scored.lines)
    run.folder.write_scores(scored.scores, inputs, scored.not_scored, scored.used)
    return scored.scores


# --- identity and provenance ---------------------------------------------------------------------


def _record(plan: Plan, model: Model, session: Session) -> dict[str, Any]:
    """run.json's content, this session added to what earlier ones left."""
    before = plan.folder.read_run() or {}
    now = {
        "started": provenance.now(),
        "ended": None,
        "command": session.command,
        "evalkit": __version__,
        "commit": provenance.commit(),
        "python": platform.python_version(),
        "libraries": provenance.versions(),
        **model.provenance(),
    }
    return {
        "name": plan.folder.name,
        "task": plan.task.name,
        "model": plan.model,
        "digest": plan.digest,
        "identity": plan.identity,
        "asked": dataclasses.asdict(plan.selection),
        "task_file": dataclasses.asdict(plan.task),
        "source": {"root": str(plan.source.root), "entry": dict(plan.source.entry)},
        **({"used": before["used"]} if "used" in before else {}),
        "bad_images": {k: v for k, v in before.get("bad_images", {}).items() if k in plan.missing},
        "sessions": [*before.get("sessions", []), now],
    }


def _note_used(plan: Plan, model: Model, record: dict[str, Any]) -> None:
    """Writes into run.json, before an answer is kept, which files the model has read to give it. Raises
    ModelError where one is not what it was planned with, or what earlier answers were made with."""
    used, known = model.used(), record.get("used", {})
    for path, digest in used.items():
        planned = {**plan.identity.get("used", {}), **known}.get(path, digest)
        if planned != digest:
            raise ModelError(f"{path}: changed after the run was planned; run the same command again")
    if used.keys() - known.keys():
        record["used"] = {**known, **used}
        plan.folder.write_run(record)


def check_resume(plan: Plan, session: Session) -> None:
    """Going on under other library versions could mix two texts; that must be asked for."""
    before = plan.folder.read_run()
    if before is None or session.resume_across or len(plan.missing) == len(plan.wanted):
        return
    for last in before.get("sessions", [])[-1:]:
        for library, version in provenance.versions().items():
            old = last.get("libraries", {}).get(library)
            if old is not None and old != version:
                raise ResultsError(
                    f"{plan.folder.path}: was begun with {library} {old}, here is {version}; "
                    "add --resume-across to go on all the same, or use another --output_path"
                )
