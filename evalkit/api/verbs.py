"""The command line's verbs as functions, and one piece alone: a metric, a parser, a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from evalkit import own_code, registry
from evalkit.api.finished import Run, Runs, runs_of
from evalkit.api.takes import takes
from evalkit.comparison.compare import Comparison
from evalkit.comparison.gate import Decision
from evalkit.comparison.ranks import Rank
from evalkit.comparison.sweep import Sweep
from evalkit.evaluation import check as gate_check
from evalkit.evaluation import evaluate, rescore
from evalkit.evaluation import sweep as sweeping
from evalkit.evaluation.ask import Reply, reply
from evalkit.files import atomic_write
from evalkit.options.fields import Paths, names, paths
from evalkit.options.model import one_model
from evalkit.options.verbs import (
    AskOptions,
    CheckOptions,
    CompareOptions,
    PlotOptions,
    RunOptions,
    ScoreOptions,
    SweepOptions,
    TableOptions,
)
from evalkit.report import comparison as comparison_report
from evalkit.report import decision as decision_report
from evalkit.report import forgetting, formats
from evalkit.report import sweep as sweep_report
from evalkit.report.columns import json_text
from evalkit.tasks import loader
from evalkit.types import Metric, Parser, Score, Task
from evalkit.viewer import checked
from evalkit.viewer import plot as figures


@takes(RunOptions)
def run(options: RunOptions) -> Runs:
    """Predicts and scores tasks with models, and goes on where it stopped.

    `run("./my-finetune", "docvqa_val", data_root="/datasets", limit=200, dtype="bfloat16")`: `set` takes a
    mapping (`set={"decode.max_new_tokens": 64}`), `on_scores` a function (run name, scores) that is called
    after each run, every other option what `evalkit run --help` says.

    Raises `evalkit.errors.TasksFailed` where some of several tasks failed, after the others are done: its
    `runs` are the finished ones, its `failures` say why.
    """
    return runs_of(lambda: evaluate.run(options, "evalkit.run"), options.allow_code)


@takes(ScoreOptions)
def score(options: ScoreOptions) -> Runs | list[Score]:
    """Runs scored again from their files; or, with `task` and `predictions`, the scores of a file, which
    `output_path` keeps as a run: then it is returned."""
    if options.predictions:
        found = rescore.score_predictions(options, "evalkit.score")
        return found.scored.scores if found.folder is None else Runs([Run(found.folder, options.allow_code)])
    return runs_of(lambda: rescore.rescore(options), options.allow_code)


@takes(TableOptions)
def table(options: TableOptions) -> str:
    """The leaderboard of runs as text in any form (`format="html"`); `output` is where to write it too."""
    text, _ = formats.render(formats.cells_of(options), options)
    if options.output is not None:
        atomic_write(Path(options.output), text)
    return text


@takes(PlotOptions)
def plot(options: PlotOptions) -> list[Path]:
    """The report's graphics as files for papers, written; where they are. Needs matplotlib."""
    return list(figures.write(options))


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


@takes(CompareOptions)
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


@takes(SweepOptions)
def sweep(options: SweepOptions) -> Sweep:
    """`sweep("./my-finetune", "docvqa_val", over=["prompt", "precision"])`: `.points` are the map, `.moved`
    what moves the score beyond noise; `output` is where to write it too."""
    form = sweep_report.form_of(options)
    found = sweeping.sweep(options, "evalkit.sweep")
    if options.output is not None:
        atomic_write(Path(options.output), sweep_report.text_of(found, form))
    return found


@takes(CheckOptions)
def check(options: CheckOptions) -> Decision:
    """The gate as an assertion: `assert evalkit.check("results/new", "baseline.json", margin=0.01)`.

    The candidate is a run folder, a folder of runs, a baseline file, FILE@GIT_REF, or a model that is run as
    the baseline was. The decision is true when it passes and shows every task's reason when printed.
    """
    checked.ready(options)
    decision = gate_check.check(options, "evalkit.check")
    decision_report.write(decision, options.json, options.junit, options.report)
    if options.pages is not None:
        checked.pages(options, decision, "evalkit.check")
    return decision


@takes(AskOptions)
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
    """Scores as trackers like them: `task/metric`, and `_low` and `_high` of the 95 % interval."""
    values: dict[str, float] = {}
    for s in scores:
        name = f"{s.task}/{s.metric}"
        values[name] = s.value
        if s.low is not None and s.high is not None:
            values |= {f"{name}_low": s.low, f"{name}_high": s.high}
    return values
