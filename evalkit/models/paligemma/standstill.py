"""A model in training stands still while it is evaluated, and goes on as if nothing had been."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from evalkit.models.paligemma.checkpoint.device import fix_arithmetic, refuse_tf32_for_all
from evalkit.models.paligemma.checkpoint.loading import WINDOW
from evalkit.models.paligemma.live import base_of


@contextlib.contextmanager
def standstill(model: Any, sliding: bool = False) -> Iterator[None]:
    """Inside, the model answers as `evalkit run` would have it: evaluation mode, arithmetic, attention and
    Gemma 2's window (none without `sliding`), no autocast.

    Afterwards every module's mode, all random numbers' states, torch's settings and the model's own are what
    they were, so that training goes on bit for bit. Gradients are not touched; memory is given back.
    """
    base = base_of(model)
    device = base.get_input_embeddings().weight.device.type
    if device == "cuda":
        refuse_tf32_for_all()
    with contextlib.ExitStack() as stack:
        stack.callback(_give_back)
        stack.enter_context(_random_numbers())
        stack.enter_context(_modes(model))
        stack.enter_context(_arithmetic())
        stack.enter_context(_attention(base, sliding))
        stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":  # of the program: what is made here names its own
            stack.enter_context(torch.device("cpu"))
        yield


def _give_back() -> None:
    """What a GPU's allocator holds for batches that are done."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@contextlib.contextmanager
def _modes(model: Any) -> Iterator[None]:
    """Each module's own mode: a frozen tower may be in evaluation mode already."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


@contextlib.contextmanager
def _random_numbers() -> Iterator[None]:
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    of_gpus = torch.cuda.get_rng_state_all() if cuda else []
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
        if of_gpus:
            torch.cuda.set_rng_state_all(of_gpus)


@contextlib.contextmanager
def _arithmetic() -> Iterator[None]:
    """What `fix_arithmetic` sets, set back: a training may use TF32."""
    backends = torch.backends
    places = [
        (backends.cudnn.conv, "fp32_precision"),
        (backends.cudnn.rnn, "fp32_precision"),
        (backends.mkldnn.conv, "fp32_precision"),
        (backends.cuda.matmul, "fp32_precision"),
        (backends.mkldnn.matmul, "fp32_precision"),
        (backends.cuda.matmul, "allow_bf16_reduced_precision_reduction"),
        (backends.cuda.matmul, "allow_fp16_reduced_precision_reduction"),
        (backends.cuda.matmul, "allow_fp16_accumulation"),
    ]
    before = [(place, name, getattr(place, name)) for place, name in places]
    by_cudnn, products, tf32 = backends.cuda.cudnn_sdp_enabled(), _products(), _tf32()
    fix_arithmetic()
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            if products is not None:  # the old names first: they change what the new ones say
                torch.set_float32_matmul_precision(products)
            if tf32 is not None:
                backends.cudnn.allow_tf32 = tf32
            for place, name, value in before:
                setattr(place, name, value)
        backends.cuda.enable_cudnn_sdp(by_cudnn)


def _products() -> str | None:
    try:
        return str(torch.get_float32_matmul_precision())
    except RuntimeError:  # set by torch's new names, which the old ones cannot say
        return None


def _tf32() -> bool | None:
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:
        return None


@contextlib.contextmanager
def _attention(base: Any, sliding: bool) -> Iterator[None]:
    """The attention that a checkpoint is loaded with; without it soft caps (Gemma 2) may be ignored."""
    family = 2 if base.config.text_config.model_type == "gemma2" else 1
    kind = "eager" if family == 2 else "sdpa"
    configs = {id(m.config): m.config for m in base.modules() if hasattr(m, "config")}
    changes: list[tuple[Any, str, Any]] = [(c, "_attn_implementation", kind) for c in configs.values()]
    if family == 2 and not sliding:
        text = [c for c in configs.values() if c.model_type == "gemma2"]
        layers = [m for m in base.modules() if isinstance(getattr(m, "sliding_window", None), int)]
        changes += [(each, "sliding_window", WINDOW) for each in (*text, *layers)]
    before = [(each, name, getattr(each, name)) for each, name, _ in changes]
    try:
        for each, name, value in changes:
            setattr(each, name, value)
        yield
    finally:
        for each, name, value in before:
            setattr(each, name, value)
