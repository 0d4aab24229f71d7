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
from evalkit.data.by_name import Index
from evalkit.data.packed import Samples
from evalkit.errors import (
    Damaged,
    DataError,
    ImageError,
    MetricsFailed,
    ModelError,
    ResultsError,
    UserError,
)
from evalkit.evaluation import estimate
from evalkit.evaluation import score as scoring
from evalkit.evaluation.plan import Plan, ToScore, again, fresh, recorded, requests
from evalkit.evaluation.stamps import Stamps
from evalkit.reading import unchanged
from evalkit.runs import store
from evalkit.runs.journal import Journal, Predictions
from evalkit.runs.journal_lines import Entry
from evalkit.runs.store import RunFolder, scores_of
from evalkit.tasks import calls
from evalkit.tasks.dataset import DatasetCache
from evalkit.types import Checkpoint, Metric, Model, Prediction, Request, Sample, Score

MANY, TOGETHER = 1000, 32  # of more samples the running score is computed for so many answers together

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
            now = fresh(plan, session.datasets)
            if now.missing:
                check_resume(now, session)
                predict(now, session)
            elif now.lost:
                restore(now, session)
            else:
                note(now)
            finish(plan, now, session)


def finish(plan: Plan, now: Plan, session: Session) -> None:
    """Scores a run as it is `now` and says so; what is scored is told before a metric's failure is raised."""
    try:
        session.done(plan, score(now, session.datasets))
    except MetricsFailed as error:
        session.done(plan, list(error.scores))
        raise


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
    block after block, until that names no more samples. What another process answered since the plan was
    made is not asked again.
    """
    model = session.model(plan.protocol)
    with plan.folder.journal(plan.digest) as journal:
        now = fresh(plan, session.datasets)
        if now is not plan:
            check_resume(now, session)
        if now.missing or following:
            _Asking(now, model, session, journal).run(following)


class _Asking:
    """One session of a run: its model, its samples, and where the answers go. The journal is held."""

    def __init__(self, plan: Plan, model: Model, session: Session, journal: Journal) -> None:
        self.plan, self.model, self.session, self.journal = plan, model, session, journal
        missing, samples = Index(plan.missing), again(plan, session.datasets).samples
        self.todo = samples.take(at for at, name in enumerate(samples.ids) if name in missing)
        self.places = self.todo.by_id()
        self.running = _Running(plan)
        self.bad: dict[str, str] = {}
        self.done, self.work = len(plan.wanted) - len(plan.missing), 0.0
        self.record = _record(plan, model, session)
        plan.folder.write_run(self.record)

    def run(self, following: Next | None) -> None:
        """Asks for all that is missing, or for block after block, and records how long it took."""
        begun = time.monotonic()
        try:
            if following is None:
                for _ in self._answers(self.todo):
                    pass
            else:
                self._blocks(following)
        except ImageError as error:
            raise ImageError(f"{error}; --on-bad-image skip goes on without such samples") from None
        took = {"ended": provenance.now(), "seconds": time.monotonic() - begun, "flops": self.work}
        took |= {"peak_memory": provenance.peak_memory()}
        self.record["sessions"][-1] |= {**took, **self.model.provenance()}
        self.record["bad_images"] = {**self.record["bad_images"], **self.bad}
        self.plan.folder.write_run(self.record)

    def _blocks(self, following: Next) -> None:
        known = {} if len(self.todo) == len(self.plan.wanted) else self.plan.folder.entries()
        block = following([])
        while block:
            there = [known[name].prediction for name in block if name not in self.places]
            places = [at for name in block if (at := self.places.get(name)) is not None]
            block = following([*there, *self._answers(self.todo.take(places))])

    def _answers(self, samples: Samples) -> Iterator[Prediction]:
        """The answers to some of the samples, each in the journal before it is given."""
        plan, flops = self.plan, self.session.checkpoint.flops
        asked, stamps = requests(plan, samples), Stamps(plan.source.root, samples.images)
        joining = calls.Joining(asked if calls.several(plan.task) else ())
        for answer in self.model.predict(asked, self._skip()):
            _note_used(plan, self.model, self.record)
            sample = self._sample(calls.sample_of(answer.id, self.places))
            if flops is not None:
                tokens = estimate.prompt_tokens(plan, answer.prompt)
                self.work += flops(len(sample.images), tokens, len(answer.tokens))
            prediction = joining.add(answer)
            if prediction is None:
                continue
            self.journal.write(Entry(prediction, stamps.of(sample)))
            self.done += 1
            self.session.progress(plan, self.done, self.running.add(sample, prediction))
            yield prediction

    def _sample(self, name: str) -> Sample:
        place = self.places.get(name)
        if place is None:
            raise KeyError(name)
        return self.todo[place]

    def _skip(self) -> Callable[[Request, ImageError], None] | None:
        """What is done with an image that cannot be read; None stops the run."""

        def skip(request: Request, error: ImageError) -> None:
            self.bad[calls.sample_of(request.id, self.places)] = str(error)

        return skip if self.session.on_bad_image == "skip" else None


class _Running:
    """The score so far of the first metric that single samples add up to; for the eye only."""

    def __init__(self, plan: Plan) -> None:
        self.task, self.parser = plan.task, plan.parser
        metrics: list[Metric] = [registry.make("metrics", m) for m in plan.task.metrics]
        quick = [m for m in metrics if not m.corpus and not m.package]
        fitting = quick if self.parser.kind != "masks" else []
        self.metric = fitting[0] if fitting else None
        self.sums: Any = 0.0
        self.value: float | None = None
        self.waiting: list[tuple[Any, Any]] = []
        self.together = TOGETHER if len(plan.wanted) > MANY else 1

    def add(self, sample: Sample, prediction: Prediction) -> float | None:
        """The score with one answer more; of many samples it is computed after every `TOGETHER` alone."""
        if self.metric is None or sample.target in (None, ()):
            return self.value
        size = sample.size or (prediction.sizes[0] if prediction.sizes else None)
        try:
            (answer,) = calls.answers(self.task, self.parser, [prediction], [size])
            self.waiting.append((answer, sample.target))
            if len(self.waiting) >= self.together:
                rows = self.metric.rows([a for a, _ in self.waiting], [t for _, t in self.waiting])
                self.waiting.clear()
                if isinstance(rows, list):  # they do not add up
                    self.metric = None
                    return None
                self.sums = self.sums + rows.sum(axis=0)
                self.value = float(self.metric.value(self.sums))
        except Exception:  # it is for the eye only: scoring says what is wrong
            self.metric = self.value = None
        return self.value


# --- scoring -------------------------------------------------------------------------------------


def score(run: ToScore, datasets: DatasetCache) -> list[Score]:
    """Scores what the journals hold of the wanted samples and writes rows.jsonl and scores.json.

    What was scored before from the same inputs is read, not computed: the second run is instant. Raises
    MetricsFailed, after everything else is written, where a metric failed: it is tried again next time.
    """
    recorded = run.folder.read_run()
    entries = run.folder.answers(recorded["digest"], recorded).entries if recorded else {}
    predictions = Predictions(entries, run.wanted)
    if recorded is None or not predictions:
        bad = (recorded or {}).get("bad_images", {})
        why = next(iter(bad.values()), f"its answers are gone or damaged; {store.AGAIN}")
        raise DataError(f"{run.task.name}: nothing is left to score in {run.folder.path}: {why}")
    try:
        return _score(run, recorded, predictions, datasets)
    except (DataError, ResultsError):
        raise
    except UserError as error:  # a mask decoder or a package that a metric needs
        raise DataError(f"{run.task.name}: {error}") from error


def _score(
    run: ToScore, recorded: Mapping[str, Any], predictions: Predictions, datasets: DatasetCache
) -> list[Score]:
    covered = run.coverage(len(predictions))
    metrics = scoring.metrics_of(run.task)
    inputs = scoring.inputs_digest(run.task, run.data, predictions.digest(), covered, run.parser, metrics)
    before = _scored_before(run.folder, recorded)
    if before is not None and before.get("inputs") == inputs and unchanged(before.get("used", {})):
        return scores_of(run.folder)
    data = again(run, datasets)
    scored = scoring.score(
        run.task, run.parser, data.samples, predictions, covered, run.targets, metrics, data.source.root
    )
    run.folder.write_scored(
        recorded["digest"],
        scored.lines,
        scored.scores,
        "" if scored.failed else inputs,
        scored.not_scored,
        scored.used,
    )
    if scored.failed:
        raise MetricsFailed("; ".join(map(str, scored.failed.values())), scored.scores)
    return scored.scores


def _scored_before(folder: RunFolder, run: Mapping[str, Any]) -> dict[str, Any] | None:
    """scores.json, if it and rows.jsonl are certainly as they were written."""
    try:
        scores = folder.read_scores(run)
    except Damaged:
        return None
    return scores if scores is not None and scores["seal"] and folder.has_rows(scores) else None


# --- identity and provenance ---------------------------------------------------------------------


def _record(plan: Plan, model: Model, session: Session) -> dict[str, Any]:
    """run.json's content, this session added to what earlier ones left."""
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
    return _content(plan, now)


def _content(plan: Plan, now: Mapping[str, Any]) -> dict[str, Any]:
    """run.json's content with one more session. What is damaged is set aside, to be written anew."""
    run, damage = recorded(plan.folder, plan.digest)
    unsealed = plan.folder.unsealed(plan.digest, run)
    if damage:
        plan.folder.set_run_aside()
    before, missing = run or {}, Index(plan.missing)
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
        **({"unsealed": unsealed} if unsealed else {}),
        **_said(plan, before),
        "bad_images": {k: v for k, v in before.get("bad_images", {}).items() if k in missing},
        "sessions": [*before.get("sessions", []), now],
    }


def _said(plan: Plan, before: Mapping[str, Any]) -> dict[str, Any]:
    """What run.json says of the data: what was odd when it was read, and what makes the number doubtful."""
    known = before.get("data", {}).get("doubts", [])
    doubts = known if plan.doubts is None else list(plan.doubts)
    said = {"remarks": list(plan.remarks), "doubts": doubts}
    return {"data": said} if any(said.values()) else {}


def note(plan: Plan) -> None:
    """Writes into run.json what is known of the data now, where all was answered before that was."""
    run, _ = recorded(plan.folder, plan.digest)
    if plan.doubts is None or run is None or run.get("data", {}) == (now := _said(plan, run).get("data", {})):
        return
    with plan.folder.journal(plan.digest):
        plan.folder.write_run({**run, "data": now})


def restore(plan: Plan, session: Session) -> None:
    """Writes run.json anew where all is answered and it was lost. How the answers came is not known."""
    with plan.folder.journal(plan.digest):
        now = {"started": provenance.now(), "ended": None, "command": session.command}
        plan.folder.write_run(_content(plan, {**now, "evalkit": __version__, "restored": plan.lost}))


def _note_used(plan: Plan, model: Model, record: dict[str, Any]) -> None:
    """Writes into run.json, before an answer is kept, which files the model has read to give it. Raises
    ModelError where one is not what it was planned with, or what earlier answers were made with."""
    used, known = model.used(), record.get("used", {})
    if not used:
        return
    for path, digest in used.items():
        planned = {**plan.identity.get("used", {}), **known}.get(path, digest)
        if planned != digest:
            raise ModelError(f"{path}: changed after the run was planned; run the same command again")
    if used.keys() - known.keys():
        record["used"] = {**known, **used}
        plan.folder.write_run(record)


def check_resume(plan: Plan, session: Session) -> None:
    """Going on under other library versions could mix two texts; that must be asked for."""
    before, _ = recorded(plan.folder, plan.digest)
    if before is None or session.resume_across or len(plan.missing) == len(plan.wanted):
        return
    for last in before.get("sessions", [])[-1:]:
        for library, version in provenance.versions().items():
            old = last.get("libraries", {}).get(library)
            if old is not None and old != version:
                raise ResultsError(
                    f"{plan.folder.path}: was begun with {library} {old}, here is {version}; "
                    "add --resume-across to go on all the same, or use another --output-path"
                )
