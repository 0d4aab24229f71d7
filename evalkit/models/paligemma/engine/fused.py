"""Several small operations of a decoder layer as one kernel of Triton's, for a GPU: there a small one costs
the host as much time as a large one. Numbers are float32 inside and rounded where the separate operations
round them. Knows no model."""

from __future__ import annotations

import functools
import logging

import torch

try:  # comes with torch's builds for GPUs
    import triton
    import triton.language as tl
except ImportError:
    triton = None

log = logging.getLogger("evalkit")

if triton is not None:
    # No types but constexpr: Triton would look up their names on the device.

    @triton.jit
    def _add_norm(
        x,
        more,
        weight,
        total,
        out,
        width,
        eps,
        ADD: tl.constexpr,
        SPAN: tl.constexpr,
    ):
        at = tl.arange(0, SPAN)
        inside = at < width
        row = tl.program_id(0).to(tl.int64) * width
        value = tl.load(x + row + at, mask=inside, other=0.0).to(tl.float32)
        if ADD:
            value += tl.load(more + row + at, mask=inside, other=0.0).to(tl.float32)
            rounded = value.to(total.dtype.element_ty)
            tl.store(total + row + at, rounded, mask=inside)
            value = rounded.to(tl.float32)
        scale = tl.rsqrt(tl.sum(value * value, axis=0) / width + eps)
        value = value * scale * tl.load(weight + at, mask=inside, other=0.0)
        tl.store(out + row + at, value.to(out.dtype.element_ty), mask=inside)

    @triton.jit
    def _place(
        qkv, turns, at, q, keys, values, n,
        at_row, turn_row, turn_n, key_row, key_head, key_n,
        value_row, value_head, value_n,
        HEADS: tl.constexpr, KV: tl.constexpr, HALF: tl.constexpr, SPAN: tl.constexpr, AT: tl.constexpr,
    ):  # fmt: skip
        token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
        row, i = token // n, token % n
        pair = tl.arange(0, SPAN)
        inside = pair < HALF
        source = qkv + (token * (HEADS + 2 * KV) + head) * (2 * HALF) + 2 * pair
        a, b = tl.load(source, mask=inside), tl.load(source + 1, mask=inside)
        place = i
        if AT:
            place = tl.load(at + row * at_row)
        if head < HEADS + KV:
            turn = turns + row * turn_row + i * turn_n + 2 * pair
            c, s = tl.load(turn, mask=inside), tl.load(turn + 1, mask=inside)
            x, y = a.to(tl.float32), b.to(tl.float32)
            a, b = (x * c - y * s).to(a.dtype), (x * s + y * c).to(b.dtype)
        if head < HEADS:
            to = q + (token * HEADS + head) * (2 * HALF) + 2 * pair
        elif head < HEADS + KV:
            to = keys + row * key_row + (head - HEADS) * key_head + place * key_n + 2 * pair
        else:
            to = values + row * value_row + (head - HEADS - KV) * value_head + place * value_n + 2 * pair
        tl.store(to, a, mask=inside)
        tl.store(to + 1, b, mask=inside)


def add_norm(
    x: torch.Tensor, more: torch.Tensor | None, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x + more, its RMS norm times `weight` (hidden,) in float32), both in x's precision, for (..., hidden);
    x itself without `more`."""
    x = x.contiguous()
    width, out = x.shape[-1], torch.empty_like(x)
    total = x if more is None else torch.empty_like(x)
    given = x if more is None else more.contiguous()
    span = triton.next_power_of_2(width)
    warps = 4 if span <= 2048 else 8
    with torch.cuda.device_of(x):  # Triton starts a kernel on the thread's GPU, whatever the tensors' is
        _add_norm[(x.numel() // width,)](
            x, given, weight, total, out, width, eps, ADD=more is not None, SPAN=span, num_warps=warps
        )
    return total, out


def place(
    qkv: torch.Tensor,
    turns: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    heads: int,
    at: torch.Tensor | None = None,
) -> torch.Tensor:
    """Rotates queries and keys and writes keys and values into the cache; returns the queries (batch, n,
    heads, size).

    `qkv` (batch, n, (heads + 2 · kv heads) · size) with rotary pairs as neighbours, `turns` complex and
    broadcast to (batch, n, 1, size / 2), `keys` and `values` (batch, kv heads, room, size): token i of a row
    goes to place i, or to place `at` (batch,) of its row.
    """
    batch, n, _ = qkv.shape
    kv, size = keys.shape[1], keys.shape[3]
    qkv = qkv.contiguous()
    q = torch.empty((batch, n, heads, size), dtype=qkv.dtype, device=qkv.device)
    turn = torch.view_as_real(turns.expand(batch, n, 1, size // 2))
    with torch.cuda.device_of(qkv):
        _place[(batch * n, heads + 2 * kv)](
            qkv, turn, at if at is not None else q, q, keys, values, n,
            at.stride(0) if at is not None else 0,
            *turn.stride()[:2], *keys.stride()[:3], *values.stride()[:3],
            HEADS=heads, KV=kv, HALF=size // 2, SPAN=triton.next_power_of_2(size // 2), AT=at is not None,
            num_warps=1,
        )  # fmt: skip
    return q


@functools.cache
def works(home: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernels run on this device and give what the separate operations give: tried once."""
    if triton is None:
        return False
    try:
        return _right(home, dtype)
    except Exception as error:  # triton, its compiler and the driver each have their own
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        log.warning("fused kernels are off: %s", why)
        return False


def _right(home: torch.device, dtype: torch.dtype) -> bool:
    """Compares both kernels with torch's own operations, on small numbers; logs a warning if they differ."""
    random = torch.Generator("cpu").manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random, device="cpu").to(home, dtype)

    near = 4 * torch.finfo(dtype).eps
    x, more, weight = draw(5, 3, 48), draw(5, 3, 48), draw(48).float()
    total, normed = add_norm(x, more, weight, 1e-6)
    wanted = torch.nn.functional.rms_norm((x + more).float(), weight.shape, weight, 1e-6).to(dtype)
    good = torch.equal(total, x + more) and torch.allclose(normed, wanted, near, near)
    qkv, turns = draw(2, 3, 4 * 16), torch.polar(draw(3, 1, 8).float().abs(), draw(3, 1, 8).float())
    at = torch.tensor([[0, 1], [0, 4]], device=home)[:, 1]  # as in a step's inputs, not one after the other
    for n, where in ((3, None), (1, at)):
        keys, values = draw(2, 1, 6, 16), draw(2, 1, 6, 16)
        some = qkv[:, :n].view(2, n, 4, 16)
        pairs = torch.view_as_complex(some[:, :, :3].float().unflatten(-1, (-1, 2)))
        turned = torch.view_as_real(pairs * turns[:n]).flatten(-2).to(dtype)
        wanted_keys, wanted_values = keys.clone(), values.clone()
        for row in range(2):
            for i in range(n):
                slot = i if where is None else int(where[row])
                wanted_keys[row, 0, slot], wanted_values[row, 0, slot] = turned[row, i, 2], some[row, i, 3]
        q = place(qkv[:, :n], turns[:n], keys, values, 2, where)
        good &= torch.allclose(q, turned[:, :, :2], near, near)
        good &= torch.allclose(keys, wanted_keys, near, near) and torch.equal(values, wanted_values)
    if not good:
        log.warning("fused kernels are off: they gave other numbers than torch's operations")
    return bool(good)
