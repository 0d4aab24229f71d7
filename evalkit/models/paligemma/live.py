"""A model in memory as a backend: the weights that are being trained, where they are. Nothing is loaded,
copied or merged; transformers' own forward pass answers."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from evalkit.errors import ModelError
from evalkit.models.paligemma import checks
from evalkit.models.paligemma.backend import PaliGemma
from evalkit.models.paligemma.batching.batch_size import BatchSize, by_tokens
from evalkit.models.paligemma.checkpoint import info as checkpoint_info
from evalkit.models.paligemma.checkpoint import loading, quantize, saved_codes, settings
from evalkit.models.paligemma.checkpoint.info import CheckpointInfo
from evalkit.models.paligemma.checkpoint.safetensors import canonical
from evalkit.models.paligemma.engine.plain import PlainEngine
from evalkit.models.paligemma.interface import Engine

WHERE = Path("the model in memory")
HASHERS = 4  # threads; more would hold more of the weights in the host's memory at once


@dataclass(eq=False)
class Live(PaliGemma):
    """A PaliGemma that somebody else holds; made by `Live.of`. While it answers it must stand still
    (`standstill`)."""

    whole: Any = None  # as it is trained: transformers' model, or peft's around it
    _fixed: dict[str, Any] = field(default_factory=dict, init=False, repr=False)  # digests of all but weights

    @classmethod
    def of(cls, model: Any, processor: Any, **options: Any) -> Live:
        """`processor` is transformers' processor or tokenizer, as it is saved beside the weights.

        It and the config are written to a temporary folder and read from there, as from a checkpoint's.
        Raises ModelError for a model that is no PaliGemma or whose weights are not all in this process.
        """
        inner, dtype = base_of(model), _precision(base_of(model))
        made = cls(
            str(WHERE), dtype=dtype, engine="plain", worker_kind="thread", **options, whole=unwrapped(model)
        )
        with tempfile.TemporaryDirectory(prefix="evalkit-live-") as home:
            made.info = made._with_conventions(_described(Path(home), inner, processor), None)
            made._fixed = checkpoint_info.digests(made.info)
            checks.check_processor(made.info)
            loading.load_tokenizer(made.info, made._take)
        made.info = dataclasses.replace(made.info, path=WHERE)  # the folder is gone when an error is read
        made._start(PlainEngine(inner, made.info.image_tokens))
        return made

    def now(self) -> Live:
        """The model with the weights that it has now: they are hashed, and decide its identity."""
        found = copy.copy(self)
        found._digests = {**self._fixed, "weights": {"in memory": weights_digest(self.whole)}}
        return found

    @property
    def weights(self) -> str:
        """The digest of the weights that it has, or had at `now`."""
        return str(self._digests["weights"]["in memory"])

    def load(self) -> None:
        """Nothing: it is loaded."""

    def provenance(self) -> dict[str, Any]:
        known = super().provenance()
        return {**known, "model": type(self.whole).__name__, "path": None}

    def _batch_sizes(self, engine: Engine) -> BatchSize:
        """Never learned: the memory beside a training says nothing of other runs."""
        device = engine.device.partition(":")[0]
        return BatchSize(by_tokens(self.info.image_tokens, device, plain=True))


# --- what it is -----------------------------------------------------------------------------------


def base_of(model: Any) -> Any:
    """transformers' PaliGemma inside of what trains it: peft's model, torch's wrappers. An adapter's layers
    stay in it. Raises ModelError where there is none."""
    found = unwrapped(model)
    if hasattr(found, "get_base_model"):
        for name, config in found.peft_config.items():
            if config.is_prompt_learning:
                raise ModelError(
                    f"{WHERE}: adapter {name} is a learned prompt; only adapters of layers are run"
                )
        found = found.get_base_model()
    kind = getattr(getattr(found, "config", None), "model_type", type(found).__name__)
    if kind != "paligemma" or not hasattr(found, "lm_head"):
        raise ModelError(f"{WHERE}: is a {kind}; only PaliGemma can be evaluated")
    if any(hasattr(p, "ds_status") or type(p).__name__ == "DTensor" for p in found.parameters()) or any(
        type(m).__name__.startswith("FullyShardedDataParallel") for m in model.modules()
    ):
        raise ModelError(
            f"{WHERE}: its weights are spread over processes (FSDP, ZeRO-3); let `evalkit watch` evaluate "
            "the checkpoints that it saves"
        )
    return found


def unwrapped(model: Any) -> Any:
    """What torch.compile (`_orig_mod`) or DistributedDataParallel (`module`) hold; peft's model is kept."""
    while True:
        inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
        if inner is None or hasattr(model, "get_base_model"):
            return model
        model = inner


def _precision(model: Any) -> str:
    dtype = str(model.get_input_embeddings().weight.dtype).removeprefix("torch.")
    if dtype not in ("float32", "bfloat16", "float16"):
        raise ModelError(
            f"{WHERE}: its embedding table is in {dtype}; it must be float32, bfloat16 or float16"
        )
    return dtype


def _described(home: Path, model: Any, processor: Any) -> CheckpointInfo:
    """The model as its checkpoint's files would describe it; config and processor are written to `home`."""
    if not hasattr(processor, "save_pretrained"):
        raise ModelError(
            f"{WHERE}: has no processor or tokenizer; give the one that prepares its training data "
            "(Trainer(processing_class=...), or processor=...)"
        )
    model.config.save_pretrained(home)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(home)
    processor.save_pretrained(home)
    config = settings.read(home / "config.json")
    shapes, kinds = dict[str, tuple[int, ...]](), Counter[str]()
    codes = {f"{name}.weight": layer for name, layer in quantize.coded(model)}
    for name, tensor in _once(model):
        layer = codes.get(name)
        shape = (layer.out_features, layer.in_features) if layer is not None else tuple(tensor.shape)
        shapes[canonical(_plain(name))] = shape
        kinds[str(tensor.dtype).removeprefix("torch.")] += math.prod(tensor.shape)
    info = checkpoint_info.described(home, config, shapes, kinds, home)
    return dataclasses.replace(info, codes=saved_codes.read(config) if codes else None)


def _plain(name: str) -> str:
    """A weight's name without what peft puts around its layer."""
    for part in (".base_layer", ".original_module"):
        name = name.replace(part, "")
    return name


def _once(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of a checkpoint by name, one that has two names (a tied table) by its first only."""
    seen = set()
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, torch.Tensor) and (place := (tensor.data_ptr(), tensor.shape)) not in seen:
            seen.add(place)
            yield name, tensor


def weights_digest(model: Any) -> str:
    """sha256 over every tensor (name, precision, shape, bytes) in the order of names, and over what scales an
    adapter or leaves it out. It is computed anew each time: a number in memory can change without a trace."""

    def digest(item: tuple[str, torch.Tensor]) -> str:
        name, tensor = item
        data = tensor.detach().reshape(-1).view(torch.uint8).cpu().numpy()
        return f"{name} {tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(data.data).hexdigest()}"

    with ThreadPoolExecutor(HASHERS) as pool:
        lines = list(pool.map(digest, sorted(_once(model), key=lambda item: item[0])))
    adapters = {name: config.to_dict() for name, config in getattr(model, "peft_config", {}).items()}
    if adapters:
        lines.append(json.dumps([adapters, _switched(model)], sort_keys=True, default=_sorted))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _switched(model: Any) -> list[Any]:
    """What each of peft's layers does with its adapters now, which no tensor and no config says: the base
    alone answers inside `disable_adapter()`, and `scale_layer` changes how much an adapter counts."""
    return [
        [name, layer._disable_adapters, layer.active_adapters, getattr(layer, "scaling", None)]
        for name, layer in model.named_modules()
        if hasattr(layer, "_disable_adapters")
    ]


def _sorted(value: Any) -> Any:
    """A set's order is another in each process."""
    return sorted(map(str, value)) if isinstance(value, (set, frozenset)) else str(value)
