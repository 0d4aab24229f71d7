"""The Gemma and Gemma 2 decoders over fused weights: prefill, decode steps, a preallocated key/value
cache. Knows no image, no tokenizer and no sampling rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from evalkit.models.paligemma.engine import fused
from evalkit.models.paligemma.engine.attention import attend, causal_blocks
from evalkit.models.paligemma.engine.linear import Activation, Linear, gelu

MLP_ELEMENTS = {"cpu": 1 << 19}  # of the widest activation held at once: bounds memory, stays in the cache
GPU_MLP_ELEMENTS = 1 << 27  # still thousands of rows: products are not slower, and a GPU with 8 GB has room
MLP_ROWS = 256  # at least so many rows at once, or reading the weights would dominate
EVERYTHING = 1 << 20  # tokens: a sliding window longer than any prompt
ROOM = 16  # decode steps that a cache grows by when their number is not known


@dataclass(slots=True)
class Layer:
    """One block's weights. Norm weights are float32 with Gemma's 1 added; the q and k rows of `qkv` are
    ordered so that the two rows of a rotary pair are neighbours."""

    before_attention: torch.Tensor
    qkv: Linear  # hidden to (heads + 2 · kv heads) · head
    out: Linear
    after_attention: torch.Tensor | None  # Gemma 2
    before_mlp: torch.Tensor
    gate: Linear  # activation included
    up: Linear
    down: Linear
    after_mlp: torch.Tensor | None  # Gemma 2


@dataclass(slots=True, weakref_slot=True)
class State:
    """The key/value cache of a batch being decoded, one place per row. The first `len(lengths)` places are
    used; row b has read `lengths[b]` tokens, and everything after them is garbage."""

    keys: torch.Tensor  # (layers, places, kv heads, room, head)
    values: torch.Tensor
    first: int  # rotary position of a prompt's first token
    lengths: list[int]

    @property
    def places(self) -> int:
        return int(self.keys.shape[1])

    @property
    def room(self) -> int:
        return int(self.keys.shape[3])

    def reserve(self, places: int, room: int) -> None:
        """Makes room for at least `places` rows of `room` tokens."""
        if places > self.places or room > self.room:
            self._move(list(range(len(self.lengths))), max(places, self.places), max(room, self.room))

    def keep(self, rows: Sequence[int]) -> None:
        """Makes row i continue from what row `rows[i]` has read; may change the number of rows."""
        if list(rows) != list(range(len(self.lengths))):
            self._move(rows, max(len(rows), self.places), self.room)
            self.lengths = [self.lengths[r] for r in rows]

    def retire(self, rows: Sequence[int]) -> list[int]:
        """Frees the rows' places by moving the last rows into them. Returns the rows that are left."""
        left = list(range(len(self.lengths)))
        for row in sorted(rows, reverse=True):
            left[row] = left[-1]
            left.pop()
        moved = [(old, new) for new, old in enumerate(left) if old != new]
        longest = max((self.lengths[r] for r in left), default=0)
        for old, new in moved:  # old rows are beyond the new end, so none is overwritten before it is read
            self.keys[:, new, :, :longest] = self.keys[:, old, :, :longest]
            self.values[:, new, :, :longest] = self.values[:, old, :, :longest]
        self.lengths = [self.lengths[r] for r in left]
        return left

    def _move(self, rows: Sequence[int], places: int, room: int) -> None:
        longest = max((self.lengths[r] for r in rows), default=0)
        index = torch.tensor(rows, dtype=torch.long, device=self.keys.device)
        if not rows:  # or memory would hold both
            self.keys, self.values = self.keys[:, :0].clone(), self.values[:, :0].clone()
        moved = []
        for old in (self.keys, self.values):
            new = old.new_zeros((old.shape[0], places, old.shape[2], room, old.shape[4]))
            for layer in range(len(old)):  # one at a time, to save memory: indexing makes another copy
                new[layer, : len(rows), :, :longest] = old[layer, index, :, :longest]
            moved.append(new)
        self.keys, self.values = moved


class Decoder:
    """A Gemma decoder. Rows of equal length whose prefix is fully bidirectional need no mask.

    Takes over the weights of transformers' `language_model` and empties it, so memory holds them once.
    `kv_dtype` rounds keys (after rotation) and values to that precision in every attention call, as
    big_vision's bfloat16 cache does.
    """

    def __init__(self, language: Any, head: Any, kv_dtype: torch.dtype | None = None) -> None:
        config = language.config
        self.heads = int(config.num_attention_heads)
        self.kv_heads = int(config.num_key_value_heads)
        self.size = int(getattr(config, "head_dim", None) or config.hidden_size // self.heads)
        self.eps = float(config.rms_norm_eps)
        self.table: torch.Tensor = language.embed_tokens.weight
        self.dtype: torch.dtype = self.table.dtype
        self.home: torch.device = self.table.device
        self.scale = torch.tensor(config.hidden_size**0.5, device="cpu").to(self.home, self.dtype)
        self.head = Linear(head.weight, pack=head.weight is not self.table)
        self.norm = _norm(language.norm)
        self.kv_dtype = kv_dtype if kv_dtype not in (None, self.dtype) else None
        attention = language.layers[0].self_attn
        self.scaling = float(attention.scaling)
        self.attention_cap: float | None = getattr(config, "attn_logit_softcapping", None)
        windows = [getattr(layer.self_attn, "sliding_window", None) for layer in language.layers]
        self.sliding = [w is not None and w < EVERYTHING for w in windows]  # layers that see only a window
        self.window = min((int(w) for w in windows if w is not None), default=EVERYTHING)
        self.activation = activation(language.layers[0].mlp.act_fn)
        wide = 2 * int(config.intermediate_size)
        self.mlp_rows = max(MLP_ROWS, MLP_ELEMENTS.get(self.home.type, GPU_MLP_ELEMENTS) // wide)
        self.frequencies: torch.Tensor = language.rotary_emb.inv_freq.float().cpu()
        self.rotation_scale = float(language.rotary_emb.attention_scaling)
        self.layers = [self._take(layer) for layer in language.layers]
        cached = 2 * len(self.layers) * self.kv_heads * self.size
        # of memory that a prompt takes: measured on a GPU, keys and values included
        self.token_bytes = (16 * int(config.hidden_size) + cached) * self.dtype.itemsize
        self.fused = False  # norms, rotation and the cache by kernels of their own
        self.compiled_layer: Callable[..., torch.Tensor] | None = None  # instead of `masked_layer`
        self._turns = torch.empty((0, self.size // 2), dtype=torch.complex64, device=self.home)

    def _take(self, layer: Any) -> Layer:
        """One block's weights, fused; transformers' own are freed one by one."""
        attention, mlp = layer.self_attn, layer.mlp
        order = torch.arange(self.size, device=self.home).view(2, -1).T.reshape(-1)
        turned = [
            module.weight.view(-1, self.size, module.weight.shape[1])[:, order].flatten(0, 1)
            for module in (attention.q_proj, attention.k_proj)
        ]
        qkv = Linear(torch.cat([*turned, attention.v_proj.weight]))
        attention.q_proj = attention.k_proj = attention.v_proj = None
        out, attention.o_proj = Linear(attention.o_proj.weight), None
        gate, mlp.gate_proj = Linear(mlp.gate_proj.weight, then=self.activation), None
        up, mlp.up_proj = Linear(mlp.up_proj.weight), None
        down, mlp.down_proj = Linear(mlp.down_proj.weight), None
        second = getattr(layer, "pre_feedforward_layernorm", None)
        return Layer(
            before_attention=_norm(layer.input_layernorm),
            qkv=qkv,
            out=out,
            after_attention=_norm(layer.post_attention_layernorm) if second is not None else None,
            before_mlp=_norm(second if second is not None else layer.post_attention_layernorm),
            gate=gate,
            up=up,
            down=down,
            after_mlp=_norm(layer.post_feedforward_layernorm) if second is not None else None,
        )

    # --- calls ---

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids (batch, n) to the first layer's input (batch, n, hidden)."""
        return F.embedding(ids, self.table) * self.scale

    def begin(self, places: int, room: int, first: int) -> State:
        """An empty cache of `places` rows of `room` tokens; `first` is a prompt's first position."""
        shape = (len(self.layers), places, self.kv_heads, room, self.size)
        # Zeros and not uninitialised memory: a masked value is multiplied by 0, and 0 · NaN is NaN.
        keys = torch.zeros(shape, dtype=self.dtype, device=self.home)
        return State(keys, torch.zeros_like(keys), first, [])

    def reserve(self, state: State, places: int, room: int) -> None:
        """As `State.reserve`."""
        state.reserve(places, room)

    def prefill(self, x: torch.Tensor, state: State, free: int | None = None, last: int = 1) -> torch.Tensor:
        """Reads prefixes (batch, length, hidden) as new rows of the state. The first `free` tokens attend to
        each other and the others to what is before them; None: all attend to all.

        Returns the `last` positions' hidden states (batch, last, hidden).
        """
        batch, length, _ = x.shape
        start, first = len(state.lengths), state.first
        end = start + batch
        state.reserve(end, length)
        turns = self.turns(first + length)[first : first + length, None]
        for i, layer in enumerate(self.layers):
            keys, values = state.keys[i, start:end, :, :length], state.values[i, start:end, :, :length]
            q = self._project(self._norm(x, layer.before_attention), layer, turns, keys, values)
            begin = 0
            if i + 1 == len(self.layers):  # the last layer: only the last positions' output is needed
                x, q, begin = x[:, -last:], q[:, -last:], length - last
            if free is None:
                attended = self._attend(q, keys, values, None)
            else:
                window = self.window if self.sliding[i] else length
                parts = [
                    self._attend(q[:, a - begin : b - begin], keys[:, :, :b], values[:, :, :b], seen)
                    for a, b, seen in causal_blocks(length, free, window, begin, self.home)
                ]
                attended = torch.cat(parts, dim=1)
            x = self._finish(x, attended, layer)
        state.lengths = [*state.lengths, *[length] * batch]
        return self._norm(x[:, -last:], self.norm)

    def step(self, tokens: torch.Tensor, state: State) -> torch.Tensor:
        """Reads one new token per row (batch,). Returns the hidden states after them, (batch, hidden)."""
        lengths, n = state.lengths, len(state.lengths)
        longest = max(lengths) + 1
        if longest > state.room:
            state.reserve(n, longest + ROOM - 1)
        table = self.turns(state.first + longest)
        state.lengths = [m + 1 for m in lengths]
        if min(lengths) + 1 < longest:  # rows of different lengths
            at = torch.tensor(lengths, device=self.home)
            keys, values = state.keys[:, :n, :, :longest], state.values[:, :n, :, :longest]
            return self.masked_step(tokens.to(self.home), at, table[at + state.first], keys, values)
        x = self.embed(tokens.to(self.home)[:, None])
        turns = table[state.first + longest - 1]
        for i, layer in enumerate(self.layers):
            begin = max(0, longest - self.window) if self.sliding[i] else 0
            keys, values = state.keys[i, :n, :, begin:longest], state.values[i, :n, :, begin:longest]
            h = self._norm(x, layer.before_attention)
            q = self._project(h, layer, turns, keys[:, :, -1:], values[:, :, -1:])
            x = self._finish(x, self._attend(q, keys, values, None), layer)
        return self._norm(x[:, 0], self.norm)

    def masked_step(
        self,
        tokens: torch.Tensor,
        at: torch.Tensor,
        turns: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> torch.Tensor:
        """Reads one token per row (batch,) into positions `at` (batch,) of a cache (layers, batch, kv heads,
        room, head), rotated by `turns` (batch, size / 2); each token sees those before it.

        Depends on nothing but tensors and their shapes, so that it can be recorded and replayed.
        Returns the hidden states after the tokens, (batch, hidden).
        """
        x = self.embed(tokens[:, None])
        turns = turns[:, None, None]
        places = torch.arange(keys.shape[3], device=self.home)
        seen = (places <= at[:, None])[:, None, None]
        near = seen & (places > at[:, None] - self.window)[:, None, None] if any(self.sliding) else seen
        run = self.compiled_layer or self.masked_layer
        for i, layer in enumerate(self.layers):
            x = run(x, layer, at, turns, keys[i], values[i], near if self.sliding[i] else seen)
        return self._norm(x[:, 0], self.norm)

    def masked_layer(
        self,
        x: torch.Tensor,
        layer: Layer,
        at: torch.Tensor,
        turns: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        seen: torch.Tensor,
    ) -> torch.Tensor:
        """One layer of `masked_step`; `seen` (batch, 1, 1, room) is true where a key may be seen."""
        q = self._project(self._norm(x, layer.before_attention), layer, turns, keys, values, at)
        return self._finish(x, self._attend(q, keys, values, seen), layer)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states (batch, hidden) to float32 logits (batch, vocabulary), not capped."""
        return self.head(hidden).float()

    # --- parts of a layer ---

    def _norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if self.fused:
            return fused.add_norm(x, None, weight, self.eps)[1]
        return F.rms_norm(x.float(), weight.shape, weight, self.eps).to(self.dtype)

    def _add_norm(
        self, x: torch.Tensor, more: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x + more, and its norm."""
        if self.fused:
            return fused.add_norm(x, more, weight, self.eps)
        x = x + more
        return x, self._norm(x, weight)

    def _project(
        self,
        h: torch.Tensor,
        layer: Layer,
        turns: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        at: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Rotated queries (batch, n, heads, size) of normed states (batch, n, hidden). Their rotated keys and
        values go to the first n places of a cache (batch, kv heads, room, size), or for n = 1 to places
        `at` (batch,)."""
        qkv = layer.qkv(h)
        if self.fused and self.kv_dtype is None:
            return fused.place(qkv, turns, keys, values, self.heads, at)
        parts = qkv.view(*h.shape[:2], -1, self.size)
        turned = self._rotate(parts[:, :, : -self.kv_heads], turns)
        q, k, v = turned[:, :, : self.heads], turned[:, :, self.heads :], parts[:, :, -self.kv_heads :]
        if self.kv_dtype is not None:
            k, v = k.to(self.kv_dtype), v.to(self.kv_dtype)
        k, v = k.transpose(1, 2), v.transpose(1, 2)
        if at is None:
            keys.copy_(k)
            values.copy_(v)
        else:
            rows = torch.arange(len(h), device=self.home)
            keys[rows, :, at], values[rows, :, at] = k[:, :, 0].to(keys.dtype), v[:, :, 0].to(values.dtype)
        return q

    def turns(self, n: int) -> torch.Tensor:
        """e^(i · position · frequency) for at least `n` positions from 0: (≥ n, size / 2)."""
        if len(self._turns) < n:
            rows = 1 << max(9, (n - 1).bit_length())  # with spare rows, or each step would compute it again
            angles = torch.arange(rows, dtype=torch.float32, device="cpu")[:, None] * self.frequencies
            turns = torch.complex(angles.cos(), angles.sin()) * self.rotation_scale
            self._turns = turns.to(self.home)
        return self._turns

    def _rotate(self, x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        """Rotary embedding of neighbouring pairs, in float32: (batch, n, heads, size). `turns` are complex,
        or pairs of real numbers under torch.compile, which cannot compile complex ones."""
        halves = x.float().unflatten(-1, (-1, 2))
        if not turns.is_complex():
            (a, b), (c, s) = halves.unbind(-1), turns.unbind(-1)
            return torch.stack([a * c - b * s, a * s + b * c], dim=-1).flatten(-2).to(self.dtype)
        pairs = torch.view_as_complex(halves)
        return torch.view_as_real(pairs * turns).flatten(-2).to(self.dtype)

    def _attend(
        self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Attention of queries (batch, n, heads, size) to keys and values (batch, kv heads, m, size): (batch,
        n, heads · size).

        Query heads that share a key head are folded into the sequence, so that no key is repeated.
        `mask` (batch or 1, 1, n or 1, m) is true where a key may be seen.
        """
        batch, n, heads, size = q.shape
        group = heads // self.kv_heads
        if mask is not None and mask.shape[2] > 1:
            mask = mask.repeat_interleave(group, dim=2)
        folded = q.view(batch, n, self.kv_heads, group, size).transpose(1, 2)
        folded = folded.reshape(batch, self.kv_heads, n * group, size)
        out = attend(folded, keys, values, self.scaling, mask, self.attention_cap)
        out = out.view(batch, self.kv_heads, n, group, size).transpose(1, 2)
        return out.reshape(batch, n, heads * size)

    def _finish(self, x: torch.Tensor, attended: torch.Tensor, layer: Layer) -> torch.Tensor:
        """The rest of a layer: projection, residuals and the gated MLP, which takes some rows at a time."""
        h = layer.out(attended)
        if layer.after_attention is not None:
            h = self._norm(h, layer.after_attention)
        x, h = self._add_norm(x, h, layer.before_mlp)
        x, h = x.flatten(0, 1), h.flatten(0, 1)
        if len(x) <= self.mlp_rows:  # no loop: torch.compile would compile it for each number of rows
            out = x + self._mlp(h, layer)
        else:
            out = torch.empty_like(x)
            for start in range(0, len(x), self.mlp_rows):
                some = slice(start, start + self.mlp_rows)
                torch.add(x[some], self._mlp(h[some], layer), out=out[some])
        return out.view(*attended.shape[:2], -1)

    def _mlp(self, h: torch.Tensor, layer: Layer) -> torch.Tensor:
        """The gated MLP of some normed rows (n, hidden), and the norm after it."""
        h = layer.down(layer.gate(h).mul_(layer.up(h)))
        return h if layer.after_mlp is None else self._norm(h, layer.after_mlp)


def activation(module: Any) -> Activation:
    """transformers' activation module as a function that returns a new tensor."""
    probe = torch.linspace(-4, 4, 9, device="cpu")
    if torch.equal(module(probe), gelu(probe)):
        return gelu
    return lambda x: module(x).clone()


def _norm(module: Any) -> torch.Tensor:
    """Gemma's norm weight plus 1: checkpoints store it without."""
    return 1.0 + module.weight.detach().float()
