"""Quantised weights, recorded in the identity: rounded here (`int8`), or by an installed library."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.errors import ModelError, nearest
from evalkit.models.paligemma.checkpoint.info import CheckpointInfo

BITSANDBYTES = (
    "bitsandbytes-int8",
    "bitsandbytes-nf4",
    "bitsandbytes-nf4-double",  # whose scales are quantised too
    "bitsandbytes-fp4",
    "bitsandbytes-fp4-double",
)
LIBRARIES = {**dict.fromkeys(BITSANDBYTES, "bitsandbytes"), "torchao-int8": "torchao"}
SHORT = {name.removeprefix("bitsandbytes-"): name for name in BITSANDBYTES[1:]}
FLOATS = "none"  # saved codes are expanded into floats
SCHEMES = ("int8", *SHORT, *LIBRARIES, FLOATS)
INT8_VERSION = 1  # raised by hand whenever `round_int8` could give other weights
EXTRA = "pip install 'evalkit[quantized]'"


def read(scheme: str) -> str:
    """The scheme's full name. Raises ModelError for one that does not exist or whose package is not
    installed."""
    if scheme not in SCHEMES:
        raise ModelError(f"--quantize {scheme}: no such scheme{nearest(scheme, SCHEMES)}")
    scheme = SHORT.get(scheme, scheme)
    if scheme in LIBRARIES:
        _check_installed(scheme, f"--quantize {scheme}", "or --quantize int8, which needs none")
    return scheme


def _check_installed(scheme: str, what: str, instead: str) -> None:
    package = LIBRARIES[scheme]
    for needed in (package, "accelerate"):
        if importlib.util.find_spec(needed) is None:
            how = EXTRA if package == "bitsandbytes" else f"pip install {needed}"
            raise ModelError(f"{what}: needs the package {needed}; {how}, {instead}")


def check_saved(info: CheckpointInfo, scheme: str | None) -> None:
    """Raises ModelError unless `--quantize` goes with how the weights are saved, and they can be read."""
    if info.codes is None:
        return
    saved = info.codes.scheme
    if scheme not in (None, FLOATS):
        raise ModelError(
            f"--quantize {scheme}: {info.path} is saved in {saved} already; leave it out, or give the "
            "checkpoint that was quantised"
        )
    _check_installed(saved, f"{info.path}: is saved in {saved}", "or give the unquantised checkpoint")


def in_force(info: CheckpointInfo, scheme: str | None) -> str | None:
    """The library's scheme that the weights are run in; None where they are floats."""
    if info.codes is not None:
        return None if scheme == FLOATS else info.codes.scheme
    return scheme if scheme in LIBRARIES else None


def unmerged(info: CheckpointInfo, scheme: str | None) -> bool:
    """Whether the adapter runs beside its base's codes, as it was trained; else it is merged into floats."""
    return info.adapter is not None and in_force(info, scheme) in BITSANDBYTES


def identity(info: CheckpointInfo, scheme: str | None) -> Mapping[str, Any] | None:
    """What decides the text: the scheme, the version of the code or library that rounds, and what was done
    with saved codes and with an adapter."""
    if info.codes is None and scheme in (None, FLOATS):
        return None
    if scheme == "int8":
        return {"scheme": "int8-weights", "version": INT8_VERSION}
    name = info.codes.scheme if info.codes is not None else str(scheme)
    package = LIBRARIES[name]
    return {
        "scheme": name,
        package: importlib.metadata.version(package),
        **({"saved": True} if info.codes is not None else {}),
        **({"expanded": True} if info.codes is not None and scheme == FLOATS else {}),
        **({"adapter": "unmerged"} if unmerged(info, scheme) else {}),
    }


def about(info: CheckpointInfo, scheme: str | None) -> str:
    """How weights and adapter are run, for a sentence: `adapter as trained (bitsandbytes-nf4 base,
    unmerged)`; '' for plain weights alone."""
    running = in_force(info, scheme)
    if info.adapter is not None:
        rounded = ", then quantised (int8)" if scheme == "int8" else ""
        return (
            f"adapter as trained ({running} base, unmerged)"
            if unmerged(info, scheme)
            else f"adapter merged into float{rounded}"
        )
    if info.codes is not None:
        return f"weights {'as saved' if running else 'expanded to float'} ({info.codes.scheme})"
    return f"weights quantised ({scheme})" if scheme not in (None, FLOATS) else ""


# --- by a library ----------------------------------------------------------------------------------


def library_config(scheme: str, dtype: Any) -> Any:
    """transformers' configuration for a library's scheme; computation is in `dtype`."""
    import transformers

    if scheme == "torchao-int8":
        from torchao.quantization import Int8WeightOnlyConfig

        return transformers.TorchAoConfig(Int8WeightOnlyConfig())
    if scheme == "bitsandbytes-int8":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4" if "nf4" in scheme else "fp4",
        bnb_4bit_use_double_quant=scheme.endswith("-double"),
        bnb_4bit_compute_dtype=dtype,
    )


def settle(info: CheckpointInfo, model: Any, dtype: Any) -> None:
    """Has a model that transformers filled for bitsandbytes compute in one way on every machine: what is no
    code is in `dtype`, and no CPU multiplies in bfloat16 by itself.

    Raises ModelError for a layer whose codes are missing, where the library would fail at the first prompt.
    """
    # It tells of each product that LLM.int8 rounds inputs to float16.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    for name, layer in coded(model):
        layer.support_avx512bf16_for_cpu = False
        codes = layer.weight
        if getattr(codes, "quant_state", None) is None and getattr(codes, "SCB", None) is None:
            raise ModelError(f"{info.path}: {name}.weight is not quantised, config.json says that it is")
    packed = {id(layer.weight) for _, layer in coded(model)}
    for weight in model.parameters():
        if id(weight) not in packed and weight.is_floating_point():
            weight.data = weight.data.to(dtype)


def coded(model: Any) -> Iterator[tuple[str, Any]]:
    """The layers whose weights are codes of bitsandbytes, by name."""
    return ((name, layer) for name, layer in model.named_modules() if is_coded(layer))


def is_coded(layer: Any) -> bool:
    """By the class's name: the package need not be there to see that a layer is a plain one."""
    return type(layer).__name__ in ("Linear4bit", "Linear8bitLt")


def floats(layer: Any) -> Any:
    """The weight (out, in) that a layer's codes stand for; a plain layer's own."""
    weight = layer.weight
    if not is_coded(layer):
        return weight.data
    import bitsandbytes.functional as library

    if getattr(weight, "quant_state", None) is not None:
        return library.dequantize_4bit(weight.data, weight.quant_state)
    scales = layer.state.SCB if weight.SCB is None else weight.SCB  # it moves at the first prompt
    return library.int8_vectorwise_dequant(weight.data, scales)


def plain_layer(layer: Any, dtype: Any) -> Any:
    """A layer of torch, without numbers yet, in place of one with codes."""
    import torch

    made = torch.nn.Linear(
        layer.in_features, layer.out_features, layer.bias is not None, device=layer.weight.device, dtype=dtype
    )
    if layer.bias is not None:
        made.bias = layer.bias
    return made.requires_grad_(False)


def expand(model: Any, dtype: Any) -> None:
    """Replaces codes by the floats that they stand for, in `dtype`, in place."""
    for name, layer in list(coded(model)):
        made = plain_layer(layer, dtype)
        made.weight.copy_(floats(layer))
        model.set_submodule(name, made)


# --- here ------------------------------------------------------------------------------------------


def round_int8(model: Any) -> None:
    """Rounds the weights of every linear layer except the output table to 8 bits, in place.

    Symmetric, one scale per output channel: s = max |w| / 127, w → s · round(w / s), computed in float32
    and stored in the model's precision. It shows how 8-bit weights change the answers; it saves neither
    memory nor time, and does not round activations.
    """
    import torch

    head = model.get_output_embeddings()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear) and module is not head:
                weight = module.weight.float()
                scale = weight.abs().amax(dim=1, keepdim=True) / 127
                scale[scale == 0] = 1
                module.weight.copy_((weight / scale).round() * scale)
