"""Running out of memory: recognising it and freeing what can be freed. Knows no model."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Protocol, TypeVar

import torch

from evalkit.errors import ModelError
from evalkit.models.paligemma.interface import OutOfMemory

T = TypeVar("T")


class _Frees(Protocol):
    def free(self) -> None: ...


def fitting(engine: _Frees, work: Callable[[], T], what: str) -> T:
    """The result of `work`. Frees memory and raises OutOfMemory if the device has no room for it."""
    try:
        with torch.inference_mode():
            return work()
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Outside the handler, so that the traceback no longer holds the batch's tensors.
    engine.free()
    raise OutOfMemory(f"{what} do not fit")


def loaded(work: Callable[[], T], what: str) -> T:
    """The result of `work`. Raises ModelError if the device has no room for it."""
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    collect()  # outside the handler, whose traceback holds the weights
    raise ModelError(
        f"{what} do not fit into the device's memory; try --dtype bfloat16, another --device, or "
        "device_map=auto to spread them over several GPUs"
    )


def collect() -> None:
    """Frees objects that are no longer used, in Python and in the GPU's allocator."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, a library on it or the CPU's allocator ran out of memory (the latter two raise a bare
    RuntimeError)."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # The last one: cuBLAS, cuDNN and AMD's libraries, which allocate on their own.
    signs = ("DefaultCPUAllocator", "out of memory", "STATUS_ALLOC_FAILED")
    return any(sign in str(error) for sign in signs)


def not_finite(dtype: torch.dtype) -> ModelError:
    """The error for logits that are not finite, from weights that are: those were checked when loaded."""
    wider = {torch.float16: "bfloat16 or float32", torch.bfloat16: "float32"}.get(dtype)
    why = (
        f"; use --dtype {wider}"
        if wider
        else ", though its weights are: they are too large for any precision; the training has diverged, try "
        "an earlier checkpoint"
    )
    return ModelError(f"the model's logits are not finite in {str(dtype).removeprefix('torch.')}{why}")
