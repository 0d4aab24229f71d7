"""What a person sees while a run goes on: the plan, the progress, the scores. Prints, decides nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from evalkit import printing
from evalkit.errors import TasksFailed, UserError
from evalkit.evaluation.plan import Plan
from evalkit.runs.store import not_scored_of
from evalkit.types import CUT, Checkpoint, Score, remarked, why_not_scored

FEW = 0.01  # the share of answers from which on being cut is a warning
QUIET_SECONDS = 30.0  # between lines when nobody watches


say = printing.say


def plan(checkpoint: Checkpoint, plans: Sequence[Plan]) -> None:
    """The plan of one checkpoint: what will run, how, and what is done already."""
    say(f"{checkpoint.name}: {checkpoint.about}")
    width = max(len(p.task.name) for p in plans)
    for p in plans:
        images = "" if len(p.wanted) == p.total else f" of {p.total:,}"
        done = len(p.wanted) - len(p.missing)
        state = (
            "done" if not p.missing else "to run" if not done else f"{done:,} done, {len(p.missing):,} to go"
        )
        extra = f"; on disk {p.total:,} of the official {p.official:,}" if p.official else ""
        extra += "; as many as the papers had" if p.total == p.task.data.published_count else ""
        if p.widened:
            extra += (
                f"; {p.widened:,} of these were asked for, and no run is made smaller: the score is of all "
                f"{len(p.wanted):,}, another --output-path has one of {p.widened:,}"
            )
        what = "sample" if p.total == 1 else "samples"
        changed = f"; {len(p.changed)} images changed since, run again" if p.changed else ""
        say(
            f"  {p.task.name:<{width}}  {len(p.wanted):>6,}{images} {what}  {p.preparation.resolution} px  "
            f"{p.protocol}  {state}{extra}{changed}"
        )
        for odd in (*p.aside, *([f"{p.lost}; it is written anew"] if p.lost else [])):
            say(f"warning: {p.task.name}: {odd}")


class Bar:
    """One progress bar a task on a terminal; elsewhere a line now and then."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.name = ""
        self.shown = 0.0

    def __call__(self, plan: Plan, done: int, score: float | None) -> None:
        postfix = {} if score is None else {"score": f"{100 * score:.1f}"}
        if plan.folder.name != self.name:
            self.close()
            self.name, self.shown = plan.folder.name, time.monotonic()
            if sys.stderr.isatty():
                from tqdm import tqdm

                start = len(plan.wanted) - len(plan.missing)
                self.bar = tqdm(
                    total=len(plan.wanted),
                    initial=start,
                    desc=plan.task.name,
                    unit="",
                    leave=False,
                    mininterval=0.2,
                )
        if self.bar is not None:
            self.bar.set_postfix(postfix, refresh=False)
            self.bar.update(done - self.bar.n)
        elif time.monotonic() - self.shown > QUIET_SECONDS:
            self.shown = time.monotonic()
            tail = f", score so far {postfix['score']}" if postfix else ""
            say(f"  {plan.task.name}: {done:,} of {len(plan.wanted):,}{tail}")

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def scores(plan: Plan, found: Sequence[Score]) -> None:
    """One line a finished task, and one for each metric that has no score."""
    if plan.task.not_scored:
        say(f"  {plan.task.name}: {why_not_scored(plan.task.not_scored)}")
    for metric, why in not_scored_of(plan.folder).items():
        say(f"  {plan.task.name}: {metric} {why_not_scored(why)}")
    if not found:
        return
    parts = [f"{s.metric} {value(s)}" for s in found]
    first = found[0]
    notes = [f"n {first.n:,}"]
    notes += [f"{first.invalid:,} unreadable"] if first.invalid else []
    notes += [f"{plan.unscored:,} not scored"] if plan.unscored else []
    notes += [first.coverage] if first.coverage != "all" else []
    say(f"  {plan.task.name}: {', '.join(parts)}  ({', '.join(notes)})")
    remarks = {what: n for s in found for what, n in s.remarks.items()}
    if remarks:
        say(f"    {remarked(remarks)}")
    if remarks.get(CUT, 0) > FEW * first.n:
        most = plan.task.decode.max_new_tokens
        say(f"    warning: answers are cut at {most} tokens; raise decode.max_new_tokens if they go on")


def failures(error: TasksFailed) -> None:
    """One line for each task or run that failed, and how many others are done."""
    for each in error.failures.values():
        sentences = each.sentences if isinstance(each, UserError) else [str(each)]
        say("\n".join(f"evalkit: {printing.one_line(said)}" for said in sentences))
    say(f"evalkit: {error.summary}")


def value(score: Score) -> str:
    """`92.4 [90.1, 94.3]`, in hundredths."""
    text = f"{100 * score.value:.1f}"
    return (
        text
        if score.low is None or score.high is None
        else f"{text} [{100 * score.low:.1f}, {100 * score.high:.1f}]"
    )
