"""Attention over a whole prefix or a cache: by torch's fused kernel where that is fastest; soft-capped for
Gemma 2."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

# Attention scores held at once without the fused kernel: bounds memory, stays near a CPU's cache.
SCORES = {"cpu": 1 << 22}
GPU_SCORES = 1 << 24  # large enough that kernel launches do not dominate: a GPU with 8 GB has room for it
ALONE = {"cpu"}  # devices that compute one row at a time without the fused kernel
MANY = 32  # from so many queries on, bfloat16 products are faster on a CPU
CAUSAL_ROWS = 256  # queries of one mask: bounds its memory and skips the keys after them


def attend(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scale: float,
    mask: torch.Tensor | None = None,
    cap: float | None = None,
) -> torch.Tensor:
    """softmax(cap · tanh(scale · q keysᵀ / cap)) values, all shaped (batch, heads, n, size).

    `mask` (batch or 1, 1, n or 1, m) is true where a key may be seen. On a CPU in bfloat16, torch's
    fused kernel multiplies in float32 and takes three times as long as products in bfloat16. Those round the
    scores to bfloat16 before the softmax, as transformers' eager attention does.
    """
    plain = cap is None and not (q.dtype is torch.bfloat16 and q.device.type == "cpu" and q.shape[2] >= MANY)
    if plain:
        return F.scaled_dot_product_attention(q, keys, values, mask, scale=scale)
    out = torch.empty_like(q)
    most, wide = SCORES.get(q.device.type, GPU_SCORES), q.shape[1] * keys.shape[2]
    step = max(1, most // wide)
    if q.shape[2] < MANY:  # decoding: all rows at once
        out.copy_(_written(q, keys, values, scale, mask, cap))
        return out
    if mask is not None:
        mask = mask.expand(q.shape[0], -1, q.shape[2], -1)
    # On a CPU one row at a time: the same shapes whatever the batch, and they fit into the cache.
    together = 1 if q.device.type in ALONE else max(1, most // (wide * q.shape[2]))
    for row in range(0, q.shape[0], together):
        part = slice(row, row + together)
        seen = None if mask is None else mask[part]
        for start in range(0, q.shape[2], step):
            some = part, slice(None), slice(start, start + step)
            out[some] = _written(
                q[some], keys[part], values[part], scale, None if seen is None else seen[:, :, some[2]], cap
            )
    return out


def _written(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scale: float,
    mask: torch.Tensor | None,
    cap: float | None,
) -> torch.Tensor:
    scores = torch.matmul(q, keys.transpose(-1, -2))
    scores = scores.mul_(scale) if cap is None else scores.float().mul_(scale / cap).tanh_().mul_(cap)
    if mask is not None:
        scores.masked_fill_(~mask, float("-inf"))
    return torch.matmul(torch.softmax(scores, dim=-1).to(values.dtype), values)


def causal_blocks(
    length: int, free: int, window: int, begin: int, home: torch.device
) -> Iterator[tuple[int, int, torch.Tensor | None]]:
    """The queries from `begin` on in blocks [a, b), which see no key from b on, and their masks (1, 1, b - a,
    b), None for everything before b. See `Decoder.prefill`; a causal query sees the last `window` keys."""
    if begin < free:
        yield begin, free, None
    for a in range(max(free, begin), length, CAUSAL_ROWS):
        b = min(length, a + CAUSAL_ROWS)
        query, key = torch.arange(a, b, device=home)[:, None], torch.arange(b, device=home)
        yield a, b, ((key <= query) & (key > query - window))[None, None]
