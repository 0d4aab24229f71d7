"""Weights & Biases: scores over the checkpoint's step, and a table of samples with pictures a task.

WANDB_PROJECT, WANDB_MODE (`offline` needs no account), WANDB_DIR and others are those of wandb itself.
"""

from __future__ import annotations

import os
from typing import Any

from evalkit.trackers import COLUMNS, STEP, Told, Tracker, curve_id


class WandB(Tracker):
    """One run a curve of an output folder; a later session goes on with it, where wandb is online."""

    package = "wandb"

    def __init__(self, folder: Any) -> None:
        super().__init__(folder)
        self._runs: dict[str, Any] = {}

    def tell(self, told: Told, numbers: bool = True) -> None:
        run = self._run(told.series)
        values: dict[str, Any] = {STEP: told.step, **(told.numbers if numbers else {})}
        if told.samples:
            rows = [sample.row(self.module.Image(sample.picture)) for sample in told.samples]
            values[f"{told.task}/samples"] = self.module.Table(columns=list(COLUMNS), data=rows)
        for key in values:
            if key != STEP:
                run.define_metric(key, step_metric=STEP)
        run.log(values)
        run.summary[f"signature/{told.task}"] = told.signature

    def close(self) -> None:
        for run in self._runs.values():
            run.finish()
        self._runs = {}

    def _run(self, series: str) -> Any:
        """The open run of whoever opened one (a Trainer), else that of this curve."""
        mine = [id(run) for run in self._runs.values()]
        if self.module.run is not None and id(self.module.run) not in mine:
            return self.module.run
        if series not in self._runs:
            self.folder.mkdir(parents=True, exist_ok=True)
            project = os.environ.get("WANDB_PROJECT") or "evalkit"
            place = os.environ.get("WANDB_DIR") or str(self.folder)
            self._runs[series] = self.module.init(
                project=project, name=series, dir=place, reinit="create_new", resume="allow",
                id=curve_id(self.folder, series, project),
            )  # fmt: skip
        return self._runs[series]
