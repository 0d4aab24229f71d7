"""Weights that are no numbers: found while they are loaded."""

from __future__ import annotations

from pathlib import Path

import torch

from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint.contents import shown


def check(path: Path, name: str, values: torch.Tensor) -> None:
    """Raises ModelError if one of the numbers is NaN or infinite."""
    # A sum is three times as fast as looking at each number, and is not finite where one of them isn't.
    if torch.isfinite(values.sum(dtype=torch.float64 if values.dtype == torch.float64 else torch.float32)):
        return
    if torch.isfinite(values).all():  # large numbers alone
        return
    what = "NaN" if values.isnan().any() else "infinite numbers"
    raise ModelError(
        f"{path}: {shown(name)} holds {what}: the training has diverged, or the file is damaged; no "
        "precision mends it, take an earlier checkpoint or save it again"
    )
