"""The accepted answers of a question's target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def accepted(target: Any) -> Sequence[str]:
    """The accepted answers of a target: the target itself or, if it is a mapping, its `answers`.

    A format gives a mapping where a metric needs more than the answers (a type, a pair).
    """
    found: Sequence[str] = target["answers"] if isinstance(target, Mapping) else target
    return found
