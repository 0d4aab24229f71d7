"""Which of transformers' weights each array of a big_vision checkpoint becomes, and how its axes are moved.
Reads no file; follows transformers' convert_paligemma(2)_weights_to_hf.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
Turn = Callable[[Array], Array]
Targets = tuple[tuple[str, Turn], ...]
"""(transformers' name, how to make its array) for everything that one big_vision array becomes."""


def _same(w: Array) -> Array:
    return w


def _turned(w: Array) -> Array:
    return w.T


def _flat(w: Array) -> Array:
    return w.reshape(-1)


def _heads_out(w: Array) -> Array:
    """(width, heads, head) to (heads · head, width)."""
    return w.reshape(w.shape[0], -1).T


def _heads_in(w: Array) -> Array:
    """(heads, head, width) to (width, heads · head)."""
    return w.reshape(-1, w.shape[-1]).T


def _einsum(w: Array) -> Array:
    """(heads, width, head) to (heads · head, width)."""
    return w.transpose(0, 2, 1).reshape(-1, w.shape[1])


ONCE: dict[str, Targets] = {
    "img/embedding/kernel": (
        ("vision_tower.vision_model.embeddings.patch_embedding.weight", lambda w: w.transpose(3, 2, 0, 1)),
    ),
    "img/embedding/bias": (("vision_tower.vision_model.embeddings.patch_embedding.bias", _same),),
    "img/pos_embedding": (
        ("vision_tower.vision_model.embeddings.position_embedding.weight", lambda w: w[0]),
    ),
    "img/Transformer/encoder_norm/scale": (("vision_tower.vision_model.post_layernorm.weight", _same),),
    "img/Transformer/encoder_norm/bias": (("vision_tower.vision_model.post_layernorm.bias", _same),),
    "img/head/kernel": (("multi_modal_projector.linear.weight", _turned),),
    "img/head/bias": (("multi_modal_projector.linear.bias", _same),),
    "llm/embedder/input_embedding": (("language_model.model.embed_tokens.weight", _same),),
    "llm/final_norm/scale": (("language_model.model.norm.weight", _same),),
}
ATTENTION = "MultiHeadDotProductAttention_0"
VISION: dict[str, Targets] = {
    "LayerNorm_0/scale": (("layer_norm1.weight", _same),),
    "LayerNorm_0/bias": (("layer_norm1.bias", _same),),
    "LayerNorm_1/scale": (("layer_norm2.weight", _same),),
    "LayerNorm_1/bias": (("layer_norm2.bias", _same),),
    "MlpBlock_0/Dense_0/kernel": (("mlp.fc1.weight", _turned),),
    "MlpBlock_0/Dense_0/bias": (("mlp.fc1.bias", _same),),
    "MlpBlock_0/Dense_1/kernel": (("mlp.fc2.weight", _turned),),
    "MlpBlock_0/Dense_1/bias": (("mlp.fc2.bias", _same),),
    **{
        f"{ATTENTION}/{ours}/kernel": ((f"self_attn.{theirs}.weight", _heads_out),)
        for ours, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"))
    },
    **{
        f"{ATTENTION}/{ours}/bias": ((f"self_attn.{theirs}.bias", _flat),)
        for ours, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"))
    },
    f"{ATTENTION}/out/kernel": (("self_attn.out_proj.weight", _heads_in),),
    f"{ATTENTION}/out/bias": (("self_attn.out_proj.bias", _same),),
}
TEXT: dict[str, Targets] = {
    "attn/q_einsum/w": (("self_attn.q_proj.weight", _einsum),),
    "attn/kv_einsum/w": (
        ("self_attn.k_proj.weight", lambda w: _einsum(w[0])),
        ("self_attn.v_proj.weight", lambda w: _einsum(w[1])),
    ),
    "attn/attn_vec_einsum/w": (("self_attn.o_proj.weight", _heads_in),),
    "mlp/gating_einsum": (
        ("mlp.gate_proj.weight", lambda w: w[0].T),
        ("mlp.up_proj.weight", lambda w: w[1].T),
    ),
    "mlp/linear": (("mlp.down_proj.weight", _turned),),
    "pre_attention_norm/scale": (("input_layernorm.weight", _same),),
}
NORMS: dict[int, dict[str, Targets]] = {
    1: {"pre_ffw_norm/scale": (("post_attention_layernorm.weight", _same),)},
    2: {
        "post_attention_norm/scale": (("post_attention_layernorm.weight", _same),),
        "pre_ffw_norm/scale": (("pre_feedforward_layernorm.weight", _same),),
        "post_ffw_norm/scale": (("post_feedforward_layernorm.weight", _same),),
    },
}


def stacks(family: int) -> Iterator[tuple[str, str, Targets]]:
    """(key, prefix of transformers' name with `{}` for the layer, targets) of all stacked arrays."""
    for key, targets in VISION.items():
        yield f"img/Transformer/encoderblock/{key}", "vision_tower.vision_model.encoder.layers.{}.", targets
    for key, targets in (TEXT | NORMS[family]).items():
        yield f"llm/layers/{key}", "language_model.model.layers.{}.", targets
