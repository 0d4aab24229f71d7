"""The one hook for experiment trackers: a function (run name, scores), from Python or a file.

Knows no tracker; docs/trackers.md has Weights & Biases, MLflow and TensorBoard in a few lines each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from evalkit import own_code
from evalkit.types import Score

OnScores = Callable[[str, Sequence[Score]], Any]
"""Called after a run is scored (also when nothing was new) with `<task>.<model>.<digest>` and its scores."""


def load(spec: str | OnScores) -> OnScores:
    """The function that `FILE.py:NAME` names; a function is taken as it is. Raises UserError."""
    if callable(spec):
        return spec
    function: OnScores = own_code.load(spec, f"--on-scores {spec}", "function")
    return function


def flat(scores: Sequence[Score]) -> dict[str, float]:
    """Scores as trackers like them: `task/metric`, and `/low` and `/high` of the 95 % interval."""
    values: dict[str, float] = {}
    for s in scores:
        name = f"{s.task}/{s.metric}"
        values[name] = s.value
        if s.low is not None and s.high is not None:
            values |= {f"{name}/low": s.low, f"{name}/high": s.high}
    return values
