"""Weights that bitsandbytes saved as 4-bit or 8-bit codes: reads what config.json and the headers say of
them, and refuses what does not fit together. Does not import torch; reads no code."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint.contents import shown
from evalkit.models.paligemma.checkpoint.safetensors import DTYPES, Header, Tensor, canonical, payload
from evalkit.models.paligemma.checkpoint.settings import Settings

KEY = "quantization_config"
FOUR = re.compile(
    r"(?P<weight>.+\.weight)\.((nested_)?(absmax|quant_map)|quant_state\.bitsandbytes__(?P<kind>nf4|fp4))"
)
EIGHT = re.compile(r"(?P<layer>.+)\.(SCB|weight_format)")
COMPUTE = tuple(sorted(set(DTYPES.values()) - {"float64"}))
STORAGE = {"uint8": "U8", "float16": "F16", "bfloat16": "BF16", "float32": "F32"}
BLOCKS = tuple(1 << n for n in range(5, 13))  # weights that share a scale: 32 to 4096
SPELLED = {said: short for short, said in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Codes:
    """How the weights are saved: `scheme` as `--quantize` spells it, and `weights`, canonical names of the
    weights that are codes."""

    scheme: str
    weights: frozenset[str] = frozenset()


def read(config: Settings) -> Codes | None:
    """What config.json says; None for plain weights. Raises ModelError for another library's codes, and for
    settings that bitsandbytes does not have."""
    said = config.part(KEY)
    if not said.content:
        return None
    four, eight = (said.content.get(f"load_in_{bits}") for bits in ("4bit", "8bit"))
    method = said.text("quant_method", "bitsandbytes" if four or eight else "")
    if method != "bitsandbytes":
        raise ModelError(
            f"{config.where}: {KEY}: quant_method is {shown(method, 40)!r}; only weights saved by "
            "bitsandbytes are read: give the unquantised checkpoint"
        )
    for key in ("load_in_4bit", "load_in_8bit", "bnb_4bit_use_double_quant", "llm_int8_has_fp16_weight",
                "llm_int8_enable_fp32_cpu_offload"):  # fmt: skip
        if said.content.get(key) not in (None, True, False):
            raise said.refuse(key, "it must be true or false")
    if bool(four) == bool(eight):
        raise ModelError(f"{said.where}: one of load_in_4bit and load_in_8bit must be true")
    said.texts("llm_int8_skip_modules")
    if eight:
        return _eight(said)
    return _four(said)


def _eight(said: Settings) -> Codes:
    threshold = said.content.get("llm_int8_threshold", 6.0)
    if type(threshold) is not float or not 0 <= threshold < math.inf:
        raise said.refuse("llm_int8_threshold", "it must be a number from 0, with a point")
    if said.content.get("llm_int8_has_fp16_weight"):
        raise said.refuse("llm_int8_has_fp16_weight", "such weights are not codes; remove the key")
    return Codes("bitsandbytes-int8")


def _four(said: Settings) -> Codes:
    kind = said.text("bnb_4bit_quant_type", "fp4")  # as bitsandbytes, which people mistake for nf4
    for key, default, known in (
        ("bnb_4bit_quant_type", kind, ("nf4", "fp4")),
        ("bnb_4bit_compute_dtype", "float32", COMPUTE),
        ("bnb_4bit_quant_storage", "uint8", tuple(STORAGE)),
    ):
        if said.text(key, default) not in known:
            raise said.refuse(key, f"it must be one of {', '.join(known)}")
    double = "-double" if said.content.get("bnb_4bit_use_double_quant") else ""
    return Codes(f"bitsandbytes-{kind}{double}")


# --- the headers -----------------------------------------------------------------------------------


def plain(codes: Codes, found: Sequence[Header]) -> tuple[Codes, tuple[Header, ...]]:
    """The headers as those of plain weights: codes with the shape and precision that they stand for, without
    what belongs to them. Raises ModelError where codes, scales and sizes contradict each other: the library
    would read beyond their ends."""
    everything = {name: (one, tensor) for one in found for name, tensor in one.tensors.items()}
    usual = _usual(found)
    weights: dict[str, Tensor] = {}
    parts: set[str] = set()
    for name, (one, _) in everything.items():
        if codes.scheme == "bitsandbytes-int8":
            if (match := EIGHT.fullmatch(name)) is not None:
                weight = f"{match['layer']}.weight"
                weights[weight] = _checked_eight(one, weight, everything, usual)
                parts.add(name)
        elif (match := FOUR.fullmatch(name)) is not None:
            parts.add(name)
            if match["kind"]:
                weights[match["weight"]] = _checked_four(one, codes, match["weight"], name, everything)
    lost = {f.group("weight") for name in parts if (f := FOUR.fullmatch(name))} - weights.keys()
    if lost or not weights:
        first = f"{shown(min(lost))} has no quant_state" if lost else "no weight is"
        raise ModelError(
            f"{found[0].file}: config.json says that weights are codes of {codes.scheme}, {first}; save the "
            "checkpoint again"
        )
    headers = tuple(
        dataclasses.replace(
            one, tensors={n: weights.get(n, t) for n, t in one.tensors.items() if n not in parts}
        )
        for one in found
    )
    return Codes(codes.scheme, frozenset(map(canonical, weights))), headers


def _usual(found: Sequence[Header]) -> str:
    """The precision of most weights that are no codes."""
    kinds = Counter[str]()
    for one in found:
        for name, tensor in one.tensors.items():
            if tensor.dtype in DTYPES and not FOUR.fullmatch(name) and not EIGHT.fullmatch(name):
                kinds[tensor.dtype] += math.prod(tensor.shape)
    return kinds.most_common(1)[0][0] if kinds else "F32"


Everything = Mapping[str, tuple[Header, Tensor]]


def _checked_eight(one: Header, weight: str, everything: Everything, usual: str) -> Tensor:
    codes = everything.get(weight, (None, None))[1]
    if codes is None or codes.dtype != "I8" or len(codes.shape) != 2:
        raise _odd(one, weight, "is no matrix of 8-bit codes (I8)")
    scales = everything.get(f"{weight.removesuffix('.weight')}.SCB", (None, None))[1]
    if scales is None or (scales.dtype, scales.shape) != ("F32", codes.shape[:1]):
        raise _odd(one, weight, f"needs {codes.shape[0]} scales (SCB, F32), one a row")
    order = everything.get(f"{weight}_format")
    if order is not None and any(payload(*order)):
        raise _odd(one, weight, "has its codes in the order of one GPU (weight_format); only rows are read")
    return dataclasses.replace(codes, dtype=usual)


def _checked_four(one: Header, codes: Codes, weight: str, state: str, everything: Everything) -> Tensor:
    said = _state(one, state, everything[state][1])
    kind = codes.scheme.removeprefix("bitsandbytes-").removesuffix("-double")
    if said.content.get("quant_type") != kind or not state.endswith(kind):
        raise said.refuse("quant_type", f"config.json says {kind}")
    shape, block = said.wholes("shape") or (), said.whole("blocksize", default=0)
    if len(shape) != 2 or not all(shape) or block not in BLOCKS:
        raise _odd(one, weight, f"has shape {shape} in blocks of {block}; it must be a matrix in blocks of "
                   f"{BLOCKS[0]} to {BLOCKS[-1]}")  # fmt: skip
    if said.text("dtype") not in COMPUTE:
        raise said.refuse("dtype", f"it must be one of {', '.join(COMPUTE)}")
    numbers = math.prod(shape)
    scales = -(-numbers // block)
    double = codes.scheme.endswith("-double")
    wanted = {"absmax": ("U8" if double else "F32", scales), "quant_map": ("F32", 16)}
    if double:
        nested = said.whole("nested_blocksize", default=0)
        if nested not in BLOCKS:
            raise said.refuse("nested_blocksize", f"it must be one of {', '.join(map(str, BLOCKS))}")
        if said.text("nested_dtype") != "float32" or type(said.content.get("nested_offset")) is not float:
            raise said.refuse("nested_offset", "it must be a number, and nested_dtype float32")
        wanted |= {"nested_absmax": ("F32", -(-scales // nested)), "nested_quant_map": ("F32", 256)}
    for part in ("absmax", "quant_map", "nested_absmax", "nested_quant_map"):
        has = everything.get(f"{weight}.{part}", (None, None))[1]
        found = (has.dtype, math.prod(has.shape)) if has is not None else None
        if found != wanted.get(part):
            need = wanted.get(part, ("", "none"))
            raise _odd(one, weight, f"needs {need[1]} numbers {need[0]} as {part}, has {found or 'none'}")
    packed, size = everything.get(weight, (None, None))[1], -(-numbers // 2)
    if packed is None or packed.dtype not in STORAGE.values() or packed.end - packed.begin != size:
        raise _odd(one, weight, f"is not {size:,} bytes of codes")
    return dataclasses.replace(packed, dtype=SPELLED[said.text("dtype")], shape=shape)


def _state(one: Header, name: str, tensor: Tensor) -> Settings:
    """The JSON object that bitsandbytes keeps in a tensor of bytes."""
    where = f"{one.file}: {shown(name)}"
    try:
        content: Any = json.loads(payload(one, tensor)) if tensor.end - tensor.begin < 10_000 else None
    except (ValueError, RecursionError):
        content = None
    if tensor.dtype != "U8" or not isinstance(content, dict):
        raise ModelError(f"{where}: cannot be read as bitsandbytes' JSON; save the checkpoint again")
    return Settings(where, content)


def _odd(one: Header, weight: str, what: str) -> ModelError:
    return ModelError(f"{one.file}: {shown(weight)} {what}; save the checkpoint again")
