"""Quantised weights, recorded in the identity: rounded here (`int8`), or by an installed library."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from typing import Any

from evalkit.errors import ModelError, nearest

LIBRARIES = {
    "bitsandbytes-int8": "bitsandbytes",
    "bitsandbytes-nf4": "bitsandbytes",
    "torchao-int8": "torchao",
}
SCHEMES = ("int8", *LIBRARIES)
INT8_VERSION = 1  # raised by hand whenever `round_int8` could give other weights


def check(scheme: str) -> None:
    """Raises ModelError for a scheme that does not exist or whose package is not installed."""
    if scheme not in SCHEMES:
        raise ModelError(f"--quantize {scheme}: no such scheme{nearest(scheme, SCHEMES)}")
    package = LIBRARIES.get(scheme)
    for needed in (package, "accelerate") if package else ():
        if importlib.util.find_spec(needed) is None:
            raise ModelError(
                f"--quantize {scheme}: needs the package {needed}; pip install {needed}, or --quantize int8, "
                "which needs none"
            )


def identity(scheme: str | None) -> Mapping[str, Any] | None:
    """What decides the text: the scheme, and the version of the code or library that rounds."""
    if scheme is None:
        return None
    if scheme == "int8":
        return {"scheme": "int8-weights", "version": INT8_VERSION}
    package = LIBRARIES[scheme]
    return {"scheme": scheme, package: importlib.metadata.version(package)}


def library_config(scheme: str, dtype: Any) -> Any:
    """transformers' configuration for a library's scheme; computation is in `dtype`."""
    import transformers

    if scheme == "torchao-int8":
        from torchao.quantization import Int8WeightOnlyConfig

        return transformers.TorchAoConfig(Int8WeightOnlyConfig())
    if scheme == "bitsandbytes-int8":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


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
