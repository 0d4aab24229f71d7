"""A small PaliGemma in plain PyTorch, one image and one prompt at a time, with its own processor and its own
sampling: what `module:` is for. Shares no code with evalkit or transformers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """(heads, length, width) each; `mask` is True where a query may look."""
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1) @ v


class SiglipBlock(nn.Module):
    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.self_attn = nn.ModuleDict(
            {n: nn.Linear(width, width) for n in ("q_proj", "k_proj", "v_proj", "out_proj")}
        )
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, inner), "fc2": nn.Linear(inner, width)})

    def forward(self, x: Tensor) -> Tensor:
        y, a = self.layer_norm1(x), self.self_attn
        q, k, v = (
            a[n](y).unflatten(-1, (self.heads, -1)).transpose(0, 1) for n in ("q_proj", "k_proj", "v_proj")
        )
        x = x + a["out_proj"](attend(q, k, v).transpose(0, 1).flatten(1))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.layer_norm2(x)), approximate="tanh"))


class Siglip(nn.Module):
    def __init__(self, c: dict) -> None:
        super().__init__()
        width, side = c["hidden_size"], c["image_size"] // c["patch_size"]
        self.embeddings = nn.ModuleDict(
            {
                "patch_embedding": nn.Conv2d(3, width, c["patch_size"], c["patch_size"]),
                "position_embedding": nn.Embedding(side * side, width),
            }
        )
        blocks = [
            SiglipBlock(width, c["intermediate_size"], c["num_attention_heads"])
            for _ in range(c["num_hidden_layers"])
        ]
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(blocks)})
        self.post_layernorm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        """(3, side, side) in [-1, 1] to (tokens, width)."""
        x = self.embeddings["patch_embedding"](pixels[None])[0].flatten(1).T
        x = x + self.embeddings["position_embedding"].weight
        for block in self.encoder["layers"]:
            x = block(x)
        return self.post_layernorm(x)


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * (1 + self.weight)


class GemmaBlock(nn.Module):
    def __init__(self, c: dict) -> None:
        super().__init__()
        width, inner = c["hidden_size"], c["intermediate_size"]
        self.heads, self.groups, self.head = (
            c["num_attention_heads"],
            c["num_key_value_heads"],
            c["head_dim"],
        )
        self.input_layernorm, self.post_attention_layernorm = Norm(width), Norm(width)
        wide, narrow = self.heads * self.head, self.groups * self.head
        self.self_attn = nn.ModuleDict(
            {
                n: nn.Linear(width, w, bias=False)
                for n, w in (("q_proj", wide), ("k_proj", narrow), ("v_proj", narrow))
            }
        )
        self.self_attn["o_proj"] = nn.Linear(wide, width, bias=False)
        self.mlp = nn.ModuleDict({n: nn.Linear(width, inner, bias=False) for n in ("gate_proj", "up_proj")})
        self.mlp["down_proj"] = nn.Linear(inner, width, bias=False)

    def rotate(self, x: Tensor) -> Tensor:
        half = self.head // 2
        angle = torch.arange(x.shape[1])[:, None] * 10_000 ** (-torch.arange(half) / half)
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y, a = self.input_layernorm(x), self.self_attn
        q, k, v = (
            a[n](y).unflatten(-1, (-1, self.head)).transpose(0, 1) for n in ("q_proj", "k_proj", "v_proj")
        )
        times = self.heads // self.groups
        k, v = self.rotate(k).repeat_interleave(times, 0), v.repeat_interleave(times, 0)
        x = x + a["o_proj"](attend(self.rotate(q), k, v, mask).transpose(0, 1).flatten(1))
        y = self.post_attention_layernorm(x)
        gate = F.gelu(self.mlp["gate_proj"](y), approximate="tanh")
        return x + self.mlp["down_proj"](gate * self.mlp["up_proj"](y))


class Gemma(nn.Module):
    def __init__(self, c: dict) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(GemmaBlock(c) for _ in range(c["num_hidden_layers"]))
        self.norm = Norm(c["hidden_size"])

    def forward(self, image: Tensor, ids: Tensor, prefix: int) -> Tensor:
        """Logits after the last of `ids`; the first `prefix` positions (image included) see each other."""
        x = torch.cat([image, self.embed_tokens(ids) * self.embed_tokens.embedding_dim**0.5])
        place = torch.arange(len(x))
        mask = (place[None] <= place[:, None]) | (place[None] < prefix)
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x[-1]) @ self.embed_tokens.weight.T


class FromScratch(nn.Module):
    """One checkpoint folder (PaliGemma 1); greedy, or top-p at a temperature."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        config = json.loads((Path(folder) / "config.json").read_text())
        self.side = config["vision_config"]["image_size"]
        self.vision_tower, self.language_model = (
            Siglip(config["vision_config"]),
            Gemma(config["text_config"]),
        )
        self.projector = nn.Linear(
            config["vision_config"]["hidden_size"], config["text_config"]["hidden_size"]
        )
        weights = load_file(Path(folder) / "model.safetensors")
        names = {
            "language_model.model.": "language_model.",
            "multi_modal_projector.linear.": "projector.",
            "vision_tower.vision_model.": "vision_tower.",  # as most published checkpoints have it
        }
        for old, new in names.items():
            weights = {k.replace(old, new): v for k, v in weights.items()}
        self.load_state_dict({k: v.float() for k, v in weights.items()})
        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))

    @torch.inference_mode()
    def generate(
        self, image: Image.Image, prompt: str, length: int, temperature: float, top_p: float, seed: int
    ) -> str:
        resized = image.resize((self.side, self.side), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 127.5 - 1
        seen = self.projector(self.vision_tower(pixels))
        ids = [2, *self.tokenizer.encode(prompt + "\n", add_special_tokens=False).ids]
        random, start = torch.Generator().manual_seed(seed), len(ids)
        while len(ids) < start + length:
            logits = self.language_model(seen, torch.tensor(ids), len(seen) + start)
            token = int(logits.argmax())
            if temperature > 0:
                shares, order = (logits / temperature).softmax(-1).sort(descending=True)
                shares = shares * (shares.cumsum(-1) - shares < top_p)
                token = int(order[torch.multinomial(shares, 1, generator=random)])
            if token == 1:
                break
            ids.append(token)
        return self.tokenizer.decode(ids[start:], skip_special_tokens=False)
