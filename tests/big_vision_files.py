"""Writes a checkpoint of transformers as big_vision's `.npz`: the inverse of what evalkit reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tiny


def bfloat16(array: np.ndarray) -> np.ndarray:
    """As numpy saves a bfloat16 that it does not know: two bytes of anything."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return rounded.astype(np.uint16).view("V2")


def arrays(folder: Path, heads: int = 4, groups: int = 1, vision_heads: int = 2) -> dict[str, np.ndarray]:
    """big_vision's arrays by key, from a checkpoint folder."""
    w = {k: v.float().numpy() for k, v in tiny.weights(folder).items()}
    out: dict[str, Any] = {}
    v, layers = "vision_tower.encoder.layers.{}.", range(2)
    width = w["vision_tower.post_layernorm.bias"].shape[0]
    head = width // vision_heads

    def stack(template: str, change: Any = lambda x: x) -> np.ndarray:
        return np.stack([change(w[template.format(i)]) for i in layers])

    out["img/embedding/kernel"] = w["vision_tower.embeddings.patch_embedding.weight"].transpose(2, 3, 1, 0)
    out["img/embedding/bias"] = w["vision_tower.embeddings.patch_embedding.bias"]
    out["img/pos_embedding"] = w["vision_tower.embeddings.position_embedding.weight"][None]
    out["img/Transformer/encoder_norm/scale"] = w["vision_tower.post_layernorm.weight"]
    out["img/Transformer/encoder_norm/bias"] = w["vision_tower.post_layernorm.bias"]
    out["img/head/kernel"] = w["multi_modal_projector.linear.weight"].T
    out["img/head/bias"] = w["multi_modal_projector.linear.bias"]
    b = "img/Transformer/encoderblock/"
    for n in (0, 1):
        out[f"{b}LayerNorm_{n}/scale"] = stack(v + f"layer_norm{n + 1}.weight")
        out[f"{b}LayerNorm_{n}/bias"] = stack(v + f"layer_norm{n + 1}.bias")
        out[f"{b}MlpBlock_0/Dense_{n}/kernel"] = stack(v + f"mlp.fc{n + 1}.weight", np.transpose)
        out[f"{b}MlpBlock_0/Dense_{n}/bias"] = stack(v + f"mlp.fc{n + 1}.bias")
    a = f"{b}MultiHeadDotProductAttention_0/"
    for ours, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
        out[f"{a}{ours}/kernel"] = stack(
            v + f"self_attn.{theirs}.weight", lambda x: x.T.reshape(width, vision_heads, head)
        )
        out[f"{a}{ours}/bias"] = stack(
            v + f"self_attn.{theirs}.bias", lambda x: x.reshape(vision_heads, head)
        )
    out[f"{a}out/kernel"] = stack(
        v + "self_attn.out_proj.weight", lambda x: x.T.reshape(vision_heads, head, width)
    )
    out[f"{a}out/bias"] = stack(v + "self_attn.out_proj.bias")
    t = "language_model.model.layers.{}."
    out["llm/embedder/input_embedding"] = w["language_model.model.embed_tokens.weight"]
    out["llm/final_norm/scale"] = w["language_model.model.norm.weight"]
    hidden = out["llm/final_norm/scale"].shape[0]

    def split(n: int) -> Any:
        return lambda x: x.reshape(n, -1, hidden).transpose(0, 2, 1)

    out["llm/layers/attn/q_einsum/w"] = stack(t + "self_attn.q_proj.weight", split(heads))
    keys, values = (stack(t + f"self_attn.{n}_proj.weight", split(groups)) for n in "kv")
    out["llm/layers/attn/kv_einsum/w"] = np.stack([keys, values], axis=1)
    out["llm/layers/attn/attn_vec_einsum/w"] = stack(
        t + "self_attn.o_proj.weight", lambda x: x.T.reshape(heads, -1, hidden)
    )
    gate, up = (stack(t + f"mlp.{n}_proj.weight", np.transpose) for n in ("gate", "up"))
    out["llm/layers/mlp/gating_einsum"] = np.stack([gate, up], axis=1)
    out["llm/layers/mlp/linear"] = stack(t + "mlp.down_proj.weight", np.transpose)
    out["llm/layers/pre_attention_norm/scale"] = stack(t + "input_layernorm.weight")
    second = stack(t + "post_attention_layernorm.weight")
    if "language_model.model.layers.0.pre_feedforward_layernorm.weight" in w:
        out["llm/layers/post_attention_norm/scale"] = second
        out["llm/layers/pre_ffw_norm/scale"] = stack(t + "pre_feedforward_layernorm.weight")
        out["llm/layers/post_ffw_norm/scale"] = stack(t + "post_feedforward_layernorm.weight")
    else:
        out["llm/layers/pre_ffw_norm/scale"] = second
    return {k: np.ascontiguousarray(x) for k, x in out.items()}


def write(file: Path, content: dict[str, np.ndarray], prefix: str = "params/", packed: bool = False) -> Path:
    save = np.savez_compressed if packed else np.savez
    save(file, **{prefix + key: array for key, array in content.items()})
    return file
