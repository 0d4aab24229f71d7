"""Weights that are no numbers: found while they are loaded."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import safe_open

from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint.contents import shown
from evalkit.models.paligemma.checkpoint.safetensors import canonical


def check(path: Path, name: str, values: torch.Tensor) -> None:
    """Raises ModelError if one of the numbers is NaN or infinite."""
    wrong = problem(path, name, values)
    if wrong:
        raise ModelError(wrong)


def check_files(files: Collection[Path], codes: Collection[str]) -> None:
    """Raises ModelError for such a number in files that a library read, whose layers no longer show it.
    `codes`: weights, by canonical name, that are no numbers themselves."""
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in sorted(file.keys()):
                if canonical(name) in codes:
                    continue
                values = file.get_tensor(name)
                if values.is_floating_point():
                    check(path, name, values)


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
