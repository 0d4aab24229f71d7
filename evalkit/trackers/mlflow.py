"""MLflow: metrics by step, and a table of samples with pictures, in the experiment `evalkit`.

MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say where, as for every program that uses MLflow.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from PIL import Image

from evalkit.trackers import COLUMNS, Told, Tracker, curve_id, letters

CURVE = "evalkit.curve"  # the tag by which a later session finds its run


class MLflow(Tracker):
    """One run a curve of an output folder; a later session goes on with it."""

    package = "mlflow"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._client = self.module.MlflowClient()
        self._runs: dict[str, str] = {}  # series -> id of a run begun here

    def tell(self, told: Told, numbers: bool = True) -> None:
        import time

        run, now = self._run(told.series), int(1000 * time.time())
        if numbers:
            entity = self.module.entities.Metric
            metrics = [entity(_name(k), v, now, told.step) for k, v in told.numbers.items()]
            self._client.log_batch(run, metrics=metrics)
        self._client.set_tag(run, _name(f"signature/{told.task}"), told.signature)
        if told.samples:
            rows = [sample.row(self.module.Image(Image.fromarray(sample.picture))) for sample in told.samples]
            data: dict[str, list[Any]] = {"step": [told.step] * len(rows)}
            data |= {name: [row[i] for row in rows] for i, name in enumerate(COLUMNS)}
            self._client.log_table(run, data, f"samples/{letters(told.task)}.json")

    def close(self) -> None:
        for run in self._runs.values():
            self._client.set_terminated(run)
        self._runs = {}

    def _run(self, series: str) -> str:
        """The open run of whoever opened one (a Trainer), else that of this curve."""
        active = self.module.active_run()
        if active is not None:
            return str(active.info.run_id)
        if series not in self._runs:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "evalkit"
            known = self._client.get_experiment_by_name(name)
            where = known.experiment_id if known else self._client.create_experiment(name)
            mine = curve_id(self.folder, series)
            before = self._client.search_runs([where], f"tags.`{CURVE}` = '{mine}'", max_results=1)
            run = before[0] if before else self._client.create_run(where, run_name=series, tags={CURVE: mine})
            if before:
                self._client.update_run(run.info.run_id, "RUNNING")
            self._runs[series] = str(run.info.run_id)
        return self._runs[series]


def _name(key: str) -> str:
    """A key in letters that MLflow takes."""
    return "/".join(letters(part) for part in key.split("/"))
