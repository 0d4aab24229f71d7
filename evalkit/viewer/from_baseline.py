"""A baseline's file as run folders, for as long as a report is made.

It keeps answers and rows of numbers; what a sample asks, its target and its picture are read from a run of
the same task beside it."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from evalkit import conventions, registry
from evalkit.errors import UserError
from evalkit.evaluation import sample_lines
from evalkit.metrics.group_mean import GroupMean
from evalkit.runs import scored_run, store
from evalkit.runs.scored_run import ScoredRun
from evalkit.runs.store import RunFolder
from evalkit.types import Parser, Prediction, Rows, Size
from evalkit.viewer.shapes import size_of

NAMED = "{} (baseline)"  # the candidate is often called as the baseline was
TOGETHER = 256  # answers that a parser reads at once


@contextlib.contextmanager
def opened(places: Sequence[Path], roots: Sequence[Path] = ()) -> Iterator[list[Path]]:
    """The places, with a folder of runs in place of each baseline's file (also `FILE@GIT_REF`); `roots` may
    have the mask decoder, if the data's own root has not.

    Raises UserError where no other place has a run of a baseline's tasks."""
    if not any(map(is_file, places)):
        yield list(places)
        return
    beside = _beside([place for place in places if not is_file(place)])
    with tempfile.TemporaryDirectory(prefix="evalkit-baseline-") as folder:
        found = []
        for number, place in enumerate(places):
            if is_file(place):
                place = _unfolded(place, beside, Path(folder) / str(number), roots)
            found.append(place)
        yield found


def is_file(place: str | Path) -> bool:
    """Whether a place is a file, on disk or in git, and no folder of runs."""
    there = os.path.exists(place)
    return (os.path.isfile(place) and Path(place).name != "run.json") or (not there and "@" in str(place))


def _beside(places: Sequence[Path]) -> dict[str, RunFolder]:
    """The first scored run of each task."""
    found: dict[str, RunFolder] = {}
    for folder in store.find(places):
        run = folder.read_run()
        if run is not None and store.scores_of(folder, run):
            found.setdefault(run["task"], folder)
    return found


def _unfolded(place: Path, beside: Mapping[str, RunFolder], folder: Path, roots: Sequence[Path]) -> Path:
    runs = scored_run.read(place)
    known = [run for run in runs if run.task in beside]
    if not known:
        raise UserError(
            f"{place}: a baseline's file has no targets and no pictures; name beside it a run of "
            f"{', '.join(run.task for run in runs[:6])}"
        )
    for run in runs:
        if run.task not in beside:
            warnings.warn(f"{place}: {run.task}: left out; no run beside it has its samples", stacklevel=4)
    for number, run in enumerate(known):
        _write(run, beside[run.task], RunFolder(folder / str(number) / run.run), roots)
    return folder


def _write(run: ScoredRun, beside: RunFolder, folder: RunFolder, roots: Sequence[Path]) -> None:
    """One run's folder: without journal, since a baseline keeps neither tokens nor margins."""
    other = beside.read_run()
    assert other is not None  # it was read a moment ago
    session: dict[str, Any] = {"device": run.device, "libraries": dict(run.libraries)}
    if run.seconds is not None:
        session |= {"seconds": run.seconds, "ended": True}
    folder.path.mkdir(parents=True)
    folder.write_run(
        {
            "name": run.run, "task": run.task, "model": NAMED.format(run.name), "digest": run.digest,
            "identity": run.identity, "asked": run.asked, "early": run.early, "sessions": [session],
            "task_file": {**other["task_file"], "overrides": run.overrides}, "source": other["source"],
        }
    )  # fmt: skip
    lines = _lines(run, beside, other, _parser(run, other, roots))
    folder.write_scored(run.digest, lines, list(run.scores.values()), "", run.not_scored)


def _lines(
    run: ScoredRun, beside: RunFolder, other: Mapping[str, Any], parser: Parser
) -> Iterator[dict[str, Any]]:
    """The samples that both have, as rows.jsonl has them."""
    sizes = {e.prediction.id: e.prediction.sizes[0] for e in beside.each_answer(other) if e.prediction.sizes}
    places = {name: at for at, name in enumerate(run.ids)}
    rows = {run.scores[m].metric: _narrow(m, r) for m, r in run.rows.items() if m in run.scores}
    shared = (line for line in beside.each_row() if line["id"] in places)
    while some := list(islice(shared, TOGETHER)):
        each = [(line, places[line["id"]]) for line in some]
        asked = [Prediction(line["id"], line.get("prompt", ""), run.texts[at]) for line, at in each]
        stated = [_size(line) or sizes.get(line["id"]) for line in some]
        answers = parser.answers(asked, stated)
        for (line, at), answer, size in zip(each, answers, stated, strict=True):
            own = {metric: _plain(column[at]) for metric, column in rows.items()}
            yield _line(line, run, at, own) | sample_lines.answered(answer, size)


def _line(line: Mapping[str, Any], run: ScoredRun, at: int, rows: Mapping[str, Any]) -> dict[str, Any]:
    """Another run's line of a sample, with what the baseline knows of it."""
    image, cluster = run.images[at], run.clusters[at]
    asked = {k: v for k, v in line.items() if k not in ("cluster", "invalid", "probability", "boxes")}
    return {
        **asked, "image": image, "group": run.groups[at], "text": run.texts[at], "invalid": run.invalid[at],
        "rows": rows, **({"cluster": cluster} if cluster != image else {}),
    }  # fmt: skip


def _size(line: Mapping[str, Any]) -> Size | None:
    target = line.get("target")
    return size_of(target.get("size")) if isinstance(target, Mapping) else None


def _parser(run: ScoredRun, other: Mapping[str, Any], roots: Sequence[Path]) -> Parser:
    """The task's parser, as the baseline's checkpoint was trained. Raises UserError where its mask decoder is
    not found, or its code may not run."""
    folders = [*roots, Path(str(other["source"]["root"]))]
    found: Parser = registry.make("parsers", str(other["task_file"].get("parser", "text")))
    trained = run.identity["model"].get("conventions") or {}
    return conventions.parser(found.within(folders), trained.get("bins"))


def _narrow(metric: str, rows: Rows) -> Rows:
    """Rows as rows.jsonl has them: of a mean over groups those of the metric within."""
    judge = scored_run.metric(metric)
    return judge.narrow(rows) if isinstance(judge, GroupMean) else rows


def _plain(row: Any) -> Any:
    return row.tolist() if hasattr(row, "tolist") else row
