"""Weights that are no numbers: found while they are loaded."""

from __future__ import annotations

from pathlib import Path

import torch

from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint.contents import shown


def check(path: Path, name: str, values: torch.Tensor) -> None:
    """Raises ModelError if one of the numbers is NaN or infinite."""
    wrong = problem(path, name, values)
    if wrong:
        raise ModelError(wrong)


def problem(path: Path, name: str, values: torch.Tensor) -> str:
    """The sentence about numbers of which one is NaN or infinite; '' where all are finite."""
    # A sum is three times as fast as looking at each number, and is not finite where one of them isn't.
    wide = torch.float64 if values.dtype == torch.float64 else torch.float32
    if torch.isfinite(values.sum(dtype=wide)) or torch.isfinite(values).all():  # or large numbers alone
        return ""
    what = "NaN" if values.isnan().any() else "infinite numbers"
    return (
        f"{path}: {shown(name)} holds {what}: the training has diverged, or the file is damaged; no "
        "precision mends it, take an earlier checkpoint or save it again"
    )
