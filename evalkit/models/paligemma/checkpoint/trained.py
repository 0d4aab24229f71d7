"""`evalkit.yaml` beside a checkpoint: what it was trained with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from evalkit import conventions as known
from evalkit import strict_yaml
from evalkit.errors import ModelError, UserError
from evalkit.types import Conventions

FILE = "evalkit.yaml"


@dataclass(frozen=True, slots=True)
class Trained:
    """What a file says: the protocol, '' where it names none, and conventions that count more than it."""

    protocol: str = ""
    conventions: Conventions = field(default_factory=Conventions)


def beside(folder: Path) -> Trained:
    """What the file in a checkpoint's (or adapter's) folder says; nothing where there is none."""
    return read(folder / FILE) if (folder / FILE).is_file() else Trained()


def given(file: Path) -> Trained:
    """What the file of `--conventions` says. Raises ModelError as `read`."""
    if not file.is_file():
        raise ModelError(f"--conventions {file}: no such file; it holds lines like 'prompt_mask: causal'")
    return read(file)


def read(file: Path) -> Trained:
    """What a file says. Raises ModelError for one that cannot be read or says something unknown."""
    try:
        said = strict_yaml.read(file)
    except (UserError, ValueError, RecursionError, OverflowError) as error:
        raise ModelError(f"{file}: must hold lines like 'protocol: hf' or 'prompt_mask: causal'") from error
    try:
        return Trained(*known.read(said, str(file)))
    except UserError as error:
        raise ModelError(str(error)) from None


def over(base: Trained, more: Trained) -> Trained:
    """Both, where `more` counts more: an adapter's file over that of the weights below it."""
    return Trained(more.protocol or base.protocol, known.over(base.conventions, more.conventions))
