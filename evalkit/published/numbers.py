"""The published numbers: `results/published.csv`, and which of them a score is compared with.

Takes names, resolutions and scores; reads no run folders or task files.
"""

from __future__ import annotations

import csv
import difflib
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import UserError, nearest
from evalkit.published import facts
from evalkit.types import Score

ROUNDING = 0.0005  # papers print tenths of a point
AS_MANY = "as many samples as published; whether the same can't be checked"
_NAME = re.compile(r"(paligemma2?-(?:3|10|28)b)-(pt|mix|ft)(?![a-z0-9])(.*)")
_REST = re.compile(r"-(?:([a-z][a-z0-9-]*?)-)?(224|448|896)(?![0-9])")
_KINDS = {"ft": "transfer", "mix": "mix", "pt": "pt"}


@dataclass(frozen=True)
class Published:
    """One number of a paper, in our unit (0 to 1; CIDEr unscaled)."""

    task: str
    split: str
    metric: str  # as written in the task's YAML
    part: str  # a group or a detail of the score; "" is the score itself
    model: str
    kind: str  # transfer, mix, pt, or a variant that released checkpoints aren't
    resolution: int
    score: float
    stdev: float | None  # over five fine-tunes
    source: str
    differs: str = ""  # why no score of ours can be compared with it

    @property
    def mean_of_five(self) -> bool:
        return "mean of five" in self.source


@dataclass(frozen=True)
class Named:
    """What a checkpoint's name says: model, kind, what it was fine-tuned on, resolution."""

    model: str
    kind: str
    data: str = ""
    resolution: int | None = None

    @property
    def released(self) -> bool:
        """Whether it has the name of a released fine-tune."""
        return bool(self.data)


@dataclass(frozen=True)
class Beside:
    """A score and its published number; `why_not` says why the two aren't compared."""

    row: Published | None
    value: float | None = None
    why_not: str = ""
    note: str = ""  # what to know where they are compared

    @property
    def difference(self) -> float | None:
        return None if self.why_not or self.row is None or self.value is None else self.value - self.row.score

    @property
    def within(self) -> bool | None:
        """Within twice the run-to-run deviation plus rounding; None where no deviation is published."""
        if self.difference is None or self.row is None or self.row.stdev is None:
            return None
        return abs(self.difference) <= 2 * self.row.stdev + ROUNDING + 1e-9


# --- the file -------------------------------------------------------------------------------------------


def place() -> Path:
    return facts.folder() / "published.csv"


@functools.cache
def load() -> tuple[Published, ...]:
    """All rows; of several rows for one score the first is compared with (papers before READMEs)."""
    path = place()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(_row(line) for line in csv.DictReader(file))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; it is part of evalkit: install evalkit again") from None
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: is damaged ({error}); it is part of evalkit: install evalkit again"
        ) from None


def _row(line: Mapping[str, Any]) -> Published:
    numbers = {
        "resolution": int(line["resolution"]),
        "score": float(line["score"]),
        "stdev": float(line["stdev"]) if line["stdev"] else None,
    }
    return Published(**{**line, **numbers})


def for_task(task: str) -> list[Published]:
    return [row for row in load() if row.task == task]


def models() -> list[str]:
    return sorted({row.model for row in load()})


def search(what: str) -> list[Published]:
    """The rows of a task, a model, or all tasks whose names begin with `what`. Raises UserError for none."""
    found = [r for r in load() if what in (r.task, r.model)]
    if not found and (named := name(what)) is not None:
        found = [
            r for r in load()
            if (r.model, r.kind) == (named.model, named.kind)
            and named.resolution in (None, r.resolution) and _fits(named, r.task)
        ]  # fmt: skip
    found = found or [r for r in load() if r.task.startswith(what)]
    if not found:
        near = nearest(what, {*models(), *(r.task for r in load())})
        if "did you mean" not in near:
            near = f"; models: {', '.join(models())}; tasks: `evalkit published`"
        raise UserError(f"published {what}: nothing is published for it{near}")
    return found


# --- which row belongs to a score -------------------------------------------------------------------------


def name(checkpoint: str) -> Named | None:
    """What a folder's or hub name says about a checkpoint; None unless it is like those of released ones."""
    found = _NAME.search(checkpoint.lower())
    if found is None:
        return None
    rest = _REST.match(found[3])
    data = rest[1] if rest and rest[1] and found[2] == "ft" else ""
    return Named(found[1], _KINDS[found[2]], data.replace("-", ""), int(rest[2]) if rest else None)


def given(text: str) -> Named:
    """The value of `--published-model`: a model of the file (its transfers), or a checkpoint's full name.

    Raises UserError for a name that nothing is published for.
    """
    if text in models():
        return Named(text, "transfer")
    named = name(text)
    if named is None or named.model not in models():
        raise UserError(
            f"--published-model {text}: nothing is published for it; there are: {', '.join(models())}"
        )
    return named


def _fits(named: Named, task: str) -> bool:
    """Whether a fine-tune on `named.data` is the one that the papers use for the task."""
    answering = facts.fine_tune(task) or re.sub(r"[^a-z0-9]", "", task.lower())
    return answering.startswith(named.data)


def match(task: str, named: Named, resolution: int | None, metric: str, part: str = "") -> list[Published]:
    """The rows for a checkpoint's score; the first is the one to compare with."""
    return [
        row for row in for_task(task)
        if (row.metric, row.part, row.model, row.kind) == (metric, part, named.model, named.kind)
        and row.resolution == (resolution or named.resolution) and _fits(named, task)
    ]  # fmt: skip


def beside(
    score: Score,
    named: Named | None,
    resolution: int | None,
    task_file: Mapping[str, Any],
    changed: Sequence[str] = (),
    part: str = "",
) -> Beside:
    """The published number for one score (or one group or detail of it), and whether they may be compared."""
    if named is None:
        if not for_task(score.task):
            return Beside(None, why_not=_unpublished(score.task))
        why = "the checkpoint is not named as a published one; --published-model says which it is"
        return Beside(None, why_not=why)
    rows = match(score.task, named, resolution, score.metric, part)
    if not rows:
        return Beside(None, why_not=_nothing(score.task, named, resolution, score.metric, part))
    row, data = rows[0], task_file.get("data", {})
    value = score.value if not part else _part(score, part)
    own_tuned = named.released and bool(facts.reported_on(score.task))
    split, count, theirs = (data.get(key) for key in ("split", "count", "published_count"))
    reasons = (
        (bool(row.differs), row.differs),
        (split is not None and split != row.split, f"published on {row.split}, this is {split}"),
        (own_tuned, "the released fine-tune was trained on this split too"),
        (score.coverage != "all", f"coverage is {score.coverage}, not all"),
        (bool(theirs) and score.n != theirs, f"{score.n:,} samples, published on {theirs or 0:,}"),
        (not theirs and bool(count) and score.n != count, f"{score.n:,} samples, officially {count or 0:,}"),
        (bool(changed), f"changed on the command line: {', '.join(changed)}"),
        (task_file.get("prompt_source") == "unpublished", "the prompt was never published"),
        (value is None, f"this run has no {part}"),
    )
    note = AS_MANY if theirs else ""
    return Beside(row, value, next((why for holds, why in reasons if holds), ""), note)


def _nothing(task: str, named: Named, resolution: int | None, metric: str, part: str) -> str:
    """Why there is no row: the first of task, metric, checkpoint, fine-tune and resolution without one."""
    rows = for_task(task)
    if not rows:
        return _unpublished(task)
    of_metric = [r for r in rows if (r.metric, r.part) == (metric, part)]
    if not of_metric:
        return f"not published; what is: {', '.join(dict.fromkeys(r.metric for r in rows))}"
    mine = [r for r in of_metric if (r.model, r.kind) == (named.model, named.kind)]
    if not mine:
        return f"nothing published for {named.model} {named.kind}"
    if not _fits(named, task):
        return f"fine-tuned on {named.data}; the papers use another fine-tune for this task"
    sizes = ", ".join(str(size) for size in sorted({r.resolution for r in mine}))
    return f"published at {sizes} px, this is {resolution or named.resolution or 'at an unknown size'}"


def _unpublished(task: str) -> str:
    """That a task has no number, and up to two tasks of the same dataset that have."""
    dataset = task.split("_")[0]
    others = {row.task for row in load() if row.task.split("_")[0] == dataset}
    near = difflib.get_close_matches(task, sorted(others), 2, 0)
    return "nothing is published for this task" + (f"; there is for {' and '.join(near)}" if near else "")


def _part(score: Score, part: str) -> float | None:
    if part in score.groups:
        return score.groups[part]["value"]
    return score.details.get(part)
