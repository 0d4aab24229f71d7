"""The command line's verbs as Python functions, in the same words: run, score, table, export, ask,
metric, parser.

Every keyword is a flag of the command line (`batch_size=4` is `--batch-size 4`), checked in the same way;
mistakes raise `evalkit.errors.UserError` instead of ending the process.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit import registry
from evalkit.cli import main
from evalkit.comparison import gate
from evalkit.comparison.gate import Decision, Policy, _policy
from evalkit.errors import UserError
from evalkit.evaluation import evaluate
from evalkit.evaluation.ask import Reply, reply_to
from evalkit.export import write
from evalkit.report import formats, leaderboard
from evalkit.runs import scored_run, store
from evalkit.runs.scored_run import Answered
from evalkit.tasks import loader
from evalkit.types import Metric, Parser, Score, Task

__all__ = ["ask", "check", "load", "load_task", "metric", "parser", "run", "score"]

Names = str | Path | Sequence[str | Path]


class Run:
    """One finished run: a task, a checkpoint, and one way of running it."""

    def __init__(self, folder: store.RunFolder) -> None:
        self.folder = folder
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
        """Every score by its metric as the task spells it."""
        return {score.metric: score for score in store.scores_of(self.folder)}

    def samples(self) -> Any:
        """A pandas DataFrame, one row a sample: id, group, image, text, answer, and a column a metric.

        A metric's column is the sample's own value; metrics that no single sample has (AP) have none.
        """
        import pandas as pd

        return pd.DataFrame([self._flat(line) for line in self.folder.read_rows()]).set_index("id")

    def _flat(self, line: Mapping[str, Any]) -> dict[str, Any]:
        import numpy as np

        flat = {key: line[key] for key in ("id", "group", "image", "text", "answer")}
        for spelling, row in line["rows"].items():
            if isinstance(row, list):
                metric: Metric = registry.make("metrics", spelling)
                value = float(metric.value(np.asarray(row, dtype=np.float64)))
                flat[spelling] = value if math.isfinite(value) else None
        return flat

    def export(self, to: str = "auto", **flags: Any) -> Path:
        """Writes the file that a test server or official script reads; `to`, `output` and the rest as
        `evalkit export` takes them. Returns where it lies."""
        return _exported([self], to, flags)[0]

    def __repr__(self) -> str:
        told = ", ".join(f"{s.metric} {leaderboard.Cell(s, '', '', ()).text()}" for s in self.scores.values())
        return f"<Run {self.task} × {self.model}: {told or 'not scored'}>"

    def _repr_html_(self) -> str:
        return Runs([self])._repr_html_()


class Runs(Sequence[Run]):
    """Runs in order, models first; shows itself as the leaderboard."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self._runs = tuple(runs)

    def __getitem__(self, index: Any) -> Any:
        return Runs(self._runs[index]) if isinstance(index, slice) else self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    @property
    def cells(self) -> list[leaderboard.Cell]:
        return leaderboard.collect(run.folder for run in self._runs)

    def table(self, format: str = "md") -> str:
        """The leaderboard as `md`, `csv`, `json` or `terminal` text."""
        forms: dict[str, Callable[[Sequence[leaderboard.Cell]], str]] = {
            "md": formats.markdown,
            "csv": formats.to_csv,
            "json": formats.to_json,
            "terminal": lambda cells: formats.terminal(cells, bold=False),
        }
        if format not in forms:
            raise UserError(f"table: no format '{format}'; there are: {', '.join(forms)}")
        return forms[format](self.cells)

    def export(self, to: str = "auto", **flags: Any) -> list[Path]:
        """As `Run.export`, all or none; runs that one file takes together (A-OKVQA's settings) give one."""
        return _exported(self, to, flags)

    def __repr__(self) -> str:
        return self.table("terminal")

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.table('terminal'))}</pre>"


def run(model: Names, tasks: Names, **flags: Any) -> Runs:
    """Predicts and scores, and goes on where it stopped: `evalkit run --model ... --tasks ...`.

    `set` takes a mapping (`set={"decode.max_new_tokens": 64}`), `on_scores` a function (run name, scores)
    called after each run, the others what the flags take.
    """
    told = flags.pop("on_scores", None)
    words = ["run", *_words("model", model), *_words("tasks", tasks)]
    overrides = flags.pop("set", None) or {}
    words += [word for key, value in overrides.items() for word in ("--set", f"{key}={value}")]
    arguments = _parsed([*words, *(w for key, value in flags.items() for w in _words(key, value))])
    arguments.on_scores = told
    return Runs(Run(folder) for folder in evaluate.execute(arguments, command="evalkit.run"))


def load(runs: Names) -> Runs:
    """Runs from their folders, or all below a folder of runs."""
    paths = [runs] if isinstance(runs, (str, Path)) else runs
    return Runs(Run(folder) for folder in store.find(Path(p) for p in paths))


def score(runs: Names | None = None, **flags: Any) -> Runs | list[Score]:
    """Runs scored again from their files; or, with `task` and `predictions`, the scores of a file."""
    words = ["score", *([] if runs is None else [str(r) for r in _listed(runs)])]
    arguments = _parsed([*words, *(w for key, value in flags.items() for w in _words(key, value))])
    if arguments.predictions:
        return evaluate.score_predictions(arguments)[1].scores
    return Runs(Run(folder) for folder in evaluate.rescore(arguments))


def ask(image: str | Path, prompt: str, model: str, **flags: Any) -> Reply:
    """What the model answers: `.text`, `.tokens`, `.found` (boxes and masks), `.overlay` (a picture)."""
    words = ["ask", str(image), prompt, "--model", model]
    arguments = _parsed([*words, *(w for key, value in flags.items() for w in _words(key, value))])
    return reply_to(arguments)


def metric(spelling: str) -> Metric:
    """`metric("anls(threshold=0.5)")`: an object with `.rows(answers, targets)` and `.reduce(rows)`."""
    made: Metric = registry.make("metrics", spelling)
    return made


def parser(spelling: str) -> Parser:
    """`parser("boxes")`: an object with `.read(prediction, size)`."""
    made: Parser = registry.make("parsers", spelling)
    return made


def load_task(name: str, set: Mapping[str, Any] | None = None, include_path: Sequence[Path] = ()) -> Task:
    """A task by name or YAML file, with overrides."""
    return loader.load(name, {key: str(value) for key, value in (set or {}).items()}, include_path)


def _exported(runs: Iterable[Run], to: str, flags: Mapping[str, Any]) -> list[Path]:
    words = ["export", *(str(run.folder.path) for run in runs), "--to", to]
    return list(write.execute(_parsed([*words, *(w for k, v in flags.items() for w in _words(k, v))])))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _words(key: str, value: Any) -> list[str]:
    """A keyword as the words of the command line; True is a bare flag, None and False are nothing."""
    flag = "--" + key.replace("_", "-")
    if value is None or value is False:
        return []
    if value is True:
        return [flag]
    if isinstance(value, Mapping):
        value = ",".join(f"{k}={v}" for k, v in value.items())
    return [word for one in _listed(value) for word in (flag, str(one))]


def _parsed(words: list[str]) -> Any:
    return main.parse(words)


def check(
    candidate: str | Path,
    baseline: str | Path,
    margin: float | None = None,
    policy: str | Path | Policy | None = None,
    limit: int | None = None,
    allow: Collection[str] = (),
) -> Decision:
    """The gate as an assertion: `assert evalkit.check("results/new", "baseline.json", margin=0.01)`.

    Both are run folders, folders of runs, baseline files or FILE@GIT_REF. The decision is true when
    it passes and shows every task's reason when printed. Raises UserError for what can't be compared.
    """
    chosen = _policy(policy, margin)
    return gate.check(_read(candidate), _read(baseline), chosen, limit, allow)


def _read(place: str | Path) -> list[Answered]:
    return scored_run.read(place)
