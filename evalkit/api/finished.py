"""Finished runs in Python: scores, samples as a table, one with its picture; their export and report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from evalkit import own_code, registry
from evalkit.api.takes import takes
from evalkit.errors import TasksFailed, UserError
from evalkit.exports import write
from evalkit.options.fields import Paths, paths
from evalkit.options.verbs import (
    ExportOptions,
    ReportOptions,
    TableOptions,
    ViewOptions,
)
from evalkit.report import formats, leaderboard
from evalkit.runs import store
from evalkit.types import Metric, Score
from evalkit.viewer import build, one
from evalkit.viewer import view as viewing
from evalkit.viewer.one import Sample
from evalkit.viewer.view import View


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


def runs_of(act: Callable[[], Sequence[store.RunFolder]], allow_code: bool) -> Runs:
    """The runs in the folders that `act` gives, or that a TasksFailed of its carries."""
    try:
        return Runs(Run(folder, allow_code) for folder in act())
    except TasksFailed as error:
        runs = Runs(Run(folder, allow_code) for folder in error.runs)
        raise TasksFailed(error.failures, runs, error.done) from error


def load(runs: Paths, allow_code: bool = False) -> Runs:
    """Runs from their folders, or all below a folder of runs; `allow_code` lets them use own metrics."""
    return Runs(Run(folder, allow_code) for folder in store.find(paths(runs)))


@takes(ReportOptions)
def build_report(options: ReportOptions) -> Path:
    """The pages of `evalkit report`, written: scores, every sample with its picture, what went wrong. Returns
    what to open. (`evalkit.report` is the package that writes tables.)"""
    return build.build(options, "evalkit.build_report")


@takes(ViewOptions)
def view(options: ViewOptions) -> View:
    """The pages of `evalkit view` in the browser, served to this machine alone from a thread of this program
    until `.close()` or the program's end. `runs` may also be a report; `no_browser=True` opens none."""
    return viewing.view(options, "evalkit.view")


@takes(ExportOptions)
def export(options: ExportOptions) -> list[Path]:
    """The files that test servers or official scripts read, written; where they are."""
    return list(write.export(options))
