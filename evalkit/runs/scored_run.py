"""Scored runs as comparisons use them: read from a run folder or a small baseline file, also at a git ref.

Compares nothing.
"""

from __future__ import annotations

import datetime
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from evalkit import collecting, door, hints, own_code, registry
from evalkit.errors import UserError
from evalkit.runs import baseline_file
from evalkit.runs.columns import Columns, as_read
from evalkit.runs.copies import originals
from evalkit.runs.store import OLD, RunFolder, find, results_of
from evalkit.stats import intervals
from evalkit.stats.intervals import Ints
from evalkit.types import Metric, Rows, Score


@dataclass(frozen=True, repr=False)
class ScoredRun:
    """One task answered by one model and scored. Samples are sorted by id; columns have one value for each.

    `rows` and `scores` have the metrics' full spellings as keys; samples of one cluster are resampled
    together.
    """

    name: str  # the model, for people
    run: str  # the run folder's name
    task: str
    identity: Mapping[str, Any]
    digest: str
    asked: Mapping[str, Any]
    overrides: Mapping[str, str]
    early: Mapping[str, Any] | None  # the decision of a sequential run that stopped early
    scores: Mapping[str, Score]
    ids: tuple[str, ...]
    images: tuple[str, ...]  # digests of the image bytes that were read
    clusters: tuple[str, ...]
    groups: tuple[str, ...]
    texts: tuple[str, ...]
    invalid: tuple[bool, ...]
    rows: Mapping[str, Rows]
    device: str = ""
    seconds: float | None = None  # spent predicting, where every session ended normally
    not_scored: Mapping[str, str] = field(default_factory=dict)  # by metric as in the task file: why
    metrics: tuple[str, ...] = ()  # as in the task file, in its order, scored or not
    libraries: Mapping[str, str] = field(default_factory=dict)  # to versions, where the run recorded them
    folder: RunFolder | None = None  # of a run; a baseline's file has none

    def __repr__(self) -> str:
        return f"<ScoredRun {self.run}, {len(self.ids):,} samples>"

    def signature(self, metric: str) -> dict[str, str]:
        return parts(self.scores[metric].signature)

    @property
    def first(self) -> str:
        """The first metric that has a score."""
        return next(iter(self.scores))

    @property
    def spelled(self) -> dict[str, str]:
        """The task's metrics in its order, as in the task file: the full spelling, or '' without a score."""
        full = {score.metric: spelling for spelling, score in self.scores.items()}
        known = {**full, **dict.fromkeys(self.not_scored, "")}
        return {name: known[name] for name in (*self.metrics, *known) if name in known}

    @cached_property
    def index(self) -> Ints:
        """The samples' clusters as numbers."""
        return intervals.cluster_index(self.clusters)

    @property
    def weights(self) -> Any:
        """What must be equal for "the same weights": everything read from files, and the precision."""
        return weights(self.identity.get("model", {}))

    def lines(self, ids: Collection[str]) -> dict[str, dict[str, Any]]:
        """What rows.jsonl holds of some samples, by id; of a baseline their texts alone."""
        if self.folder is not None:
            return {line["id"]: line for line in self.folder.each_row() if line["id"] in ids}
        return {i: {"text": text} for i, text in zip(self.ids, self.texts, strict=True) if i in ids}

    def versions(self) -> dict[str, str]:
        """Of everything that text and rows were computed with; {} where it was not recorded."""
        tools = (parts(score.signature).get("tools", "") for score in self.scores.values())
        named = dict(tool.rpartition(" ")[::2] for each in tools for tool in each.split(", ") if " " in tool)
        return {**named, **self.libraries} if self.libraries else {}

    def only(self, ids: Iterable[str]) -> ScoredRun:
        """The same run with only these samples; rows stay as they are (so a corpus idf stays that of all)."""
        wanted = set(ids)
        kept = [i for i, name in enumerate(self.ids) if name in wanted]
        if len(kept) == len(self.ids):
            return self

        def some(column: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(column[i] for i in kept)

        rows: dict[str, Rows] = {
            m: [r[i] for i in kept] if isinstance(r, list) else r[kept] for m, r in self.rows.items()
        }
        return replace(
            self, ids=some(self.ids), images=some(self.images), clusters=some(self.clusters),
            groups=some(self.groups), texts=some(self.texts), invalid=some(self.invalid), rows=rows,
        )  # fmt: skip


def weights(model: Mapping[str, Any]) -> dict[str, Any]:
    """A model's identity without what is code."""
    return {key: value for key, value in model.items() if key not in ("backend", "text_version", "engine")}


def metric(spelling: str) -> Metric:
    found: Metric = registry.make("metrics", spelling)
    return found


def parts(signature: str) -> dict[str, str]:
    """A signature's `key:value|key:value` as a dict."""
    return dict(p.split(":", 1) for p in signature.split("|") if ":" in p)


def comparable(a: str, b: str) -> tuple[str, str]:
    """Two signatures, without the mask decoder where one of them is older and does not say which it was."""
    if not any("#mask decoder" in signature for signature in (a, b)):
        return a, b
    without = [re.sub(r"(\|parser:masks\([^|]*\))#[^|]*", r"\1", signature) for signature in (a, b)]
    return without[0], without[1]


# --- reading --------------------------------------------------------------------------------------------


def read(place: str | Path) -> list[ScoredRun]:
    """The scored runs of a run folder, a folder of runs, a baseline file, or `FILE@REF` in git.

    Raises UserError when there is none, or one is not scored yet.
    """
    path = Path(place)
    if os.path.isdir(path) or path.name == "run.json":
        return of_runs(_folders(path))
    if os.path.isfile(path):
        with door.guarded(place, kind=UserError):
            data = door.read(path)
        return baseline_file.read(data, str(place), _unpacked)
    if "@" in str(place):
        return baseline_file.read(baseline_file.at_ref(str(place)), str(place), _unpacked)
    raise UserError(f"{place}: no such run or baseline; give a run folder, a baseline file, or FILE@GIT_REF")


def _folders(path: Path) -> list[RunFolder]:
    if not (found := find([path])):
        raise UserError(f"{path}: holds no runs; give a run folder or a folder of runs")
    return found


@dataclass(frozen=True, slots=True)
class Head:
    """What run.json alone says of a scored run."""

    name: str
    run: str
    task: str
    identity: Mapping[str, Any]
    digest: str
    overrides: Mapping[str, str]


def heads(place: str | Path) -> Sequence[Head | ScoredRun]:
    """The runs that `read` would give, as far as they are known before rows are read; copies may be less
    than all left out: of runs with one digest only one is here."""
    path = Path(place)
    if not os.path.isdir(path) and path.name != "run.json":
        return read(place)
    runs = [(f, run) for f in _folders(path) if (run := f.read_run()) is not None]
    scored = [(f, run) for f, run in runs if not _unscored(run)] or runs
    kept = originals([(f.path, run["digest"], None) for f, run in scored], say=False)
    return [
        Head(run["model"], f.name, run["task"], _identity(run), run["digest"], _overrides(run))
        for f, run in (scored[i] for i in kept)
    ]


def _overrides(run: Mapping[str, Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = run.get("task_file", {}).get("overrides", {})
    return found


def of_runs(folders: Sequence[RunFolder]) -> list[ScoredRun]:
    """The runs that can be compared: those of tasks without a score are left out, unless all are. So are
    copies of a run, with a warning."""
    chosen = [f for f in folders if not _unscored(f.read_run())] or list(folders)
    found = [of_run(f) for f in chosen]
    content = [(run.name, run.ids, run.texts, run.scores) for run in found]
    kept = originals([(f.path, r.digest, c) for f, r, c in zip(chosen, found, content, strict=True)])
    return [found[i] for i in kept]


def _unscored(run: Mapping[str, Any] | None) -> str:
    """Why the run's task has no score, or ''."""
    return str((run or {}).get("task_file", {}).get("not_scored", ""))


def of_run(folder: RunFolder) -> ScoredRun:
    """A run folder's files. Raises UserError when it is not scored or its rows are damaged."""
    run = folder.read_run()
    if run is None:
        raise UserError(f"{folder.path}: holds no run.json; give a run folder")
    results = results_of(folder, run)
    scores = results.scores
    if why := _unscored(run):
        raise UserError(f"{folder.path}: has no score that could be compared: {why}")
    if not scores and not results.not_scored:
        raise UserError(f"{folder.path}: is not scored yet; `evalkit score {folder.path}` does it")
    own_code.look_beside(run.get("task_file", {}).get("path", ""))
    try:
        spelled = {s.metric: parts(s.signature)["metric"] for s in scores}
        columns = Columns(spelled)
        with collecting.paused():
            for line in folder.each_row():
                columns.add(line)
        return ScoredRun(
            name=run["model"], run=folder.name, task=run["task"], identity=_identity(run),
            digest=run["digest"], asked=run["asked"], overrides=_overrides(run),
            early=run.get("early"), scores={spelled[s.metric]: s for s in scores},
            **columns.done(),
            device=str(run["sessions"][-1].get("device", "")) if run.get("sessions") else "",
            seconds=spent(run.get("sessions", [])), folder=folder,
            libraries=run["sessions"][-1].get("libraries", {}) if run.get("sessions") else {},
            not_scored=results.not_scored, metrics=tuple(run.get("task_file", {}).get("metrics", ())),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder.path}: rows.jsonl: does not fit scores.json ({error}); "
            f"`evalkit score {folder.path}` writes both again"
        ) from None


def _identity(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """The run's identity, with the files that a model of the user's own has read as part of the model: their
    names and digests, wherever they are."""
    identity: Mapping[str, Any] = run["identity"]
    if "used" not in run:
        return identity
    used: dict[str, str] = {}
    for path, digest in sorted(run["used"].items()):
        name = Path(path).name
        used[name] = "+".join(filter(None, (used.get(name), digest)))
    return {**identity, "model": {**identity["model"], "used": used}}


def spent(sessions: Sequence[Mapping[str, Any]]) -> float | None:
    """Time spent predicting; None when a session was killed, so that its length is not known."""
    total = 0.0
    for session in sessions:
        if not session.get("ended"):
            return None
        if "seconds" in session:
            total += session["seconds"]
            continue
        start, end = (datetime.datetime.fromisoformat(session[k]) for k in ("started", "ended"))
        total += (end - start).total_seconds()
    return total


# --- the small file -------------------------------------------------------------------------------------


def save(runs: Sequence[ScoredRun], path: Path) -> None:
    """Writes ids, texts, rows, identity and signatures; compressed when the name ends in .gz."""
    baseline_file.write([_packed(run) for run in runs], path)


def _packed(run: ScoredRun) -> dict[str, Any]:
    """One run as JSON; images, clusters and groups are stored as indices into lists of names."""
    import dataclasses

    def indexed(column: Sequence[str]) -> dict[str, Any]:
        names = {name: i for i, name in enumerate(dict.fromkeys(column))}
        return {"names": list(names), "at": [names[c] for c in column]}

    plain = {k: getattr(run, k) for k in ("name", "run", "task", "identity", "digest", "asked", "overrides",
                                          "early", "device", "seconds", "not_scored", "metrics",
                                          "libraries")}  # fmt: skip
    return {
        **plain,
        "scores": {m: dataclasses.asdict(s) for m, s in run.scores.items()},
        "ids": run.ids,
        "images": indexed(run.images),
        "clusters": None if run.clusters == run.images else indexed(run.clusters),
        "groups": indexed(run.groups),
        "texts": run.texts,
        "invalid": [i for i, bad in enumerate(run.invalid) if bad],
        "rows": {m: r if isinstance(r, list) else _short(r) for m, r in run.rows.items()},
    }


def _short(rows: Any) -> list[list[float]]:
    return [[int(v) if v == int(v) else v for v in row] for row in rows.tolist()]


def _unpacked(run: Mapping[str, Any]) -> ScoredRun:
    ids = tuple(run["ids"])
    bad = set(run["invalid"])
    named: Callable[[str], tuple[str, ...]] = lambda key: tuple(  # noqa: E731
        run[key]["names"][i] for i in run[key]["at"]
    )
    columns: dict[str, Any] = {
        "ids": ids,
        "images": named("images"),
        "clusters": named("clusters" if run["clusters"] else "images"),
        "groups": named("groups"),
        "texts": tuple(run["texts"]),
        "invalid": tuple(i in bad for i in range(len(ids))),
    }
    rows = {m: as_read(values) for m, values in run["rows"].items()}
    lengths = {len(c) for c in columns.values()} | {len(r) for r in rows.values()}
    if len(lengths) != 1:
        raise ValueError("columns of different lengths")
    plain = {k: run[k] for k in ("name", "run", "task", "identity", "digest", "asked", "overrides",
                                 "early", "device", "seconds")}  # fmt: skip
    plain["libraries"] = run.get("libraries", {})  # older files have none
    known = {m: s for m, s in run["scores"].items() if s["value"] is not None and math.isfinite(s["value"])}
    old = {s["metric"]: OLD for m, s in run["scores"].items() if m not in known}
    scores = {m: Score(**_sound(Score, s)) for m, s in known.items()}
    if scores.keys() - rows.keys():
        raise ValueError("scores: without rows")
    for metric in scores:
        _try(metric, rows[metric])
    for key in ("model", "preparation", "task"):
        if not isinstance(run["identity"][key], dict):
            raise ValueError(f"identity.{key}: is no object")
    if not isinstance(run["identity"]["task"].get("decode", {}), dict):
        raise ValueError("identity.task.decode: is no object")
    plain["not_scored"] = {**run.get("not_scored", {}), **old}
    plain["metrics"] = tuple(run.get("metrics", ()))
    return ScoredRun(**_sound(ScoredRun, {**plain, **columns}), rows=rows, scores=scores)


def _try(metric: str, rows: Rows) -> None:
    """Raises ValueError for rows of objects (AP's, F1's) that their own metric cannot read; own code is not
    run."""
    if not isinstance(rows, list) or metric.startswith(registry.OWN):
        return
    try:
        registry.make("metrics", metric).reduce(rows)
    except UserError:  # a metric that this version has not
        return
    except Exception as error:  # damaged rows raise many kinds
        raise ValueError(f"rows of {metric.partition('(')[0]}: {type(error).__name__}") from None


def _sound(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """The values, if they are what a class's fields hold. Raises ValueError."""
    if wrong := hints.misfit(cls, values):
        raise ValueError(wrong)
    return values
