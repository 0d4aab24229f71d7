"""Tasks × checkpoints: values with intervals, the best in bold, partial runs stamped.

Knows scores and runs as they lie in results folders; computes no score itself.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.report.columns import HALF, interval
from evalkit.runs import scored_run
from evalkit.runs.copies import originals
from evalkit.runs.naming import Named, adapter, labels
from evalkit.runs.store import RunFolder, results_of
from evalkit.stats import paired
from evalkit.stats.intervals import FEW
from evalkit.tasks.loader import CONFIDENCE
from evalkit.types import CUT, SUBMISSION, UNREADABLE, Score, remarked, why_not_scored

STAMPS = {
    "limited": ("†", "a part of the samples, on purpose (--limit or --ids)"),
    "early": ("‡", "decided early: a sequential test stopped it (--until-decided); not a score of the task"),
    "incomplete": (
        "!",
        "incomplete: samples are missing, from the disk or from the run; what is there is no random part",
    ),
    "as published": ("§", "as many samples as the papers' own copy has, not the official number"),
    "changed": ("~", "prompt or settings of the task changed on the command line"),
    "sampled": ("≈", "text drawn at a temperature, not greedy; the seed is in the run's identity"),
    "quantised": ("q", "weights quantised (--quantize, or saved so)"),
    "as trained": ("c", "by the checkpoint's own conventions (evalkit.yaml); `evalkit explain` lists them"),
    "unidentified": ("?", "unidentified: the model's class doesn't say what it is, so never gone on with"),
}
WHOLE = "–"  # in place of the metric where a task has none
_LISTED = 6  # names in a line below the table


@dataclass(frozen=True)
class Cell:
    """One score with the run it comes from."""

    score: Score
    run: str
    model: str
    changed: tuple[str, ...]  # `--set` and `--prompt` overrides
    ways: tuple[str, ...] = ()  # sampled, quantised, as trained, unidentified
    resolution: int | None = None  # pixels
    folder: Path | None = None
    task_file: Mapping[str, Any] = field(default_factory=dict)  # of run.json
    not_scored: str = ""  # why there is no value
    runs: int = 0  # a mean over so many runs (`--mean-over seed`), 0 where it is a run's own score
    stdev: float | None = None  # over these runs
    adapter: str = ""  # how it was run: "as trained (... base, unmerged)" or "merged into float"
    doubts: tuple[str, ...] = ()  # what makes the number doubtful: training images in the test split

    @property
    def stamped(self) -> tuple[str, ...]:
        """The names of its stamps, in the order of STAMPS."""
        names = {self.score.coverage, *self.ways} | ({"changed"} if self.changed else set())
        if self.score.coverage == "all" and self.score.n == self.task_file.get("data", {}).get(
            "published_count"
        ):
            names.add("as published")
        return tuple(name for name in STAMPS if name in names)

    @property
    def stamps(self) -> str:
        return "".join(STAMPS[name][0] for name in self.stamped)

    def text(self) -> str:
        """`92.4 ±1.6†`, or `5.1 [0.2, 31.2]†`, in hundredths."""
        score = self.score
        if self.not_scored:
            return SUBMISSION if self.not_scored.startswith(SUBMISSION) else "not scored"
        if self.runs:
            over = "" if self.stdev is None else f" ±{100 * self.stdev:.1f}"
            return f"{100 * score.value:.1f}{over} ({_counted(self.runs)}){self.stamps}"
        return f"{100 * score.value:.1f}{interval(score.value, score.low, score.high)}{self.stamps}"


def _counted(runs: int) -> str:
    return f"{runs} run" + ("s" if runs > 1 else "")


def collect(folders: Iterable[RunFolder]) -> list[Cell]:
    """The cells of all scored runs; models are called as `naming.labels` distinguishes them. Copies of a run
    are left out, with a warning."""
    runs = []
    for folder in folders:
        run = folder.read_run()
        if run is not None:
            runs.append((folder, run, Named.of_run(run, folder.path), results_of(folder, run)))
    kept = originals([(f.path, run["digest"], (run["model"], found.scores)) for f, run, _, found in runs])
    runs = [runs[i] for i in kept]
    models = labels([name for _, _, name, _ in runs])
    cells = []
    for (folder, run, name, found), model in zip(runs, models, strict=True):
        scores, resolution, file = found.scores, name.resolution, run.get("task_file", {})
        changed = tuple(key for key in file.get("overrides", {}) if key != CONFIDENCE)
        known = (folder.name, model, changed, _ways(run), resolution, folder.path, file)
        doubts, beside = tuple(run.get("data", {}).get("doubts", ())), adapter(run)
        cells += [Cell(score, *known, doubts=doubts, adapter=beside) for score in scores]
        unscored = {WHOLE: file["not_scored"]} if file.get("not_scored") else found.not_scored
        for metric, why in unscored.items():
            n = scores[0].n if scores else len(folder.entries())
            empty = Score(run["task"], metric, "", math.nan, None, None, n, n, "all", 0)
            cells.append(Cell(empty, *known, not_scored=why, adapter=beside))
    return cells


def _ways(run: dict[str, Any]) -> tuple[str, ...]:
    """What of a run's identity the table marks."""
    identity = run.get("identity", {})
    model, decode = identity.get("model", {}), identity.get("task", {}).get("decode", {})
    said = {
        "sampled": decode.get("temperature"),
        "quantised": model.get("quantisation"),
        "as trained": model.get("conventions"),
        "unidentified": model.get("unidentified") or "" in run.get("used", {}).values(),
    }
    return tuple(name for name, value in said.items() if value)


def record(cell: Cell) -> dict[str, Any]:
    s = cell.score
    mean = {"runs": cell.runs, "stdev": cell.stdev} if cell.runs else {}
    return {
        "task": s.task,
        "metric": s.metric,
        "model": cell.model,
        "value": None if cell.not_scored else s.value,
        "low": s.low,
        "high": s.high,
        "resolution": cell.resolution,
        "n": s.n,
        "clusters": s.clusters,
        "coverage": s.coverage,
        "invalid": s.invalid,
        "cut": s.remarks.get(CUT, 0),
        "remarks": remarked(s.remarks),
        "changed": ";".join(cell.changed),
        "stamps": ";".join(cell.stamped),
        "adapter": cell.adapter,
        "run": cell.run,
        "signature": s.signature,
    } | mean


# --- tasks × models ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """Rows are (task, metric), columns models by resolution; `best` holds the best and what ties with it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]
    cells: Mapping[tuple[int, int], Cell]  # by (row, column)
    best: frozenset[tuple[int, int]]


def grid(cells: Sequence[Cell], pair: bool = False) -> Grid:
    """Cells put in order: models by name and resolution, tasks as they came, metrics as their task has them.

    With `pair` ties are found by paired differences on the samples, else by the two intervals alone.
    """
    keys = sorted({(c.model, c.resolution or 0) for c in cells}, key=lambda k: (_natural(k[0]), k))
    counts = Counter(model for model, _ in keys)
    several = {model for model, count in counts.items() if count > 1}
    names = tuple(f"{m} {r} px" if m in several else m for m, r in keys)
    column = {key: i for i, key in enumerate(keys)}
    by_task: dict[str, dict[str, None]] = {}
    for cell in cells:
        by_task.setdefault(cell.score.task, {})[cell.score.metric] = None
    rows = tuple((task, metric) for task, metrics in by_task.items() for metric in metrics)
    place = {row: i for i, row in enumerate(rows)}
    found = {(place[c.score.task, c.score.metric], column[c.model, c.resolution or 0]): c for c in cells}
    in_row: dict[int, dict[tuple[int, int], Cell]] = {}
    for at, cell in found.items():
        in_row.setdefault(at[0], {})[at] = cell
    best = {at for row in in_row.values() for at in _best(row, pair)}
    return Grid(names, rows, found, frozenset(best))


def _natural(name: str) -> list[tuple[int, str]]:
    """What sorts 3b before 10b."""
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in re.split(r"(\d+)", name) if p]


def _best(row: Mapping[tuple[int, int], Cell], pair: bool) -> set[tuple[int, int]]:
    """The best value and those not significantly below it, among the models that were scored on the same
    samples, the most of them, where these are at least two. Runs that a sequential test stopped take no
    part, nor do means over runs."""
    alike: dict[tuple[int, str, str], dict[tuple[int, int], Cell]] = {}
    for at, c in row.items():
        if c.score.coverage != "early" and not c.not_scored and not c.runs:
            alike.setdefault((c.score.n, c.score.coverage, _targets(c.score)), {})[at] = c
    some = max(alike.items(), key=lambda item: (item[0][0], len(item[1])), default=(None, {}))[1]
    if len(some) < 2:
        return set()
    sign = -1 if next(iter(some.values())).score.lower_is_better else 1
    top = max(some.values(), key=lambda c: sign * c.score.value)
    return {at for at, c in some.items() if c is top or (_paired_tie(top, c) if pair else _tie(top, c))}


def _tie(top: Cell, other: Cell) -> bool:
    """Whether the difference is within 1.96 of its standard error, taking the two as independent; also where
    one has no interval, so that nothing is known of it."""
    if top.score.value == other.score.value:
        return True
    errors = [
        (c.score.high - c.score.low) / 3.92
        for c in (top, other)
        if c.score.high is not None and c.score.low is not None
    ]
    return len(errors) < 2 or abs(top.score.value - other.score.value) <= 1.96 * math.hypot(*errors)


def _paired_tie(top: Cell, other: Cell) -> bool:
    """Whether the paired 95 % interval holds 0; by the two intervals where samples are not the same."""
    if top.folder is None or other.folder is None:
        return _tie(top, other)
    a, b = _answered(top.folder), _answered(other.folder)
    name = scored_run.parts(top.score.signature)["metric"]
    if a.ids != b.ids or name not in b.rows:
        return _tie(top, other)
    found = paired.difference(scored_run.metric(name), a.rows[name], b.rows[name], a.index)
    return not (found.low > 0 or found.high < 0)


@functools.lru_cache(maxsize=64)
def _answered(folder: Path) -> scored_run.ScoredRun:
    return scored_run.of_run(RunFolder(folder))


def texts(table: Grid) -> tuple[list[str], list[list[tuple[str, bool]]]]:
    """A grid as text: the header, and lines of (text, whether it is best)."""
    lines = []
    for r, (task, metric) in enumerate(table.rows):
        row = {c: table.cells[r, c] for c in range(len(table.columns)) if (r, c) in table.cells}
        n = "–".join(str(x) for x in sorted({cell.score.n for cell in row.values()}))
        shown = [
            (row[c].text(), (r, c) in table.best) if c in row else ("–", False)
            for c in range(len(table.columns))
        ]
        lines.append([(task, False), (metric, False), (n, False), *shown])
    return ["task", "metric", "n", *table.columns], lines


def _targets(score: Score) -> str:
    return next((p for p in score.signature.split("|") if p.startswith("targets:")), "")


def notes(cells: Sequence[Cell], pair: bool = False, marked: bool = True) -> list[str]:
    """What a reader must know of the numbers above."""
    reasons = [_reason(c) for c in cells if c.not_scored]
    used = {mark for c in cells for mark in c.stamps}
    found = [f"values × 100, ± {_spread(cells)}"]
    if marked:
        how = "paired on the samples" if pair else "by the two intervals; `evalkit compare` pairs the samples"
        found.append(
            f"bold: the best on the same samples, and what does not differ from it significantly ({how})"
        )
    few = sorted({c.score.task for c in cells if c.score.clusters < FEW and not c.runs})
    if few:
        found.append(f"fewer than {FEW} images, so the interval is rough: {_first(few, ', ')}")
    found += [f"{mark} {meaning}" for mark, meaning in STAMPS.values() if mark in used]
    adapters = dict.fromkeys(f"{c.model} {c.adapter}" for c in cells if c.adapter)
    found += [f"adapters: {_first(list(adapters))}"] if adapters else []
    invalid = [
        f"{c.model}: {c.score.task} {c.score.invalid} of {c.score.n * (c.runs or 1)}{_why(c.score)}"
        for c in cells
        if c.score.invalid
    ]
    found += dict.fromkeys(reasons)
    own = dict.fromkeys(c.score.task for c in cells if c.task_file.get("prompt_source") == "unpublished")
    if own:
        found.append(
            f"prompt unpublished, so evalkit's own; not comparable with the papers: {_first(list(own), ', ')}"
        )
    doubts = dict.fromkeys(f"warning: {c.score.task}: {doubt}" for c in cells for doubt in c.doubts)
    found += doubts
    odd = [f"{c.model}: {c.score.task} {text}" for c in cells if (text := _odd(c.score, c.runs or 1))]
    for what, each in (
        ("unreadable answers, scored as wrong", invalid),
        ("answers as they are", odd),
    ):
        found += [f"{what}: {_first(list(dict.fromkeys(each)))}"] if each else []
    return found


def _first(named: Sequence[str], between: str = "; ") -> str:
    """As many as a line holds, and how many more there are."""
    more = [f"and {len(named) - _LISTED:,} more"] if len(named) > _LISTED else []
    return between.join([*named[:_LISTED], *more])


def _why(score: Score) -> str:
    """` (2 no location token, 1 a box without area)`: the reasons of unreadable answers."""
    why = {w.removeprefix(UNREADABLE): n for w, n in score.remarks.items() if w.startswith(UNREADABLE)}
    return f" ({', '.join(f'{n:,} {what}' for what, n in why.items())})" if why else ""


def _odd(score: Score, runs: int) -> str:
    """What else is odd about more than one answer in a hundred."""
    few = score.n * runs / 100
    return remarked({w: n for w, n in score.remarks.items() if not w.startswith(UNREADABLE) and n > few})


def _reason(cell: Cell) -> str:
    of = "" if cell.score.metric == WHOLE else f" {cell.score.metric}"
    return f"{cell.score.task}{of}: {why_not_scored(cell.not_scored)}"


def _spread(cells: Sequence[Cell]) -> str:
    if any(c.runs for c in cells):
        return "the standard deviation over runs (n − 1) that differ by the seed in their name"
    return f"{HALF} (clustered by image)"


def in_order(cells: Sequence[Cell]) -> list[Cell]:
    """By task, model and resolution, metrics as their task has them: a committed file diffs well."""
    return sorted(cells, key=lambda c: (c.score.task, c.model, c.resolution or 0))
