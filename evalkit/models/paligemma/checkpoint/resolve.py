"""Which folders a model's name means: its weights, and the adapter that goes on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint import info, lora


@dataclass(frozen=True, slots=True)
class Found:
    """Where the weights lie, the adapter to merge into them, and how its base was called."""

    weights: Path
    adapter: lora.Adapter | None
    base: str


def find(model: str, revision: str | None, adapter: str | None, base: str | None) -> Found:
    """What the options name; `model` may itself be an adapter, which names its base or is given one.

    Raises ModelError for options that do not go together, and for what is not to be had.
    """
    path = info.resolve(model, revision)
    if not lora.is_adapter(path):
        if base is not None:
            raise ModelError(f"{model}: base={base}: goes with an adapter as --model; this is none")
        return Found(path, lora.inspect(info.resolve(adapter)) if adapter else None, model)
    if adapter is not None:
        raise ModelError(f"{model}: is an adapter itself; give its base as --model with --adapter")
    chosen = lora.inspect(path)
    named = base or chosen.base
    if not named:
        raise ModelError(f"{model}: is an adapter that names no base; add --model_args base=FOLDER")
    try:
        return Found(info.resolve(named, None if base else chosen.revision), chosen, named)
    except ModelError as error:
        raise ModelError(
            f"{model}: is an adapter of {named}, which is not to be had ({error}); "
            "add --model_args base=FOLDER"
        ) from None
