"""Runs until the difference from a baseline is decided: block after block of images, then a stop.

Knows plans, baselines and the sequential test; prints nothing.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from evalkit import registry
from evalkit.errors import UserError
from evalkit.evaluation.plan import Plan, again, fresh
from evalkit.evaluation.predict import Session, check_resume, finish, predict, reported, restore
from evalkit.runs.scored_run import ScoredRun, parts
from evalkit.stats.sequential import ALPHA, Decider, block_size
from evalkit.tasks import calls, dataset
from evalkit.tasks.dataset import Dataset, Selection
from evalkit.types import Metric, Prediction, Sample

MARGIN = 0.02
BATCH = 64  # samples that are asked for together inside a training: smaller blocks leave a device idle


@dataclass(frozen=True)
class Outcome:
    """What a sequential run came to; `verdict` is "" when all samples did not decide it."""

    task: str
    metric: str
    against: str
    verdict: str
    margin: float
    alpha: float
    block: int  # clusters
    looks: int
    clusters: int
    samples: int
    of: int  # samples in all
    minutes_saved: float | None  # None when nothing was predicted now
    went_on: bool = False  # it was ahead, so the rest was answered too

    def __str__(self) -> str:
        share = 100 * self.samples / self.of
        saved = "" if self.minutes_saved is None else f", {self.minutes_saved:.1f} minutes saved"
        word = {"equivalent": " within", "not better": " by"}.get(self.verdict, "")
        points = f"{word} {100 * self.margin:g}" if word else ""
        rest = "; it is ahead, so the rest was answered too" if self.went_on else ""
        return (
            f"{self.verdict or 'undecided'}{points} after {self.samples:,} of {self.of:,} samples "
            f"({share:.0f} %{saved}), {self.metric} against {self.against}{rest}"
        )


def run(
    plans: Sequence[Plan],
    session: Session,
    base: Mapping[str, ScoredRun],
    margin: float = MARGIN,
    best: bool = False,
) -> list[Outcome]:
    """Like `predict.run`, but every task stops when it is decided; alpha is split over the tasks.

    A stopped run says so in run.json ("early") and its coverage; asked again, it replays its blocks
    from the journal and comes to the same decision without a model. With `best`, the base is the best so
    far: only what is not ahead of it stops, so that another best has all samples, and as soon as it is
    certain not to be better by the margin. Raises UserError, before anything runs, for a task without a
    baseline, samples of it or an additive metric.
    """
    datasets, alpha = session.datasets, ALPHA / len(plans)
    watches = [_Watch(p, again(p, datasets), base.get(p.task.name), margin, alpha, best) for p in plans]
    found = []
    for plan, watch in zip(plans, watches, strict=True):
        with reported(plan, session):
            found.append(_run(plan, watch, session, best))
    return found


def _run(plan: Plan, watch: _Watch, session: Session, best: bool) -> Outcome:
    datasets = session.datasets
    plan = fresh(plan, datasets)
    if plan.lost:
        restore(plan, session)
    whole = best and not plan.missing
    watch.resume({n: e.prediction for n, e in plan.folder.entries().items() if n not in plan.changed})
    if watch.next_block:
        check_resume(plan, session)
        session.model(plan.protocol)  # loading does not count as time of the run
    started = time.monotonic()
    if watch.next_block:
        predict(plan, session, watch.following)
    outcome = watch.outcome(time.monotonic() - started)
    done = plan
    if outcome.samples < len(plan.wanted) and not whole:
        if best and watch.ahead:
            done = fresh(plan, datasets)
            predict(done, session)
            outcome = replace(outcome, minutes_saved=None, went_on=True)
        else:
            done = _stopped(plan, again(plan, datasets), watch)
    _record(done, outcome)
    finish(done, done, session)
    return outcome


def _stopped(plan: Plan, data: Dataset, watch: _Watch) -> Plan:
    """The plan narrowed to the blocks that were looked at."""
    limited = Selection(watch.taken, plan.selection.seed)
    seen = set(watch.seen)
    same = set(dataset.choose(data.samples, limited).ids) == seen
    selection = limited if same else Selection(ids=tuple(n for n in plan.wanted if n in seen))
    return replace(plan, selection=selection, wanted=tuple(n for n in plan.wanted if n in seen), early=True)


def _record(plan: Plan, outcome: Outcome) -> None:
    """Adds the decision to run.json, once; a replay changes nothing."""
    run = plan.folder.read_run()
    decision = asdict(outcome)
    if run is None or {**(run.get("early") or {}), "minutes_saved": 0} == {**decision, "minutes_saved": 0}:
        return
    plan.folder.write_run({**run, "asked": asdict(plan.selection), "early": decision if plan.early else None,
                           "sequential": decision})  # fmt: skip


class _Watch:
    """One task: its blocks in order, and the test that looks at each when it is complete."""

    def __init__(
        self, plan: Plan, data: Dataset, base: ScoredRun | None, margin: float, alpha: float, hopeful: bool
    ) -> None:
        if base is None:
            raise UserError(f"--against: has no run of {plan.task.name}; run the baseline on it first")
        self.plan, self.base, self.margin, self.alpha = plan, base, margin, alpha
        self.parser = plan.parser
        self.metric, self.spelled = _additive(plan, base)
        _refuse(plan, base, self.spelled)
        self.before = dict(
            zip(base.ids, np.asarray(base.rows[registry.spell(self.metric)])[:, 0], strict=True)
        )
        wanted = set(plan.wanted) & self.before.keys()
        if not wanted:
            raise UserError(
                f"{plan.task.name}: --against {base.run}: has none of the samples that are asked for; run "
                "the baseline on the same ones"
            )
        self.samples = {s.id: s for s in data.samples if s.id in wanted}
        self.order = _permuted(list(self.samples.values()), plan.selection.seed)
        sizes = [len(c) for c in self.order]
        mean = float(np.mean(sizes))
        self.step = max(block_size(len(sizes), mean), math.ceil(BATCH / mean) if hopeful else 0)
        scale = 1.0 if self.metric.maximum is None else self.metric.maximum - self.metric.minimum
        self.sign = (-1.0 if self.metric.lower_is_better else 1.0) / scale
        self.decider = Decider(margin / scale, max(sizes), mean, alpha, hopeful)
        self.answers: dict[str, Prediction] = {}
        self.taken = 0  # clusters looked at
        self.looks = 0
        self.asked = False  # whether the runner was given a block
        self.next_block: tuple[str, ...] = ()

    @property
    def seen(self) -> list[str]:
        return [s.id for cluster in self.order[: self.taken] for s in cluster]

    @property
    def ahead(self) -> bool:
        """Whether what was looked at is better than the base, by however little."""
        return self.decider.total > 0

    def resume(self, answers: Mapping[str, Prediction]) -> None:
        """Looks at every block that earlier sessions completed, in the same order as they did."""
        self.answers.update(answers)
        self._advance()

    def following(self, answers: Sequence[Prediction]) -> Sequence[str]:
        """For the runner: looks at the block that was just answered, names what is asked next."""
        if self.asked:
            self.answers.update((p.id, p) for p in answers)
            self._look()  # complete, but for images that can't be read
            self._advance()
        self.asked = True
        return self.next_block

    def _advance(self) -> None:
        """Passes over completed blocks; sets the ids that the next one lacks, () when there is an end."""
        self.next_block = ()
        while not self.decider.verdict and self.taken < len(self.order):
            block = self.order[self.taken : self.taken + self.step]
            missing = tuple(s.id for cluster in block for s in cluster if s.id not in self.answers)
            if missing:
                self.next_block = missing
                return
            self._look()

    def _look(self) -> None:
        block = self.order[self.taken : self.taken + self.step]
        self.taken += len(block)
        self.looks += 1
        there = [[s for s in cluster if s.id in self.answers] for cluster in block]
        flat = [s for cluster in there for s in cluster]
        if not flat:
            return
        given = [self.answers[s.id] for s in flat]
        sizes = [s.size or (p.sizes[0] if p.sizes else None) for s, p in zip(flat, given, strict=True)]
        answers = calls.answers(self.plan.task, self.parser, given, sizes)
        rows = np.asarray(self.metric.rows(answers, [s.target for s in flat]))
        moved = dict(zip((s.id for s in flat), rows[:, 0], strict=True))
        sums = [sum(self.sign * (moved[s.id] - self.before[s.id]) for s in c) for c in there if c]
        self.decider.look(np.array(sums), np.array([float(len(c)) for c in there if c]))

    def outcome(self, seconds: float) -> Outcome:
        samples, total = len(self.seen), len(self.samples)
        now = self.plan.missing and samples and seconds > 0
        fresh = sum(n in self.answers for n in self.plan.missing)
        saved = seconds / fresh * (total - samples) / 60 if now and fresh else None
        return Outcome(
            self.plan.task.name, self.spelled, self.base.name, self.decider.verdict, self.margin,
            self.alpha, self.step, self.looks, self.taken, samples, total, saved,
        )  # fmt: skip


def possible(plan: Plan, base: Mapping[str, ScoredRun]) -> bool:
    """Whether a task has a baseline with some of its samples, and its first metric is a mean over samples."""
    found = base.get(plan.task.name)
    if found is None or set(plan.wanted).isdisjoint(found.ids):
        return False
    try:
        spelled = _additive(plan, found)[1]
        _refuse(plan, found, spelled)
    except UserError:
        return False
    return spelled == plan.task.metrics[0]


def _additive(plan: Plan, base: ScoredRun) -> tuple[Metric, str]:
    """The task's first metric whose score is a plain mean of bounded rows of single samples."""
    for spelled in plan.task.metrics:
        metric: Metric = registry.make("metrics", spelled)
        rows: Any = base.rows.get(registry.spell(metric))
        if rows is None or isinstance(rows, list) or metric.corpus or metric.maximum is None:
            continue
        if type(metric).value is Metric.value and bool((rows[:, 1] == 1).all()):
            return metric, spelled
    raise UserError(
        f"{plan.task.name}: --until-decided: none of {', '.join(plan.task.metrics)} is a mean over samples "
        "that the baseline has too; run it without --until-decided"
    )


def _refuse(plan: Plan, base: ScoredRun, spelled: str) -> None:
    """Raises UserError naming the first thing that makes the baseline another test."""
    signature = parts(base.scores[registry.spell(registry.make("metrics", spelled))].signature)
    mine = {
        "targets": plan.targets[:12],
        "prompt": plan.identity["task"]["prompt"],
        "prompts": plan.identity["prompts"],
        "protocol": plan.protocol,
    }
    theirs = {
        "targets": signature.get("targets"),
        "prompt": base.identity["task"]["prompt"],
        "prompts": base.identity["prompts"],
        "protocol": base.identity.get("protocol"),
    }
    for key, value in mine.items():
        if value != theirs[key]:
            raise UserError(
                f"{plan.task.name}: --against {base.run}: {key} differs, {value!r} against {theirs[key]!r}"
            )


def _permuted(samples: Sequence[Sample], seed: int) -> list[list[Sample]]:
    """Whole clusters in the order in which `--limit` takes them: by ids and seed alone."""
    clusters: dict[str, list[Sample]] = {}
    for sample in samples:
        clusters.setdefault(sample.cluster or sample.id, []).append(sample)
    return sorted(
        clusters.values(),
        key=lambda c: hashlib.sha256(f"{seed}\0{min(s.id for s in c)}".encode()).digest(),
    )
