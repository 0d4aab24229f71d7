"""The tiny PaliGemma: its configuration, first weights, dense labels and optimiser.

Knows transformers' classes; nothing of prompts or schedules.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evalkit.demo import world

PATCH, GRID, WIDTH = 28, 8, 160
LOC0 = "<loc0000>"


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """Plain attention in the input's precision with the query heads of a kv head in one product:
    on a CPU in bfloat16 three times as fast, backwards included, as what transformers offers."""
    b, heads, n, d = query.shape
    groups = key.shape[1]
    q = (query * scaling).reshape(b, groups, heads // groups * n, d)
    scores = (q @ key.transpose(2, 3)).view(b, heads, n, -1)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = torch.softmax(scores, -1).to(value.dtype).view(b, groups, heads // groups * n, -1)
    return (weights @ value).view(b, heads, n, d).transpose(1, 2), None


def fresh(vocabulary: int, image_token: int) -> Any:
    """An untrained model that attends by `attend`."""
    from transformers import (
        AttentionInterface,
        AttentionMaskInterface,
        PaliGemmaForConditionalGeneration,
    )
    from transformers.masking_utils import eager_mask

    AttentionInterface.register("demo", attend)
    AttentionMaskInterface.register("demo", eager_mask)  # without it there would be no mask
    whole = config(vocabulary, image_token)
    for part in (whole, whole.vision_config, whole.text_config):
        part._attn_implementation = "demo"
    return PaliGemmaForConditionalGeneration(whole)


def config(vocabulary: int, image_token: int) -> Any:
    """The `PaliGemmaConfig`: SigLIP 4 x 160 at patch 28, Gemma 4 x 160 with one kv head."""
    from transformers import PaliGemmaConfig

    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": WIDTH,
        "intermediate_size": 480,
        "num_hidden_layers": 4,
        "num_attention_heads": 5,
        "image_size": world.SIZE,
        "patch_size": PATCH,
        "vision_use_head": False,
        "projection_dim": WIDTH,
    }
    text = {
        "model_type": "gemma",
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "intermediate_size": 400,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 40,
        "max_position_embeddings": 2048,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "tie_word_embeddings": True,
    }
    whole = PaliGemmaConfig(
        vision_config=vision,
        text_config=text,
        hidden_size=WIDTH,
        projection_dim=WIDTH,
        image_token_index=image_token,
        bos_token_id=2,
        eos_token_id=1,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    whole.image_token_id = image_token
    return whole


def patches(images: Tensor) -> Tensor:
    """(B, S, S, 3) -> (B, tokens, 3 * PATCH * PATCH), laid out as the patch kernel is."""
    b, side = images.shape[0], images.shape[1] // PATCH
    x = images.view(b, side, PATCH, side, PATCH, 3).permute(0, 1, 3, 5, 2, 4)
    return x.reshape(b, side * side, -1)


def see(tower: Any, pixels: Tensor) -> Tensor:
    """The tower's last hidden states for uint8 `patches`; equal to its own forward, as one matrix
    product is faster here than a strided convolution. Half steps up to 127.5 are exact in bf16."""
    from torch.nn.functional import linear

    kernel = tower.embeddings.patch_embedding
    centred = pixels.to(torch.bfloat16).sub_(127.5)
    hidden = linear(
        centred.to(
            torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else kernel.weight.dtype
        ),
        kernel.weight.flatten(1) / 127.5,
        kernel.bias,
    )
    hidden = hidden + tower.embeddings.position_embedding.weight
    return tower.post_layernorm(tower.encoder(inputs_embeds=hidden).last_hidden_state)  # type: ignore[no-any-return]


def start(model: Any, images: Tensor, loc0: int) -> None:
    """First weights: whitened principal components of patches as the kernel, sin-cos positions,
    Fourier features of the coordinate as rows of the loc tokens."""
    tower = model.model.vision_tower
    tower = getattr(tower, "vision_model", tower)
    with torch.no_grad():
        rows = patches(images).flatten(0, 1).float() / 127.5 - 1
        mean = rows.mean(0)
        values, vectors = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
        top = vectors[:, -WIDTH:] / (values[-WIDTH:].sqrt() + 0.3)
        kernel = tower.embeddings.patch_embedding
        kernel.weight.copy_(top.T.reshape(kernel.weight.shape))
        kernel.bias.copy_(-(mean @ top))
        tower.embeddings.position_embedding.weight.copy_(_positions(WIDTH))
        table = model.model.language_model.embed_tokens.weight
        table.normal_(std=0.08)
        table[loc0 : loc0 + 1024] = _fourier(WIDTH) * 0.08


def _positions(width: int) -> Tensor:
    """2-D sin-cos table (GRID * GRID, width)."""
    rate = 1 / 40 ** (torch.arange(width // 4) / (width // 4))
    y, x = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    waves = [f(p.reshape(-1, 1) * rate * 2) for p in (y, x) for f in (torch.sin, torch.cos)]
    return torch.cat(waves, 1)


def _fourier(width: int) -> Tensor:
    """(1024, width) features of unit scale that vary smoothly with the coordinate."""
    at = torch.linspace(0, 1, 1024)[:, None]
    rate = torch.pi * torch.logspace(0, math.log10(48), width // 2)
    return torch.cat([torch.sin(at * rate), torch.cos(at * rate)], 1) * 2**0.5


class Dense(nn.Module):
    """Throw-away head: shape, colour, character and box of the thing a patch lies on."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = (len(world.SHAPES) + 1, len(world.COLORS) + 1, len(world.GLYPHS) + 2, 4)
        self.head = nn.Linear(WIDTH, sum(self.parts))

    def forward(self, hidden: Tensor, labels: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Loss, and per-patch (shape, colour, character accuracy, box error px) on things."""
        from torch.nn.functional import cross_entropy, smooth_l1_loss

        *logits, place = self.head(hidden.float()).split(self.parts, dim=-1)
        on = labels[..., 0] > 0
        written = labels[..., 2] > 1
        loss = sum(cross_entropy(lo.flatten(0, 1), labels[..., i].flatten()) for i, lo in enumerate(logits))
        if written.any():
            loss = loss + cross_entropy(logits[2][written], labels[..., 2][written])
        loss = loss + 10 * smooth_l1_loss(place[on], boxes[on], beta=0.05)
        right = [
            (lo.argmax(-1) == labels[..., i])[w].float().mean()
            for i, (lo, w) in enumerate(zip(logits, (on, on, written), strict=True))
        ]
        error = (place[on] - boxes[on]).detach().abs().mean() * PATCH * 2
        return loss, torch.stack([*right, error]).detach()


def dense_labels(scene: world.Scene) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """(tokens, 3) class numbers and (tokens, 4) box offsets from the patch centre in double
    patches; a patch belongs to the thing whose disc covers most of it, if any covers a quarter."""
    labels = np.zeros((GRID * GRID, 3), dtype=np.int64)
    boxes = np.zeros((GRID * GRID, 4), dtype=np.float32)
    best = np.full((GRID, GRID), 0.25)
    sub = (np.arange(GRID * 4) + 0.5) * (PATCH / 4)
    shapes, colors, glyphs = list(world.SHAPES), list(world.COLORS), list(world.GLYPHS)
    centre = (np.arange(GRID) + 0.5) * PATCH
    cy, cx = (c.ravel() for c in np.meshgrid(centre, centre, indexing="ij"))
    for t in scene.things:
        near = (sub[:, None] - t.y) ** 2 + (sub[None, :] - t.x) ** 2 <= t.r**2
        cover = near.reshape(GRID, 4, GRID, 4).mean((1, 3))
        mine = (cover > best).ravel()
        best = np.maximum(best, cover)
        labels[mine] = (
            shapes.index(t.shape) + 1,
            colors.index(t.color) + 1,
            glyphs.index(t.text) + 2 if t.text else 1,
        )
        x0, y0, x1, y1 = world.box(t)
        offsets = np.stack([y0 - cy, x0 - cx, y1 - cy, x1 - cx], 1) / (2 * PATCH)
        boxes[mine] = offsets[mine]
    return labels, boxes


def _orthogonal(g: Tensor) -> Tensor:
    """Five Newton-Schulz steps towards the nearest orthogonal matrix (Muon, Jordan 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    flip = x.shape[0] > x.shape[1]
    x = x.T if flip else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        m = x @ x.T
        x = a * x + (b * m + c * m @ m) @ x
    return (x.T if flip else x).to(g.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal, scaled to the update size AdamW has."""

    def __init__(self, params: Any, lr: float, momentum: float = 0.95, decay: float = 0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    def step(self, closure: Any = None) -> None:
        """One step for every matrix that has a gradient."""
        with torch.no_grad():
            for group in self.param_groups:
                self._move(group)

    def _move(self, group: Any) -> None:
        for p in group["params"]:
            if p.grad is None:
                continue
            slow = self.state[p].setdefault("slow", torch.zeros_like(p))
            slow.lerp_(p.grad, 1 - group["momentum"])
            update = _orthogonal(p.grad.lerp(slow, group["momentum"]))
            p.mul_(1 - group["lr"] * group["decay"])
            p.add_(update, alpha=-group["lr"] * 0.2 * max(p.shape) ** 0.5)


def optimisers(named: list[tuple[str, nn.Parameter]], lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the rest, the patch kernel at a twentieth."""
    matrix, kernel, rest = [], [], []
    for name, p in named:
        if "patch_embedding" in name:
            kernel.append(p)
        elif p.ndim == 2 and "layers." in name:
            matrix.append(p)
        else:
            rest.append(p)
    adam = torch.optim.AdamW(
        [{"params": rest, "lr": lr}, {"params": kernel, "lr": lr / 20}],
        betas=(0.9, 0.98),
        weight_decay=0.0,
    )
    return [Muon(matrix, lr), adam]
