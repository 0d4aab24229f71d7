"""Resolves a model's name to paths: its weights, and the adapter to merge into them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint import hub, lora


@dataclass(frozen=True, slots=True)
class Found:
    """Where the weights are, the adapter to merge into them, and the name of the base."""

    weights: Path
    adapter: lora.Adapter | None
    base: str


def find(model: str, revision: str | None, adapter: str | None, base: str | None) -> Found:
    """Finds what the options name; `model` may be an adapter itself, with `base` or the base that it names.

    Raises ModelError for options that exclude each other, and for what cannot be found.
    """
    path = hub.resolve(model, revision)
    if not lora.is_adapter(path):
        if base is not None:
            raise ModelError(f"{model}: base={base}: needs an adapter as --model; this is not one")
        return Found(
            path,
            lora.inspect(hub.resolve(adapter, what="the folder of an adapter")) if adapter else None,
            model,
        )
    if adapter is not None:
        raise ModelError(f"{model}: is an adapter itself; give its base as --model with --adapter")
    chosen = lora.inspect(path)
    named = base or chosen.base
    if not named:
        raise ModelError(f"{model}: is an adapter that names no base; add --model_args base=FOLDER")
    try:
        return Found(hub.resolve(named, None if base else chosen.revision), chosen, named)
    except ModelError as error:
        if base:
            raise ModelError(f"{model}: the base that was given: {error}") from None
        raise ModelError(
            f"{model}: is an adapter of {named}, which cannot be found ({error}); "
            "add --model_args base=FOLDER"
        ) from None


def called_after(spec: str) -> str:
    """A checkpoint's name in tables and folder names: the last part of its path or hub id."""
    name = _plain(Path(spec.rstrip("/")).name).strip("-.").removesuffix(".npz")
    if spec.startswith((".", "/")) and name in ("", "checkpoint"):
        return _plain("-".join(Path(spec).resolve().parts[-2:]))
    return name


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.\-]+", "-", text)
