"""What the tensors of a checkpoint say about it beyond their numbers: refuses what is not PaliGemma's plain
weights, with the cause, and names what it has no place for. Reads no file, does not import torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint.safetensors import DTYPES, Header, canonical
from evalkit.models.paligemma.checkpoint.settings import Settings

TABLE, HEAD = "language_model.embed_tokens.weight", "lm_head.weight"
PATCHES = "vision_tower.embeddings.patch_embedding.weight"
POSITIONS = "vision_tower.embeddings.position_embedding.weight"
SHOWN = 5  # kinds of tensors that a sentence names

WRAPPED = (
    (r"(^|\.)_orig_mod\.", "torch.compile", "save what is inside: model._orig_mod.save_pretrained(FOLDER)"),
    (r"(^|\.)_fsdp_wrapped_module\.", "FSDP", "save a full state dict (FULL_STATE_DICT)"),
    (
        r"(^|\.)_checkpoint_wrapped_module\.",
        "checkpoint_wrapper",
        "save the model from before it was wrapped",
    ),
    (r"^_forward_module\.", "Lightning Fabric", "save what is inside: model.module.save_pretrained(FOLDER)"),
    (r"^module\.", "DDP or DeepSpeed", "save what is inside: model.module.save_pretrained(FOLDER)"),
)
"""A part of a tensor's name, who puts it there, and what to do."""
OF_PEFT = (
    (r"(^|[._])lora_", "LoRA matrices"),
    (
        r"\.(ia3_l|hada_[wt]\d|lokr_[wt]\d|oft_|boft_|vera_lambda|vblora_|randlora_|hra_|trainable_tokens_)"
        r"|(^|\.)(prompt_encoder|prompt_embeddings|adaption_)",
        "parts of an adapter",
    ),
    (r"\.modules_to_save\.|\.original_module\.", "a module twice, as the base has it and as it was trained"),
    (r"\.base_layer\.", "layers as peft wraps them, without their adapter"),
)
"""A part of a tensor's name, and what such tensors are."""
QUANTISED = re.compile(
    r"\.(SCB|weight_format|(nested_)?absmax|(nested_)?quant_map|quant_state\..+|qweight|qzeros|g_idx|scales?|"
    r"biases|zeros|zero_point|(weight|input|output|[qkv])_(scale|scale_inv|zero_point|packed|shape|g_idx)(_\d)?)$"
    r"|\.weight\.(absmax|quant_.+|nested_.+|_data|scale|zero_point)"
)
BUFFERS = re.compile(r"(^|\.)(position_ids|(original_)?inv_freq)$")  # computed anew by every version


def refuse(where: Path, found: Sequence[Header]) -> None:
    """Raises ModelError, with cause and remedy, for tensors that are wrapped, unmerged, quantised, of whole
    numbers, or given twice."""
    names = [name for one in found for name in one.tensors]
    _refuse_wrapped(where, names)
    _refuse_quantised(found)
    _refuse_twice(where, found)
    _refuse_other_names(where, names)
    for one in found:
        for name, tensor in one.tensors.items():
            if canonical(name) in (TABLE, HEAD, POSITIONS) and len(tensor.shape) != 2:
                raise ModelError(f"{one.file}: {shown(name)} has shape {tensor.shape}, it must have two axes")


def compare(
    where: Path,
    names: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
    text: Settings,
    vision: Settings,
    family: int,
) -> tuple[str, ...]:
    """What is to be said of tensors that have no place. Raises ModelError for weights that are not those of
    the config, or whose axes are in another order. `shapes` are by canonical name."""
    _check_patches(where, shapes, vision)
    _check_layers(shapes, text, vision, family)
    known = _known(text, vision, family)
    others = [n for n in names if not BUFFERS.search(n) and not known.fullmatch(canonical(n))]
    if not others:
        return ()
    what = "a tensor" if len(others) == 1 else f"{len(others):,} tensors"
    return (f"{where}: holds {what} that PaliGemma has no place for, not used: {listed(others)}",)


def check_shapes(
    where: Path, shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]
) -> None:
    """Raises ModelError unless the files (`shapes`) have what the model needs, and no more of PaliGemma."""
    missing = sorted(set(wanted) - set(shapes))
    if missing:
        raise ModelError(
            f"{where}: {len(missing)} weights are missing (first: {missing[0]}); save the checkpoint again"
        )
    wrong = [name for name, shape in wanted.items() if shapes[name] != shape]
    if wrong:
        raise _other_shape(where, wrong[0], shapes[wrong[0]], wanted[wrong[0]], len(wrong))
    ours = re.compile("|".join((_VISION, _TEXT[2], HEAD)))
    more = sorted(name for name in shapes if name not in wanted and name != HEAD and ours.fullmatch(name))
    if more:
        raise ModelError(
            f"{where}: config.json has no place for {len(more)} of its weights ({listed(more)}); it belongs "
            "to another checkpoint"
        )


def listed(names: Iterable[str]) -> str:
    """Names of tensors for a sentence; those that differ only in numbers are one."""
    kinds: dict[str, int] = {}
    for name in names:
        kind = re.sub(r"(?<=\.)\d+(?=\.)", "*", shown(name))
        kinds[kind] = kinds.get(kind, 0) + 1
    each = [kind + (f" ({count})" if count > 1 else "") for kind, count in kinds.items()]
    return ", ".join(each[:SHOWN]) + (f" and {len(each) - SHOWN} more kinds" if len(each) > SHOWN else "")


def shown(text: str, most: int = 120) -> str:
    """A tensor's name, or a message, without what a terminal would obey, and not too long."""
    plain = re.sub(r"[^\x20-\x7e]", "?", text)
    return plain if len(plain) <= most else plain[: most - 3] + "..."


# --- what is refused -----------------------------------------------------------------------------


def _refuse_twice(where: Path, found: Sequence[Header]) -> None:
    seen: dict[str, tuple[str, Path]] = {}
    for one in found:
        for name in one.tensors:
            before = seen.setdefault(canonical(name), (name, one.file))
            if before != (name, one.file):
                raise ModelError(
                    f"{where}: one weight is given twice, as {shown(before[0])} in {before[1].name} and as "
                    f"{shown(name)} in {one.file.name}; save the checkpoint again"
                )


def _refuse_wrapped(where: Path, names: Sequence[str]) -> None:
    for pattern, by, instead in WRAPPED:
        hits = [name for name in names if re.search(pattern, name)]
        if hits:
            raise ModelError(
                f"{where}: its tensors are named as {by} wraps a model ({_counted(hits)}); {instead}"
            )
    for pattern, what in OF_PEFT:
        hits = [name for name in names if re.search(pattern, name)]
        if hits:
            raise ModelError(
                f"{where}: holds {what} ({_counted(hits)}), so its weights alone are not the trained model; "
                "merge them with peft (merge_and_unload) and save that, or save the adapter by itself and "
                "give --model BASE --adapter ADAPTER"
            )


def _counted(names: Sequence[str]) -> str:
    return f"{len(names):,}, the first is {shown(names[0])}" if len(names) > 1 else shown(names[0])


def _refuse_quantised(found: Sequence[Header]) -> None:
    for one in found:
        for name, tensor in one.tensors.items():
            if BUFFERS.search(name):
                continue
            if QUANTISED.search(name) or tensor.dtype not in DTYPES:
                what = "belongs to quantised weights" if tensor.dtype in DTYPES else f"is {tensor.dtype}"
                raise ModelError(
                    f"{one.file}: {shown(name)} {shown(what)}; weights must be {', '.join(DTYPES.values())}: "
                    "give the checkpoint before it was quantised (--quantize rounds one when it is loaded)"
                )


def _refuse_other_names(where: Path, names: Sequence[str]) -> None:
    """Says so if every name begins with something that PaliGemma's names do not have."""
    tails = ("multi_modal_projector.linear.weight", "language_model.model.embed_tokens.weight")
    if any(canonical(name) == "multi_modal_projector.linear.weight" for name in names):
        return
    for name in names:
        if name.endswith(tails):
            begin = name[: -len(next(t for t in tails if name.endswith(t)))]
            raise ModelError(
                f"{where}: names of tensors begin with {shown(begin)!r} (first: {shown(name)}); save the "
                "model that is inside with save_pretrained, or take that off every name"
            )


def _check_patches(where: Path, shapes: Mapping[str, tuple[int, ...]], vision: Settings) -> None:
    has, positions = shapes.get(PATCHES), shapes.get(POSITIONS)
    patch = vision.whole("patch_size", default=14, least=1)
    if has is not None and positions is not None and len(positions) == 2:
        channels = vision.whole("num_channels", default=3, least=1)
        wanted = (positions[1], channels, patch, patch)
        if has != wanted:
            raise _other_shape(where, PATCHES, has, wanted, 1)


def _other_shape(
    where: Path, name: str, has: tuple[int, ...], wanted: tuple[int, ...], count: int
) -> ModelError:
    if sorted(has) == sorted(wanted):
        by = "MLX" if len(wanted) == 4 and has == (wanted[0], *wanted[2:], wanted[1]) else "MLX or JAX"
        why = f"its axes are in another order, as {by} saves them; give the checkpoint that it was made from"
    else:
        why = "config.json and weights belong to two checkpoints; copy them again together"
    more = f", and {count - 1} more" if count > 1 else ""
    return ModelError(f"{where}: {shown(name)} has shape {has}, it must be {wanted}{more}: {why}")


def _check_layers(
    shapes: Mapping[str, tuple[int, ...]], text: Settings, vision: Settings, family: int
) -> None:
    """Layers that the config does not know would be left out without a word."""
    for said, begin in ((text, "language_model.layers."), (vision, "vision_tower.encoder.layers.")):
        layers = {int(m[1]) for n in shapes if (m := re.match(rf"{re.escape(begin)}(\d{{1,6}})\.", n))}
        count = said.maybe("num_hidden_layers", least=1)
        if count is not None and layers and max(layers) + 1 != count:
            raise ModelError(
                f"{said.where}: num_hidden_layers is {count}, the weights have layers up to "
                f"{begin}{max(layers)}; copy config.json and weights again together"
            )
    if family == 1 and any(re.search(r"\.(pre|post)_feedforward_layernorm\.weight$", n) for n in shapes):
        raise ModelError(
            f"{text.where}: model_type is 'gemma', but the weights are of Gemma 2 (feedforward norms); copy "
            "config.json and weights again together"
        )


# --- PaliGemma's own weights ---------------------------------------------------------------------

_VISION = (
    r"vision_tower\.(embeddings\.(patch_embedding\.(weight|bias)|position_embedding\.weight)"
    r"|post_layernorm\.(weight|bias)"
    r"|encoder\.layers\.\d+\.(layer_norm[12]|self_attn\.(q|k|v|out)_proj|mlp\.fc[12])\.(weight|bias))"
    r"|multi_modal_projector\.linear\.(weight|bias)"
)
_LAYER = r"self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj|input_layernorm|post_attention_layernorm"
_NORMS = "(pre|post)_feedforward_layernorm"
_TEXT = {
    1: rf"language_model\.((embed_tokens|norm)|layers\.\d+\.({_LAYER}))\.weight",
    2: rf"language_model\.((embed_tokens|norm)|layers\.\d+\.({_LAYER}|{_NORMS}))\.weight",
}


def _known(text: Settings, vision: Settings, family: int) -> re.Pattern[str]:
    """The canonical names of the tensors that are used under this config."""
    parts = [_VISION, _TEXT[family], HEAD]
    if text.content.get("attention_bias"):
        parts.append(r"language_model\.layers\.\d+\.self_attn\.[qkvo]_proj\.bias")
    if vision.content.get("vision_use_head", True):
        parts.append(r"vision_tower\.head\..+")
    return re.compile("|".join(parts))
