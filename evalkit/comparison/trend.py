"""A training run's checkpoints as they appear: which are complete, the trend, the best, drops.

Works on folders and scored runs; does not evaluate checkpoints or print.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from evalkit import door, hints
from evalkit.comparison.alike import apart
from evalkit.comparison.compare import ALPHA, MARGIN, TaskResult, holm, task_result
from evalkit.errors import UserError
from evalkit.files import atomic_write, json_text
from evalkit.runs import scored_run
from evalkit.runs.scored_run import ScoredRun
from evalkit.runs.store import RunFolder
from evalkit.types import why_not_scored

PATTERN = "checkpoint-*"  # as the transformers trainer names them
SCHEMA = 1
HEADER = 100 << 20  # bytes of the longest header that safetensors writes
Stamp = tuple[tuple[str | int, ...], ...]
"""Name, bytes, times of content and of inode, and inode of every file of a checkpoint."""
Loss = tuple[str, float | None, float | None, float | None]
"""What became of a task (forgotten, kept, ..., or `not compared: WHY`), and the difference from the base with
its interval."""


# --- checkpoints on disk ----------------------------------------------------------------------------------


def checkpoints(folder: Path, pattern: str = PATTERN) -> list[tuple[int, Path]]:
    """(step, folder) of every checkpoint folder below, by step: the last number in its name.

    Raises UserError when the folder is not there.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder; give the output folder of the training run")
    found = []
    for path in folder.glob(pattern):
        numbers = re.findall(r"\d+", path.name)
        if path.is_dir() and numbers:
            found.append((int(numbers[-1]), path))
    return sorted(found)


def lacks(folder: Path) -> str:
    """What a checkpoint still lacks to be complete, or ''.

    A complete one has a config, and every safetensors file (of the index, where there is one) is as long
    as its own header says, which is not so while a trainer is still writing it.
    """
    try:
        adapter = (folder / "adapter_config.json").is_file()
        if not adapter and not (folder / "config.json").is_file():
            return "config.json"
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            named = set(json.loads(door.read(index, HEADER))["weight_map"].values())
            files = [folder / name for name in sorted(named)]
            single = folder / "model.safetensors"
            if single.is_file() and not any(file.is_file() for file in files):  # the index is an older save's
                files = [single]
        else:
            files = [folder / ("adapter_model.safetensors" if adapter else "model.safetensors")]
        for file in files:
            if not file.is_file():
                return str(file.name)
            if missing := _unfinished(file):
                return f"{missing} of {file.name}"
    except Exception:  # of a file that is half there JSON may be anything
        return "a readable index"
    return ""


def _unfinished(file: Path) -> str:
    """What a safetensors file lacks: it is as long as its header says, 8 bytes, the header, the tensors."""
    with door.opened(file) as opened:
        length = int.from_bytes(opened.read(8), "little")
        size = file.stat().st_size
        if not 2 <= length <= min(size - 8, HEADER):
            return "the end"
        text = opened.read(length)
    try:
        header = json.loads(text)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return "" if size == 8 + length + max(ends, default=0) else "the end"
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
        return "a readable header"


def stamp(folder: Path) -> Stamp:
    """The state of a checkpoint's files, which changes while it is written."""
    files = [(p.name, p.stat()) for p in sorted(folder.iterdir()) if p.is_file()]
    return tuple((name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for name, s in files)


def digest(model: Mapping[str, Any]) -> str:
    """sha256 of a model's identity without what is code: of its weights, their files, and the precision."""
    text = json.dumps(scored_run.weights(model), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


# --- what is known so far -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """One checkpoint's scores: "task metric" (as in the task file) to (value, low, high, n)."""

    step: int
    name: str
    runs: tuple[str, ...]  # run folders, below the output folder
    values: Mapping[str, tuple[float, float | None, float | None, int]]  # "task metric"
    mean: float  # over tasks, of the first metric, turned so that higher is better
    drops: tuple[str, ...] = ()  # sentences
    coverage: Mapping[str, str] = field(default_factory=dict)  # of the values that are not of all samples
    hooked: bool = False
    models: Mapping[str, str] = field(default_factory=dict)  # protocol to the model's digest under it
    seconds: float | None = None  # that predicting took, over all tasks; None where it is not known
    lost: Mapping[str, Loss] = field(default_factory=dict)  # by task, against the base of --forgetting

    @property
    def cost(self) -> str:
        """`12 s`, or '–'."""
        return "–" if self.seconds is None else f"{self.seconds:,.0f} s"


@dataclass
class Trend:
    """The checkpoints seen so far, kept in `watch.json` so that a restarted watch continues."""

    path: Path
    points: list[Point] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Trend:
        if not path.is_file():
            return cls(path)
        with door.guarded(path, "move it away to start over", UserError):
            return cls(path, [_known(p) for p in json.loads(door.read(path))["points"]])

    def save(self) -> None:
        self.points.sort(key=lambda p: p.step)
        content = {"schema": SCHEMA, "points": [asdict(p) for p in self.points]}
        atomic_write(self.path, json_text(content, indent=1) + "\n")

    def known(self, name: str) -> Point | None:
        """The point of a checkpoint's name. One of an older file gets its models' digests from its runs."""
        found = next((p for p in self.points if p.name == name), None)
        if found is None or found.models:
            return found
        runs = [RunFolder(self.path.parent / run).read_run() for run in found.runs]
        identities = [run["identity"] for run in runs if run]
        return replace(found, models={i["protocol"]: digest(i["model"]) for i in identities})

    @property
    def best(self) -> Point | None:
        """The checkpoint with the highest mean over tasks; of two equal ones, the earlier."""
        return max(self.points, key=lambda p: (p.mean, -p.step), default=None)

    def runs(self, point: Point) -> list[ScoredRun]:
        """The runs of a point that are still there."""
        folders = [RunFolder(self.path.parent / name) for name in point.runs]
        return scored_run.of_runs([f for f in folders if (f.path / "scores.json").is_file()])


def _known(point: Mapping[str, Any]) -> Point:
    """A point of `watch.json`. Raises ValueError and others where it is none."""
    values = {key: tuple(value) for key, value in point["values"].items()}
    lost = {task: tuple(loss) for task, loss in point.get("lost", {}).items()}
    plain = {**point, "runs": tuple(point["runs"]), "drops": tuple(point["drops"]), "values": values}
    plain["lost"] = lost
    if wrong := hints.misfit(Point, plain):
        raise ValueError(wrong)
    return Point(**plain)


def point(step: int, name: str, runs: Sequence[ScoredRun], drops: Sequence[str] = ()) -> Point:
    """A checkpoint's place in the trend. Raises UserError where no task has a score."""
    scores = {f"{r.task} {s.metric}": s for r in runs for s in r.scores.values()}
    values = {key: (s.value, s.low, s.high, s.n) for key, s in scores.items()}
    coverage = {key: s.coverage for key, s in scores.items() if s.coverage != "all"}
    firsts = [r.scores[r.first] for r in runs if r.scores]
    if not firsts:
        reasons = dict.fromkeys(
            f"{r.task} {m}: {why_not_scored(w)}" for r in runs for m, w in r.not_scored.items()
        )
        raise UserError("; ".join(reasons))
    turned = [1 - s.value if s.lower_is_better else s.value for s in firsts]
    mean = sum(turned) / len(turned)
    models = {r.identity["protocol"]: digest(r.identity["model"]) for r in runs}
    names = tuple(r.run for r in runs)
    took = [r.seconds for r in runs]
    seconds = None if None in took else float(sum(filter(None, took)))
    return Point(step, name, names, values, mean, tuple(drops), coverage, models=models, seconds=seconds)


def comparable(
    new: Sequence[ScoredRun], old: Mapping[str, ScoredRun], allow: Collection[str] = ()
) -> tuple[dict[str, ScoredRun], dict[str, str]]:
    """Those of `new` that can be compared with the `old` run of their task, by task; and why others can't."""
    reasons = {r.task: apart(old[r.task], r, allow) for r in new if r.task in old}
    found = {r.task: r for r in new if reasons.get(r.task) == ""}
    return found, {task: why for task, why in reasons.items() if why}


def drops(
    new: Sequence[ScoredRun], old: Sequence[ScoredRun], name: str, allow: Collection[str] = ()
) -> list[str]:
    """One sentence per task on which `new` is significantly worse than `old` (5 %, Holm over tasks)."""
    before = {r.task: r for r in old}
    results: list[TaskResult] = [
        task_result(before[r.task], r, allow, MARGIN) for r in new if r.task in before
    ]
    found = []
    for result, p in zip(results, holm(results), strict=True):
        d = result.first.found
        if p <= ALPHA and d.value < 0:
            found.append(
                f"{result.task}: {result.first.spelled} fell by {-100 * d.value:.1f} "
                f"[{-100 * d.high:.1f}, {-100 * d.low:.1f}] against {name}"
            )
    return found
