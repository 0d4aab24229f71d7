"""torch.compile for the decode step and the vision tower: one layer is compiled, and used for all layers."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from evalkit.errors import ModelError
from evalkit.models.paligemma.engine.decoder import Decoder, Layer
from evalkit.models.paligemma.engine.linear import Linear
from evalkit.models.paligemma.engine.vision import Tower

VARIANTS = 64  # compiled at most, of one function


def compile_layers(decoder: Decoder, tower: Tower) -> None:
    """Sets both to be compiled when they first run. Raises ModelError if torch.compile does not work here."""
    _check(decoder.home)
    parts: list[Any] = [*decoder.layers, *tower.blocks]
    for part in parts:
        for each in dataclasses.fields(part):
            held = getattr(part, each.name)
            if isinstance(held, Linear):
                held.unpack()
    # A layer has about six variants (one row or more, fixed or any lengths), of each engine in this process.
    # Beyond torch's limit of 8 it would run uncompiled: other numbers, by what ran before. `fullgraph` makes
    # that, and every part that cannot be compiled, an error.
    torch._dynamo.config.recompile_limit = max(VARIANTS, torch._dynamo.config.recompile_limit)
    compiled = torch.compile(decoder.masked_layer, fullgraph=True)

    def layer(
        x: torch.Tensor, layer: Layer, at: torch.Tensor, turns: torch.Tensor, *rest: Any
    ) -> torch.Tensor:
        found: torch.Tensor = compiled(x, layer, at, torch.view_as_real(turns), *rest)
        return found

    decoder.compiled_layer = layer
    tower.compiled_block = torch.compile(tower.block, fullgraph=True)


def _check(device: torch.device) -> None:
    """Compiles two operations as a test, since a missing compiler shows only at the first use."""
    try:
        torch.compile(lambda x: x.mul(2).add(1))(torch.ones(8, device=device))
    except Exception as error:  # dynamo, inductor, triton and the system's compiler each have their own
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        needs = "triton" if device.type == "cuda" else "a C++ compiler (g++, or CXX)"
        raise ModelError(
            f"--compile: torch.compile does not work here ({why}); on {device.type} it needs {needs}; "
            "or leave --compile out"
        ) from None
