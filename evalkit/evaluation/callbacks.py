"""The one hook for experiment trackers: a function (run name, scores), from Python or a file.

Knows no tracker; docs/trackers.md has Weights & Biases, MLflow and TensorBoard in a few lines each.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.types import Score

OnScores = Callable[[str, Sequence[Score]], Any]
"""Called after a run is scored (also when nothing was new) with `<task>.<model>.<digest>` and its scores."""


def load(spec: str | OnScores) -> OnScores:
    """The function that `FILE.py:NAME` names; a function is taken as it is. Raises UserError."""
    if callable(spec):
        return spec
    file, mark, name = spec.rpartition(":")
    if not mark or not file.endswith(".py") or not Path(file).is_file():
        raise UserError(f"--on-scores {spec}: write FILE.py:NAME, a function (run_name, scores) in a file")
    found = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"--on-scores {spec}: {file} cannot be imported: {error!r}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"--on-scores {spec}: {file} has no function {name}")
    return function  # type: ignore[no-any-return]


def flat(scores: Sequence[Score]) -> dict[str, float]:
    """Scores as trackers like them: `task/metric`, and `/low` and `/high` of the 95 % interval."""
    values: dict[str, float] = {}
    for s in scores:
        name = f"{s.task}/{s.metric}"
        values[name] = s.value
        if s.low is not None and s.high is not None:
            values |= {f"{name}/low": s.low, f"{name}/high": s.high}
    return values
