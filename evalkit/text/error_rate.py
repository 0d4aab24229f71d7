"""Edits over the length of references, in units of one's choice: what the error rates have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.text.answers import accepted
from evalkit.text.edit_distance import distance

Floats = npt.NDArray[np.float64]
Units = Callable[[str], Sequence[str]]


def rows(answers: Sequence[str | None], targets: Sequence[Any], units: Units) -> Floats:
    """One (edits, length of the reference, counted) per sample. None is as if each unit were missing; of
    several references the one with the smallest rate counts; a sample without one is left out."""
    result = np.zeros((len(targets), 3))
    for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
        given = None if answer is None else units(answer)
        counted = [_count(given, units(text)) for text in accepted(target)]
        if counted:
            result[i] = *min(counted, key=lambda one: one[0] / max(one[1], 1)), 1
    return result


def value(sums: Floats) -> Floats:
    """Edits over length of sums (..., 3); NaN without samples. Where all references are empty it is 0 without
    edits, else 1."""
    edits, length, n = sums[..., 0], sums[..., 1], sums[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(length > 0, edits / length, np.minimum(edits, 1.0))
    result: Floats = np.where(n > 0, rate, np.nan)
    return result


def _count(given: Sequence[str] | None, wanted: Sequence[str]) -> tuple[int, int]:
    return len(wanted) if given is None else distance(given, wanted), len(wanted)
