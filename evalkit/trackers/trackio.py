"""Trackio: scores by step, and a table of samples with pictures a task, kept on this machine.

TRACKIO_PROJECT names the project (default evalkit), TRACKIO_DIR the place, as for trackio itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from evalkit.trackers import COLUMNS, Told, Tracker


class Trackio(Tracker):
    """One run a curve; a later session goes on with it."""

    package = "trackio"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._series = ""
        self._run: Any = None

    def tell(self, told: Told, numbers: bool = True) -> None:
        values: dict[str, Any] = dict(told.numbers) if numbers else {}
        if told.samples:
            rows = [sample.row(self.module.Image(sample.picture)) for sample in told.samples]
            values[f"{told.task}/samples"] = self.module.Table(columns=list(COLUMNS), data=rows)
        if values:
            self._of(told.series).log(values, step=told.step)

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()
        self._run = None

    def _of(self, series: str) -> Any:
        """The open run of whoever opened one (a Trainer), else that of this curve; there is one at a time."""
        active = self.module.context_vars.current_run.get()
        if active is not None and active is not self._run:
            return active
        if self._run is None or series != self._series:
            self.close()
            project = os.environ.get("TRACKIO_PROJECT") or "evalkit"
            self._run = self.module.init(
                project, series, resume="allow", embed=False, auto_log_gpu=False, auto_log_cpu=False
            )
            self._series = series
        return self._run
