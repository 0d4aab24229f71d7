"""An adapter beside the quantised weights that it was trained on: their codes stay as they are (QLoRA,
Dettmers et al. 2023)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from evalkit.models.paligemma.checkpoint import lora, quantize
from evalkit.models.paligemma.checkpoint.lora import Adapter
from evalkit.models.paligemma.checkpoint.safetensors import canonical


class Beside(torch.nn.Module):
    """base(x) + scaling · B A x, the second term in float32, as peft computes it.

    With DoRA the rows of W + scaling · B A are brought to the lengths m: `factor` is m over their own
    lengths, of the weights that the codes stand for.
    """

    def __init__(self, base: Any, a: Any, b: Any, scaling: float, lengths: Any | None) -> None:
        super().__init__()
        self.base, self.scaling = base, scaling
        self.register_buffer("a", a, persistent=False)
        self.register_buffer("b", b, persistent=False)
        factor = None
        if lengths is not None:
            factor = lengths / (quantize.floats(base).float() + (b @ a) * scaling).norm(dim=1)
        self.register_buffer("factor", factor, persistent=False)

    @property
    def weight(self) -> Any:
        """The base's, for those who ask for its precision."""
        return self.base.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.base(x)
        more = F.linear(F.linear(x.float(), self.a), self.b) * self.scaling
        if self.factor is None:
            return torch.add(out, more.to(out.dtype))
        bias = getattr(self.base, "bias", None)
        bare = out.float() if bias is None else out.float() - bias.float()
        return torch.add(out, ((self.factor - 1) * bare + self.factor * more).to(out.dtype))


def attach(adapter: Adapter, model: Any) -> None:
    """Puts the adapter beside the layers of a model whose weights are codes, in place. Parameters that it
    replaces are floats afterwards."""
    dtype = model.get_input_embeddings().weight.dtype
    names = {canonical(name): name for name, _ in model.named_modules()}
    with torch.no_grad(), lora.opened(adapter) as read:
        for name, (key, _) in adapter.replaced.items():
            layer, _, parameter = name.rpartition(".")
            home = model.get_submodule(names[layer])
            if parameter == "weight" and quantize.is_coded(home):
                home = quantize.plain_layer(home, dtype)
                model.set_submodule(names[layer], home)
            lora.replace(adapter, model, home, name, read(key))
        for name, pair in adapter.pairs.items():
            base = model.get_submodule(names[name])
            a, b, lengths = lora.matrices(pair, read, base.weight.device)
            beside = Beside(base, a, b, pair.scaling, lengths)
            model.set_submodule(names[name], beside.eval())
