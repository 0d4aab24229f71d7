"""Random weights in the shapes of PaliGemma 3B, made on the device: nothing is written, read or hashed. One
set serves all resolutions, which differ only in the tower's position table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks import models
from evalkit.images.prepare import Prepared
from evalkit.models.paligemma import PaliGemma
from evalkit.models.paligemma.checkpoint.device import fix_arithmetic
from evalkit.models.paligemma.checkpoint.info import CheckpointInfo
from evalkit.models.paligemma.checkpoint.loading import WINDOW
from evalkit.models.paligemma.checkpoint.safetensors import canonical
from evalkit.models.paligemma.engine.fast import FastEngine
from evalkit.models.paligemma.tokenizer import Prompter
from evalkit.types import ImageRef, Preparation

PATCH = 14


@dataclass(frozen=True)
class Shape:
    """Sizes of a model, as transformers' configs name them, and the resolutions that it is measured at."""

    family: int
    text: dict[str, Any]
    vision: dict[str, Any]
    rows: int  # of the embedding table
    sides: tuple[int, ...] = (224, 448, 896)


_SO400M = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
}  # fmt: skip
_SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}

SHAPES = {
    "PaliGemma 3B": Shape(1, {
        "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 18, "num_attention_heads": 8,
        "num_key_value_heads": 1, "head_dim": 256,
    }, _SO400M, 257_216),
    "PaliGemma 2 3B": Shape(2, {
        "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 256, "query_pre_attn_scalar": 256,
    }, _SO400M, 257_216, (224,)),
}  # fmt: skip
TOYS = {
    "PaliGemma 3B": Shape(1, {
        **_SMALL, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 8,
    }, _SMALL, 2048, (28, 56)),
    "PaliGemma 2 3B": Shape(2, {
        **_SMALL, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "query_pre_attn_scalar": 8,
    }, _SMALL, 2048, (28,)),
}  # fmt: skip
"""The same names at sizes for a CPU, for `--rehearse`."""


def skeleton(shape: Shape, device: torch.device, dtype: torch.dtype) -> Any:
    """transformers' model for the shape's smallest resolution, as transformers initialises it."""
    text = (transformers.GemmaConfig if shape.family == 1 else transformers.Gemma2Config)(
        **shape.text, vocab_size=shape.rows, pad_token_id=0, eos_token_id=1, bos_token_id=2
    )
    if shape.family == 2:
        text.sliding_window = WINDOW  # none, as in the reference
    config = transformers.PaliGemmaConfig(
        vision_config=transformers.SiglipVisionConfig(
            **shape.vision, image_size=shape.sides[0], patch_size=PATCH, vision_use_head=False,
            projection_dim=text.hidden_size,
        ),
        text_config=text,
        image_token_index=models.tokenizer().convert_tokens_to_ids("<image>"),
        projection_dim=text.hidden_size,
        hidden_size=text.hidden_size,
    )  # fmt: skip
    with device:
        model = transformers.AutoModelForImageTextToText.from_config(
            config, dtype=dtype, attn_implementation="sdpa" if shape.family == 1 else "eager"
        ).eval()
    return model.requires_grad_(False)


def build(shape: Shape, device: torch.device, dtype: torch.dtype, seed: int = 0) -> Any:
    """`skeleton` with the same weights for the same seed and device. They are larger than a usual
    initialisation, so that answers differ from prompt to prompt."""
    model = skeleton(shape, device, dtype)
    random = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.ndim > 1:
                # Of the table, less: it is the output's too, and every answer would repeat the prompt's end.
                wide = (0.5 if "embed_tokens" in name else 1.5) * weight[0].numel() ** -0.5
                weight.normal_(0, wide, generator=random)
    fix_arithmetic()
    return model


def position_table(like: torch.Tensor, side: int) -> torch.Tensor:
    """A random position table (patches, hidden) for images of `side` pixels, the same at every call. Width,
    precision and device are those of the table `like`."""
    random = torch.Generator(like.device).manual_seed(side)
    shape = ((side // PATCH) ** 2, like.shape[1])
    return torch.empty(shape, dtype=like.dtype, device=like.device).normal_(0, 0.02, generator=random)


def embeddings(model: Any) -> Any:
    """The embedding module of transformers' vision tower, whose layers versions nest differently."""
    tower = model.model.vision_tower
    return getattr(tower, "vision_model", tower).embeddings


def resize(model: Any, side: int) -> None:
    """Makes transformers' model take images of `side` pixels from now on."""
    place = embeddings(model)
    table = position_table(place.position_embedding.weight, side)
    place.position_embedding.weight = torch.nn.Parameter(table, requires_grad=False)
    place.position_embedding.num_embeddings = place.num_positions = place.num_patches = len(table)
    place.image_size = side
    place.position_ids = torch.arange(len(table), device=table.device)[None]


def describe(model: Any, shape: Shape, side: int) -> CheckpointInfo:
    """What evalkit would read from this model's files if there were any."""
    sizes = {canonical(name): tuple(p.shape) for name, p in model.named_parameters()}
    sizes[next(k for k in sizes if k.endswith("position_embedding.weight"))] = (
        (side // PATCH) ** 2,
        int(shape.vision["hidden_size"]),
    )
    return CheckpointInfo(
        path=Path("random weights"),
        family=shape.family,
        resolution=side,
        patch=PATCH,
        parameters=sum(int(np.prod(s)) for s in sizes.values()),
        dtype=str(model.dtype).removeprefix("torch."),
        vocabulary=shape.rows,
        image_token=int(model.config.image_token_id),
        eos=(1,),
        weights=(),
        tokenizer=(),
        processor=(),
        protocol="",
        shapes=sizes,
        window=None,
    )


class InMemory(PaliGemma):
    """evalkit's backend over an engine that is there already, with pictures made in memory."""

    def start(self, info: CheckpointInfo, engine: FastEngine) -> InMemory:
        """Takes the engine, as `load` would after reading a folder."""
        self.info = info
        self._prompter = Prompter(models.tokenizer())
        self._check()
        self._start(engine)
        return self

    @property
    def engine_(self) -> Any:
        """The engine."""
        return self._engine

    def ask(self, requests: Iterable[Any]) -> dict[str, tuple[int, ...]]:
        """The tokens of every answer, by id; every picture goes through the tower once."""
        self.engine_.memory.clear()
        return {p.id: p.tokens for p in self.predict(requests)}


def backend(engine: FastEngine, info: CheckpointInfo, **options: Any) -> InMemory:
    """The backend that answers with this engine at the resolution of `info`, in the engine's precision."""
    engine.image_tokens = info.image_tokens
    dtype = str(engine.dtype).removeprefix("torch.")
    made = InMemory(
        "random",
        device=str(engine.home),
        dtype=dtype,
        engine="fast",
        protocol="hf",
        prepare=picture,
        **options,
    )
    return made.start(info, engine)


def picture(ref: ImageRef, preparation: Preparation) -> Prepared:
    """The picture whose number is `ref.path`: noise, with the number in its first pixels."""
    side = preparation.resolution
    pixels = _noise(side).copy()
    pixels.reshape(-1)[:8] = np.frombuffer(int(ref.path).to_bytes(8, "little"), dtype=np.uint8)
    return Prepared(pixels, f"picture {ref.path}", (side, side))


_NOISE: dict[int, Any] = {}


def _noise(side: int) -> Any:
    if side not in _NOISE:
        _NOISE[side] = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return _NOISE[side]
