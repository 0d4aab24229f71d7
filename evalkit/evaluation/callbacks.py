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
    function: OnScores = own_code.load(spec, f"--on-scores {spec}", "function", typed=True)
    return function
