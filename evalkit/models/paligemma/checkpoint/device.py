"""The device that a checkpoint runs on: finding it, how it computes, what is recorded of it."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

import torch
import transformers

from evalkit.errors import ModelError

log = logging.getLogger("evalkit")


def find_device(name: str) -> torch.device:
    """The device of this name; a GPU with its number, which torch.cuda.set_device requires."""
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        if device.type not in ("cpu", "cuda", "mps", "xpu"):
            raise RuntimeError
    except RuntimeError:
        raise ModelError(f"--device {name}: no such device; auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            because = "" if visible is None else f" (CUDA_VISIBLE_DEVICES={visible})"
            raise ModelError(
                f"--device {name}: this machine has {count} usable GPUs{because}; try --device cpu"
            )
        if device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        _check_works(device)
    return device


def _check_works(device: torch.device) -> None:
    """Raises ModelError for a GPU that cannot be used here, or not with exact float32 products."""
    refuse_tf32_for_all()
    try:
        torch.zeros(2, device=device).add_(1).cpu()
    except RuntimeError as error:  # a GPU too old for this torch, in use by another process, full
        why = str(error).strip().splitlines()[0]
        raise ModelError(f"--device {device}: does not work here ({why}); try another one, or cpu") from None


def refuse_tf32_for_all() -> None:
    """Raises ModelError where the environment has every GPU product made in TF32."""
    if os.environ.get("NVIDIA_TF32_OVERRIDE") == "1":
        raise ModelError(
            "NVIDIA_TF32_OVERRIDE=1: float32 products would have 10 bits whatever is set here; unset it"
        )


def fix_arithmetic() -> None:
    """Fixes how numbers are computed, whatever was set before: float32 products exact (no TF32 on a GPU, no
    bfloat16 on a CPU), sums in float32, and no attention by cuDNN, which takes up to half a second for each
    new shape and which torch prefers or not by its version and the GPU."""
    backends = torch.backends
    with warnings.catch_warnings():  # torch 2.9 warns of the old names, without which the new ones contradict
        warnings.simplefilter("ignore", UserWarning)
        torch.set_float32_matmul_precision("highest")
        backends.cudnn.allow_tf32 = False
    for part in (backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.conv):
        part.fp32_precision = "ieee"  # or what was set for all of torch would count
    backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    backends.cuda.matmul.allow_fp16_accumulation = False
    backends.cuda.enable_cudnn_sdp(False)


def warn_if_emulated(home: torch.device, dtype: str) -> None:
    """Warns if a GPU has no bfloat16 products of its own (older than Ampere): right, but slow."""
    if home.type != "cuda" or dtype != "bfloat16" or torch.version.hip is not None:
        return
    if torch.cuda.get_device_capability(home) < (8, 0):
        log.warning(
            "--dtype bfloat16: %s computes it by emulation; --dtype float32 may be faster there",
            torch.cuda.get_device_name(home),
        )


def machine(home: torch.device) -> dict[str, Any]:
    """The device and the libraries that compute on it, for a run's provenance."""
    cuda = home.type == "cuda"
    return {
        "device": str(home),
        "device_name": torch.cuda.get_device_name(home) if cuda else home.type,
        **({"instructions": torch.backends.cpu.get_cpu_capability()} if home.type == "cpu" else {}),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
        "float32_products": torch.get_float32_matmul_precision(),
    }
