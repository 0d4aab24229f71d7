"""Products with fixed weights: on a CPU by oneDNN, whose kernels give a row the same numbers in any batch;
elsewhere by torch. `gelu` is part of the product where a library can do that. Knows no model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from evalkit.models.paligemma.memory import is_out_of_memory

Activation = Callable[[torch.Tensor], torch.Tensor]


def gelu(x: torch.Tensor) -> torch.Tensor:
    """GELU as Gemma and SigLIP approximate it."""
    return F.gelu(x, approximate="tanh")


class Linear:
    """then(x Wᵀ + bias) for weight (out, in) and x (..., in).

    A packed weight is stored only in the order that oneDNN reads; a weight that is also used elsewhere
    (`pack=False`) is reordered in every call.
    """

    __slots__ = ("_onednn", "_then", "_zeros", "bias", "weight")

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        then: Activation | None = None,
        pack: bool = True,
    ) -> None:
        self.weight, self.bias, self._then = weight, bias, then
        self._onednn, self._zeros = onednn(weight), None
        with_gelu = then is gelu and weight.device.type == "cuda" and weight.dtype is not torch.float32
        if with_gelu and gelu_inside(weight.device, weight.dtype):
            self._zeros = weight.new_zeros(len(weight))
        if self._onednn and pack:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())

    def unpack(self) -> None:
        """Switches to torch's own product, which torch.compile can optimise."""
        if self.weight.is_mkldnn:
            self.weight = self.weight.to_dense()
        self._onednn, self._zeros = False, None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self._onednn:
            return product(x, self.weight, self.bias, self._then)
        if self._zeros is not None:
            bias, flat = self._zeros if self.bias is None else self.bias, x.flatten(0, -2)
            return _with_gelu(flat, self.weight, bias).unflatten(0, x.shape[:-1])
        out = F.linear(x, self.weight, self.bias)
        return out if self._then is None else self._then(out)


def product(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    then: Activation | None = None,
) -> torch.Tensor:
    """As `Linear`, by oneDNN, for a packed or unpacked weight. This is the private operation that torch's
    compiler uses."""
    post, how = ("gelu", "tanh") if then is gelu else ("none", "")
    out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, post, [], how)
    return out if then is None or then is gelu else then(out)


def _with_gelu(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """gelu(x Wᵀ + bias) for x (rows, in), by a private operation of torch: cuBLAS adds the bias and applies
    GELU, by tanh as ours."""
    out: torch.Tensor = torch._addmm_activation(bias, x, weight.t(), use_gelu=True)
    return out


@functools.cache
def gelu_inside(home: torch.device, dtype: torch.dtype) -> bool:
    """Whether `_with_gelu` works in this precision on this GPU, by its library: tried once. Where it does not
    (a library may know no bfloat16 for an older GPU), the two are computed one after the other."""
    random, shapes = torch.Generator("cpu").manual_seed(0), ((32, 64), (64, 64), (64,))
    x, weight, bias = (torch.randn(s, generator=random, device="cpu").to(home, dtype) for s in shapes)
    try:
        found = _with_gelu(x, weight / 8, bias)
    except (AttributeError, TypeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        return False
    wanted = gelu(F.linear(x.float(), (weight / 8).float(), bias.float()))
    return bool(torch.allclose(found.float(), wanted, rtol=2 * torch.finfo(dtype).eps, atol=2e-3))


def onednn(x: torch.Tensor) -> bool:
    """Whether `product` works for tensors like this one."""
    return x.device.type == "cpu" and _multiplies(x.dtype)


@functools.cache
def _multiplies(dtype: torch.dtype) -> bool:
    mkldnn: Any = torch.ops.mkldnn
    try:
        known = {
            torch.float32: torch.backends.mkldnn.is_available,
            torch.bfloat16: mkldnn._is_mkldnn_bf16_supported,
        }
        if dtype not in known or not known[dtype]():
            return False
        one = torch.eye(16, dtype=dtype, device="cpu")
        result = product(one, mkldnn._reorder_linear_weight(one), then=gelu)
    except (AttributeError, RuntimeError):
        return False
    return bool(torch.allclose(result, gelu(one), atol=1e-2 if dtype is torch.bfloat16 else 1e-6))
