"""The SigLIP vision tower over fused weights, and a bounded cache of its features."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from evalkit.models.paligemma.engine.attention import attend
from evalkit.models.paligemma.engine.decoder import activation
from evalkit.models.paligemma.engine.linear import Linear
from evalkit.models.paligemma.memory import is_out_of_memory


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 to float32 in [-1, 1]: -1 + (x / 255) · 2, in the order of big_vision's value_range."""
    return pixels.to(torch.float32, copy=True).div_(255.0).mul_(2.0).sub_(1.0)


@dataclass(slots=True)
class Block:
    """One encoder block: two norms and four products; `qkv` gives 3 · hidden, `up` has the activation."""

    first: Any
    qkv: Linear
    out: Linear
    second: Any
    up: Linear
    down: Linear


class Tower:
    """SigLIP and PaliGemma's projection. Takes over transformers' weights and empties its modules."""

    def __init__(self, tower: Any, projector: Any) -> None:
        tower = getattr(tower, "vision_model", tower)
        config, embeddings = tower.config, tower.embeddings
        self.heads = int(config.num_attention_heads)
        self.patch = int(embeddings.patch_size)
        kernel = embeddings.patch_embedding.weight  # (hidden, 3, patch, patch)
        self.embed = Linear(kernel.permute(0, 2, 3, 1).flatten(1), embeddings.patch_embedding.bias)
        self.places: torch.Tensor = embeddings.position_embedding.weight
        self.activation = activation(tower.encoder.layers[0].mlp.activation_fn)
        self.blocks = [self._take(layer) for layer in tower.encoder.layers]
        self.last = tower.post_layernorm
        self.projection = Linear(projector.linear.weight, projector.linear.bias)
        self.compiled_block: Callable[[torch.Tensor, Block], torch.Tensor] | None = None  # instead of `block`
        self.dtype: torch.dtype = kernel.dtype
        self.home: torch.device = kernel.device

    def _take(self, layer: Any) -> Block:
        attention, mlp = layer.self_attn, layer.mlp
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        qkv = Linear(torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts]))
        attention.q_proj = attention.k_proj = attention.v_proj = None
        out = Linear(attention.out_proj.weight, attention.out_proj.bias)
        up = Linear(mlp.fc1.weight, mlp.fc1.bias, self.activation)
        down = Linear(mlp.fc2.weight, mlp.fc2.bias)
        attention.out_proj = mlp.fc1 = mlp.fc2 = None
        return Block(layer.layer_norm1, qkv, out, layer.layer_norm2, up, down)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (images, R, R, 3) to image tokens as the decoder gets them, (images, tokens, hidden)."""
        images, side, _, channels = pixels.shape
        grid, p = side // self.patch, self.patch
        # Cut and copied to the device as bytes, which are smaller than floats.
        patches = pixels.to(self.home).view(images, grid, p, grid, p, channels).transpose(2, 3)
        values = normalise(patches.reshape(images, grid * grid, -1)).to(self.dtype)
        x = self.embed(values) + self.places
        run = self.compiled_block or self.block
        for block in self.blocks:
            x = run(x, block)
        return self.projection(self.last(x))

    def block(self, x: torch.Tensor, block: Block) -> torch.Tensor:
        """One encoder block over (images, tokens, hidden)."""
        images, n, hidden = x.shape
        qkv = block.qkv(block.first(x)).view(images, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        out = attend(qkv[0], qkv[1], qkv[2], (hidden // self.heads) ** -0.5)
        x = block.out(out.transpose(1, 2).reshape(images, n, hidden)).add_(x)
        return block.down(block.up(block.second(x))).add_(x)


def _to_host(features: torch.Tensor) -> torch.Tensor | None:
    """A copy in host memory, pinned if from a GPU; None if there is no room. From a GPU without waiting: a
    later copy back uses the same stream."""
    if features.device.type != "cuda":
        return features.to("cpu")
    try:
        pinned = torch.empty_like(features, device="cpu", pin_memory=True)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None
    return pinned.copy_(features, non_blocking=True)


def _host_bytes(features: torch.Tensor) -> int:
    """What a copy takes in host memory: torch rounds pinned memory up to a power of two."""
    size = int(features.nbytes)
    return size if features.device.type != "cuda" else 1 << (size - 1).bit_length()


class Memory:
    """A cache of features by key. Drops the least recently used.

    Up to `limit` bytes stay on the device; what is dropped there moves to host memory, up to `spill` bytes.
    """

    def __init__(self, limit: int, spill: int = 0) -> None:
        self.limit, self.spill = limit, spill
        self.hits = self.misses = 0
        self._near: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._far: OrderedDict[str, tuple[torch.Tensor, int]] = OrderedDict()  # with the bytes that it takes
        self._bytes = [0, 0]

    def __len__(self) -> int:
        return len(self._near) + len(self._far)

    def __contains__(self, key: str) -> bool:
        return key in self._near or key in self._far

    @property
    def bytes(self) -> int:
        """Bytes held now, on the device and in host memory."""
        return sum(self._bytes)

    def get(self, key: str) -> torch.Tensor | None:
        """Features (tokens, hidden), on their device or, if moved there, in host memory; None if unknown."""
        found = self._near.get(key)
        if found is not None:
            self._near.move_to_end(key)
        else:
            found, _ = self._far.get(key, (None, 0))
            if found is not None:
                self._far.move_to_end(key)
        self.hits += found is not None
        self.misses += found is None
        return found

    def put(self, key: str, features: torch.Tensor) -> None:
        """Stores features, unless they alone are larger than the limits."""
        if key in self:
            return
        self._near[key] = features
        self._bytes[0] += features.nbytes
        while self._bytes[0] > self.limit:
            old, dropped = self._near.popitem(last=False)
            self._bytes[0] -= dropped.nbytes
            if self.spill:
                self._move(old, dropped)
        while self._bytes[1] > self.spill:
            _, (_, size) = self._far.popitem(last=False)
            self._bytes[1] -= size

    def _move(self, key: str, features: torch.Tensor) -> None:
        far, size = _to_host(features), _host_bytes(features)
        if far is None:  # the host has no more pinned memory than this
            self.spill = self._bytes[1]
            return
        self._far[key] = far, size
        self._bytes[1] += size

    def clear(self) -> None:
        """Frees everything, when the device runs out of memory."""
        self._near.clear()
        self._far.clear()
        self._bytes = [0, 0]
