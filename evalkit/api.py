"""evalkit from Python: the command line's verbs as typed functions.

Every function takes what its command takes: the options are the classes of `evalkit/options/verbs.py`,
checked in the same way. A name that no option has is a TypeError, a value that is not right an
`evalkit.errors.UserError`.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, overload

from evalkit import files, own_code, registry
from evalkit.comparison.compare import Comparison
from evalkit.comparison.gate import Decision
from evalkit.comparison.ranks import Rank
from evalkit.comparison.sweep import Sweep
from evalkit.errors import TasksFailed, UserError, meant
from evalkit.evaluation import check as gate_check
from evalkit.evaluation import evaluate, rescore
from evalkit.evaluation import sweep as sweeping
from evalkit.evaluation.ask import Reply, reply
from evalkit.exports import write
from evalkit.files import atomic_write
from evalkit.options.config import made
from evalkit.options.fields import OptionError, Options, Paths, flags, names, paths
from evalkit.options.model import one_model
from evalkit.options.verbs import (
    VERBS,
    AskOptions,
    CheckOptions,
    CompareOptions,
    ExportOptions,
    PlotOptions,
    ReportOptions,
    RunOptions,
    ScoreOptions,
    SweepOptions,
    TableOptions,
    ViewOptions,
)
from evalkit.report import comparison as comparison_report
from evalkit.report import decision as decision_report
from evalkit.report import forgetting, formats, leaderboard
from evalkit.report import sweep as sweep_report
from evalkit.report.columns import json_text
from evalkit.runs import store
from evalkit.tasks import loader
from evalkit.types import Metric, Parser, Score, Task
from evalkit.viewer import build, one
from evalkit.viewer import plot as figures
from evalkit.viewer import view as viewing
from evalkit.viewer.one import Sample
from evalkit.viewer.view import View

__all__ = [
    "Compared", "Run", "Runs", "ask", "build_report", "check", "compare", "export", "flat_scores", "load",
    "load_task", "metric", "parser", "plot", "run", "score", "sweep", "table", "view",
]  # fmt: skip

P = ParamSpec("P")
Given = TypeVar("Given", bound=Options)
R = TypeVar("R")


def _takes(cls: Callable[P, Given]) -> Callable[[Callable[[Given], R]], Callable[P, R]]:
    """Makes a function of an options object one that takes the options themselves, with their types."""

    def decorate(act: Callable[[Given], R]) -> Callable[P, R]:
        verb = next(name for name, known in VERBS.items() if known is cls)
        known, signature = flags(VERBS[verb]), inspect.signature(VERBS[verb])

        @functools.wraps(act)
        def call(*args: P.args, **given: P.kwargs) -> R:
            for name in given:
                if name not in known:
                    wrong = f"{act.__name__}() got an unexpected keyword argument '{name}'"
                    raise TypeError(wrong + meant(name, known))
            said = signature.bind(*args, **given).arguments
            try:
                options = made(verb, said)
            except OptionError as error:
                raise UserError(f"{act.__name__}: {error.in_python()}") from None
            if getattr(options, "rehash", False):
                files.distrust()
            with own_code.allowed(
                getattr(options, "allow_code", False), getattr(options, "include_path", ())
            ):
                return act(options)

        call.__signature__ = signature  # type: ignore[attr-defined]
        return call

    return decorate


# --- runs ------------------------------------------------------------------------------------------------


class ByMetric(dict[str, Score]):
    """Scores by metric, found by their full spelling or by a name that only one of them has."""

    def __missing__(self, key: str) -> Score:
        found = [spelling for spelling in self if spelling.partition("(")[0] == key]
        if len(found) == 1:
            return self[found[0]]
        why = "several are called so" if found else "no such metric in this run"
        raise KeyError(f"{key}: {why}; there are {', '.join(self) or 'none'}")


_COLUMNS = (
    "id", "group", "image", "image_path", "question", "prompt", "target", "text", "answer", "boxes",
    "probability",
)  # fmt: skip


class Run:
    """One finished run: a task, a checkpoint, and one way of running it."""

    def __init__(self, folder: store.RunFolder, allow_code: bool = False) -> None:
        self.folder, self._allow_code = folder, allow_code
        record = folder.read_run()
        if record is None:
            raise UserError(f"{folder.path}: holds no run.json; a run is a folder that `evalkit run` made")
        self.record: dict[str, Any] = record

    @property
    def task(self) -> str:
        return str(self.record["task"])

    @property
    def model(self) -> str:
        return str(self.record["model"])

    @property
    def scores(self) -> dict[str, Score]:
        """Every score by its metric as the task spells it; a bare name (`anls`) finds the only one of it."""
        return ByMetric((score.metric, score) for score in store.scores_of(self.folder))

    @property
    def not_scored(self) -> dict[str, str]:
        """The metrics that have no score, and why."""
        return store.not_scored_of(self.folder)

    def samples(self) -> Any:
        """A pandas DataFrame, one row a sample: id, group, image (its digest), image_path, question, prompt,
        target, text, answer, boxes, probability, and a column a metric.

        `image_path` is a path (for several images a list), `question` None where the dataset has none,
        `boxes` those of the answer, [x0, y0, x1, y1] in pixels, None for other answers; the target of a box
        is {size, boxes, labels}; `probability` is the text's, None where no log-probabilities were kept. A
        metric's column is the sample's own value; metrics that no single sample
        has (AP) have none. Runs scored by an older evalkit lack some; `evalkit score` them again.
        """
        import pandas as pd

        with own_code.allowed(self._allow_code):
            own_code.look_beside(self.record.get("task_file", {}).get("path", ""))
            frame = pd.DataFrame([self._flat(line) for line in self.folder.read_rows()])
            return frame.set_index("id", drop=False).rename_axis(None)  # `df.id` and `df.loc[id]`

    def _flat(self, line: Mapping[str, Any]) -> dict[str, Any]:
        import numpy as np

        flat = {key: line.get(key) for key in _COLUMNS}
        root, paths = Path(self.record["source"]["root"]), line.get("image_path")
        flat["image_path"] = (
            [str(root / p) for p in paths] if isinstance(paths, list) else paths and str(root / paths)
        )
        for spelling, row in line["rows"].items():
            if isinstance(row, list):
                metric: Metric = registry.make("metrics", spelling)
                value = float(metric.value(np.asarray(row, dtype=np.float64)))
                flat[spelling] = value if math.isfinite(value) else None
        return flat

    def export(
        self,
        to: str = "auto",
        *,
        output: str | Path | None = None,
        allow_partial: bool = False,
        data_root: Paths = (),
        include_path: Paths = (),
    ) -> Path:
        """Writes the file that a test server or official script reads, and says where it is."""
        return export(
            self.folder.path, to=to, output=output, allow_partial=allow_partial, data_root=data_root,
            include_path=include_path, allow_code=self._allow_code,
        )[0]  # fmt: skip

    def report(self, output: str | Path = "REPORT", **options: Any) -> Path:
        """Writes the pages of `evalkit report`, and says what to open; options as of `build_report`."""
        return Runs([self]).report(output, **options)

    def view(self, **options: Any) -> View:
        """Opens the pages of `evalkit view` in the browser; options as of `evalkit.view`."""
        return Runs([self]).view(**options)

    def show(self, id: str, data_root: Paths = ()) -> Sample:
        """One sample; in a notebook its picture with the boxes and masks of target and answer drawn. As
        `Runs.show`, which shows the answers of several runs."""
        return Runs([self]).show(id, data_root=data_root)

    def __repr__(self) -> str:
        scores = ", ".join(
            f"{s.metric} {leaderboard.Cell(s, '', '', ()).text()}" for s in self.scores.values()
        )
        return f"<Run {self.task} × {self.model}: {scores or 'not scored'}>"

    def _repr_html_(self) -> str:
        return Runs([self])._repr_html_()


class Runs(Sequence[Run]):
    """Runs in order, models first; shows itself as the leaderboard."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self._runs = tuple(runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> Run | Runs:
        return Runs(self._runs[index]) if isinstance(index, slice) else self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    @property
    def cells(self) -> list[leaderboard.Cell]:
        return leaderboard.collect(run.folder for run in self._runs)

    def table(self, format: str = "md") -> str:
        """The leaderboard in any form that `evalkit table --format` has."""
        return formats.render(self.cells, TableOptions(format=format))[0]

    def export(
        self,
        to: str = "auto",
        *,
        output: str | Path | None = None,
        allow_partial: bool = False,
        data_root: Paths = (),
        include_path: Paths = (),
    ) -> list[Path]:
        """As `Run.export`, all or none; runs that one file takes together (A-OKVQA's settings) give one."""
        return export(
            [run.folder.path for run in self], to=to, output=output, allow_partial=allow_partial,
            data_root=data_root, include_path=include_path, allow_code=any(run._allow_code for run in self),
        )  # fmt: skip

    def report(self, output: str | Path = "REPORT", **options: Any) -> Path:
        """Writes the pages of `evalkit report`, and says what to open; options as of `build_report`."""
        code = any(run._allow_code for run in self)
        return build_report(
            [run.folder.path for run in self], output=output, **{"allow_code": code, **options}
        )

    def view(self, **options: Any) -> View:
        """Opens the pages of `evalkit view` in the browser; options as of `evalkit.view`."""
        code = any(run._allow_code for run in self)
        return view([run.folder.path for run in self], **{"allow_code": code, **options})

    def show(self, id: str, task: str = "", data_root: Paths = ()) -> Sample:
        """One sample with the answers of all runs of its task; in a notebook the picture with boxes and masks
        drawn. `task` is needed where several tasks have such an id; `data_root` is where images are, if not
        where the runs found them. Raises UserError for an id that no run has."""
        with own_code.allowed(any(run._allow_code for run in self)):
            return one.sample([run.folder.path for run in self], id, task, paths(data_root))

    def __repr__(self) -> str:
        return formats.terminal(self.cells, bold=False)

    def _repr_html_(self) -> str:
        style = "<style>.evalkit .best{font-weight:600}.evalkit th,.evalkit td{text-align:left}</style>"
        return f'<div class="evalkit">{style}{formats.html_table(self.cells)}</div>'


@_takes(RunOptions)
def run(options: RunOptions) -> Runs:
    """Predicts and scores tasks with models, and goes on where it stopped.

    `run("./my-finetune", "docvqa_val", data_root="/datasets", limit=200, dtype="bfloat16")`: `set` takes a
    mapping (`set={"decode.max_new_tokens": 64}`), `on_scores` a function (run name, scores) that is called
    after each run, every other option what `evalkit run --help` says.

    Raises `evalkit.errors.TasksFailed` where some of several tasks failed, after the others are done: its
    `runs` are the finished ones, its `failures` say why.
    """
    return _runs(lambda: evaluate.run(options, "evalkit.run"), options.allow_code)


def _runs(act: Callable[[], Sequence[store.RunFolder]], allow_code: bool) -> Runs:
    """The runs in the folders that `act` gives, or that a TasksFailed of its carries."""
    try:
        return Runs(Run(folder, allow_code) for folder in act())
    except TasksFailed as error:
        runs = Runs(Run(folder, allow_code) for folder in error.runs)
        raise TasksFailed(error.failures, runs, error.done) from error


def load(runs: Paths, allow_code: bool = False) -> Runs:
    """Runs from their folders, or all below a folder of runs; `allow_code` lets them use own metrics."""
    return Runs(Run(folder, allow_code) for folder in store.find(paths(runs)))


@_takes(ScoreOptions)
def score(options: ScoreOptions) -> Runs | list[Score]:
    """Runs scored again from their files; or, with `task` and `predictions`, the scores of a file, which
    `output_path` keeps as a run: then it is returned."""
    if options.predictions:
        found = rescore.score_predictions(options, "evalkit.score")
        return found.scored.scores if found.folder is None else Runs([Run(found.folder, options.allow_code)])
    return _runs(lambda: rescore.rescore(options), options.allow_code)


@_takes(TableOptions)
def table(options: TableOptions) -> str:
    """The leaderboard of runs as text in any form (`format="html"`); `output` is where to write it too."""
    text, _ = formats.render(formats.cells_of(options), options)
    if options.output is not None:
        atomic_write(Path(options.output), text)
    return text


@_takes(ReportOptions)
def build_report(options: ReportOptions) -> Path:
    """The pages of `evalkit report`, written: scores, every sample with its picture, what went wrong. Returns
    what to open. (`evalkit.report` is the package that writes tables.)"""
    return build.build(options, "evalkit.build_report")


@_takes(ViewOptions)
def view(options: ViewOptions) -> View:
    """The pages of `evalkit view` in the browser, served to this machine alone from a thread of this program
    until `.close()` or the program's end. `runs` may also be a report; `no_browser=True` opens none."""
    return viewing.view(options, "evalkit.view")


@_takes(PlotOptions)
def plot(options: PlotOptions) -> list[Path]:
    """The report's graphics as files for papers, written; where they are. Needs matplotlib."""
    return list(figures.write(options))


@_takes(ExportOptions)
def export(options: ExportOptions) -> list[Path]:
    """The files that test servers or official scripts read, written; where they are."""
    return list(write.export(options))


# --- is it better ----------------------------------------------------------------------------------------


class Compared(Sequence[Comparison]):
    """One comparison for each model after the first, and the mean ranks; shows itself as `compare` prints."""

    def __init__(
        self, comparisons: Sequence[Comparison], ranks: Sequence[Rank], samples: int = 0, grid: str = "",
        base: bool = False,
    ) -> None:  # fmt: skip
        self.comparisons, self.ranks = tuple(comparisons), tuple(ranks)
        self._samples, self._grid, self._base = samples, grid, base

    @overload
    def __getitem__(self, index: int) -> Comparison: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Comparison, ...]: ...
    def __getitem__(self, index: int | slice) -> Comparison | tuple[Comparison, ...]:
        return self.comparisons[index]

    def __len__(self) -> int:
        return len(self.comparisons)

    def to_dict(self) -> dict[str, Any]:
        """What `evalkit compare --json` writes."""
        known = comparison_report.record_of(self.comparisons, self.ranks)
        lost = {c.b.name: forgetting.record(c) for c in self.comparisons}
        return {**known, "forgetting": lost} if self._base else known

    def __str__(self) -> str:
        if self._grid:
            return self._grid
        heads = [f"{forgetting.text_of(c)}\n" if self._base else "" for c in self.comparisons]
        texts = [comparison_report.text_of(c, samples=self._samples) for c in self.comparisons]
        texts = [head + text for head, text in zip(heads, texts, strict=True)]
        return "\n".join(texts) + comparison_report.ranks_text(self.ranks)

    __repr__ = __str__


@_takes(CompareOptions)
def compare(options: CompareOptions) -> Compared:
    """`compare("results/old", "results/new")`: paired differences with intervals, task by task.

    With `json` it is written there too; with `grid` it is the table of all runs instead; with `forgetting`
    each is compared with that base, and what it lost comes first.
    """
    if options.grid:
        return Compared((), (), grid=comparison_report.grid_of(options))
    found, ranked = comparison_report.compared(options)
    if options.forgetting is not None:
        found = [forgetting.worst_first(c) for c in found]
    made = Compared(found, ranked, options.samples, base=options.forgetting is not None)
    if options.json is not None:
        atomic_write(Path(options.json), json_text(made.to_dict()))
    return made


@_takes(SweepOptions)
def sweep(options: SweepOptions) -> Sweep:
    """`sweep("./my-finetune", "docvqa_val", over=["prompt", "precision"])`: `.points` are the map, `.moved`
    what moves the score beyond noise; `output` is where to write it too."""
    form = sweep_report.form_of(options)
    found = sweeping.sweep(options, "evalkit.sweep")
    if options.output is not None:
        atomic_write(Path(options.output), sweep_report.text_of(found, form))
    return found


@_takes(CheckOptions)
def check(options: CheckOptions) -> Decision:
    """The gate as an assertion: `assert evalkit.check("results/new", "baseline.json", margin=0.01)`.

    The candidate is a run folder, a folder of runs, a baseline file, FILE@GIT_REF, or a model that is run as
    the baseline was. The decision is true when it passes and shows every task's reason when printed.
    """
    decision = gate_check.check(options, "evalkit.check")
    decision_report.write(decision, options.json, options.junit, options.report)
    return decision


# --- one question, one piece -----------------------------------------------------------------------------


@_takes(AskOptions)
def ask(options: AskOptions) -> Reply:
    """What the model answers: `.text`, `.tokens`, `.found` (boxes and masks), `.overlay` (a picture)."""
    spec = one_model(names(options.model), "ask")
    return reply(options, evaluate.checkpoint(spec, options))


def metric(spelling: str, allow_code: bool = False) -> Metric:
    """`metric("anls(threshold=0.5)")`: an object with `.rows(answers, targets)` and `.reduce(rows)`.

    `allow_code` lets it be one of your own, `module:my_metric.py:MyMetric`.
    """
    with own_code.allowed(allow_code):
        made: Metric = registry.make("metrics", spelling)
    return made


def parser(spelling: str, allow_code: bool = False) -> Parser:
    """`parser("boxes")`: an object with `.read(prediction, size)`; own ones as in `metric`."""
    with own_code.allowed(allow_code):
        made: Parser = registry.make("parsers", spelling)
    return made


def load_task(name: str, set: Mapping[str, Any] | None = None, include_path: Paths = ()) -> Task:
    """A task by name or YAML file, with overrides."""
    return loader.load(name, {key: str(value) for key, value in (set or {}).items()}, paths(include_path))


def flat_scores(scores: Sequence[Score]) -> dict[str, float]:
    """Scores as trackers like them: `task/metric`, and `/low` and `/high` of the 95 % interval."""
    values: dict[str, float] = {}
    for s in scores:
        name = f"{s.task}/{s.metric}"
        values[name] = s.value
        if s.low is not None and s.high is not None:
            values |= {f"{name}/low": s.low, f"{name}/high": s.high}
    return values
