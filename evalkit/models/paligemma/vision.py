"""The SigLIP tower over fused weights, and a bounded memory of the features that it gave."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from evalkit.models.paligemma.attention import attend
from evalkit.models.paligemma.decoder import activation
from evalkit.models.paligemma.plain import normalise


@dataclass(slots=True)
class Block:
    """One encoder block's (weight, bias) pairs; `qkv` is (3 · hidden, hidden)."""

    first: Any
    qkv: tuple[torch.Tensor, torch.Tensor]
    out: tuple[torch.Tensor, torch.Tensor]
    second: Any
    up: tuple[torch.Tensor, torch.Tensor]
    down: tuple[torch.Tensor, torch.Tensor]


class Tower:
    """SigLIP and PaliGemma's projection. Takes over transformers' weights and empties its modules."""

    def __init__(self, tower: Any, projector: Any) -> None:
        tower = getattr(tower, "vision_model", tower)
        config, embeddings = tower.config, tower.embeddings
        self.heads = int(config.num_attention_heads)
        self.patch = int(embeddings.patch_size)
        kernel = embeddings.patch_embedding.weight  # (hidden, 3, patch, patch)
        self.embed = (kernel.permute(0, 2, 3, 1).flatten(1).contiguous(), embeddings.patch_embedding.bias)
        self.places: torch.Tensor = embeddings.position_embedding.weight
        self.activation = activation(tower.encoder.layers[0].mlp.activation_fn)
        self.blocks = [self._take(layer) for layer in tower.encoder.layers]
        self.last = tower.post_layernorm
        self.projection = _pair(projector.linear)
        self.compiled_block: Callable[[torch.Tensor, Block], torch.Tensor] | None = None  # instead of `block`
        self.dtype: torch.dtype = kernel.dtype
        self.home: torch.device = kernel.device

    def _take(self, layer: Any) -> Block:
        attention = layer.self_attn
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        qkv = torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts])
        attention.q_proj = attention.k_proj = attention.v_proj = None
        return Block(
            layer.layer_norm1, qkv, _pair(attention.out_proj), layer.layer_norm2,
            _pair(layer.mlp.fc1), _pair(layer.mlp.fc2),
        )  # fmt: skip

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (images, R, R, 3) to image tokens as the decoder gets them, (images, tokens, hidden)."""
        images, side, _, channels = pixels.shape
        grid, p = side // self.patch, self.patch
        # Cut while they are bytes; bytes cross to the device, floats are made there.
        patches = pixels.to(self.home).view(images, grid, p, grid, p, channels).transpose(2, 3)
        values = normalise(patches.reshape(images, grid * grid, -1)).to(self.dtype)
        x = F.linear(values, *self.embed) + self.places
        run = self.compiled_block or self.block
        for block in self.blocks:
            x = run(x, block)
        return F.linear(self.last(x), *self.projection)

    def block(self, x: torch.Tensor, block: Block) -> torch.Tensor:
        """One encoder block over (images, tokens, hidden)."""
        images, n, hidden = x.shape
        qkv = F.linear(block.first(x), *block.qkv).view(images, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        out = attend(qkv[0], qkv[1], qkv[2], (hidden // self.heads) ** -0.5)
        x = F.linear(out.transpose(1, 2).reshape(images, n, hidden), *block.out).add_(x)
        h = self.activation(F.linear(block.second(x), *block.up))
        return F.linear(h, *block.down).add_(x)


def _pair(linear: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return linear.weight, linear.bias


def _away(features: torch.Tensor) -> torch.Tensor:
    """In host memory. From a GPU without waiting for it: who copies it back on the same stream finds it."""
    if features.device.type != "cuda":
        return features.to("cpu")
    pinned = torch.empty_like(features, device="cpu", pin_memory=True)
    return pinned.copy_(features, non_blocking=True)


class Memory:
    """Features by key, the least recently used dropped beyond `limit` bytes.

    Up to `limit` bytes stay on the device; what falls out there goes to host memory, up to `spill` bytes.
    """

    def __init__(self, limit: int, spill: int = 0) -> None:
        self.limit, self.spill = limit, spill
        self.hits = self.misses = 0
        self._near: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._far: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._bytes = [0, 0]

    def __len__(self) -> int:
        return len(self._near) + len(self._far)

    def __contains__(self, key: str) -> bool:
        return key in self._near or key in self._far

    @property
    def bytes(self) -> int:
        """Held now, on the device and in host memory."""
        return sum(self._bytes)

    def get(self, key: str) -> torch.Tensor | None:
        """Features (tokens, hidden) on the device they came from or, spilled, on the host."""
        found = self._near.get(key)
        if found is not None:
            self._near.move_to_end(key)
        else:
            found = self._far.get(key)
            if found is not None:
                self._far.move_to_end(key)
        self.hits += found is not None
        self.misses += found is None
        return found

    def put(self, key: str, features: torch.Tensor) -> None:
        """Keeps features; those alone larger than the limits are not kept."""
        if key in self:
            return
        self._near[key] = features
        self._bytes[0] += features.nbytes
        while self._bytes[0] > self.limit:
            old, dropped = self._near.popitem(last=False)
            self._bytes[0] -= dropped.nbytes
            if self.spill:
                self._far[old] = _away(dropped)
                self._bytes[1] += dropped.nbytes
        while self._bytes[1] > self.spill:
            _, dropped = self._far.popitem(last=False)
            self._bytes[1] -= dropped.nbytes

    def clear(self) -> None:
        """Lets everything go, as when the device runs out of memory."""
        self._near.clear()
        self._far.clear()
        self._bytes = [0, 0]
