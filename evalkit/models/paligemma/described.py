"""What a PaliGemma checkpoint is: its options, its files, checked, and the identity that these make.

Loads no weights; imports no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from evalkit import conventions
from evalkit.conventions import PROTOCOLS
from evalkit.errors import ModelError, nearest
from evalkit.models.paligemma.batching.batches import Prepare
from evalkit.models.paligemma.batching.close_calls import THRESHOLDS
from evalkit.models.paligemma.checkpoint import big_vision, hub, lora
from evalkit.models.paligemma.checkpoint import info as checkpoint_info
from evalkit.models.paligemma.checkpoint import quantize as quantization
from evalkit.models.paligemma.checkpoint import trained as trained_with
from evalkit.models.paligemma.checkpoint.info import CheckpointInfo
from evalkit.models.paligemma.checkpoint.resolve import Found, find
from evalkit.models.paligemma.interface import Rules, rules
from evalkit.options.model import MODEL_OPTIONS, model_options

TEXT_VERSION = 2  # raised by hand whenever this backend could write other text


@dataclass(eq=False)
class Described:
    """A PaliGemma or PaliGemma 2 checkpoint by its options and its files.

    `model` is a folder or a hub id (with `revision`); `resolution` is only checked; `device`: auto, cpu,
    cuda, cuda:N; `device_map` spreads a checkpoint over GPUs; `batch_size` is a number, or auto: a first
    size that suits the device and the resolution. Either is halved when memory runs out.
    `engine`: fast, plain, or auto: fast where possible. `kv_dtype` rounds keys and values (bfloat16,
    as big_vision's cache). `stable` recomputes answers below a margin in float32 (True: the precision's
    default margin). `strict` gives every batch the same shape. `sliding_window`: none, as the reference,
    or transformers: the window of Gemma 2's config, in alternate layers during decoding.
    `conventions` is a file that says what the checkpoint was trained with (default: the `evalkit.yaml` in the
    folder of the adapter or the weights); `prompt_mask` counts more than it: bidirectional, causal or
    causal_image (`interface.Rules`).
    `cuda_graphs` records decode steps and replays them: on, off, or auto: on a GPU; `fused_kernels`
    and `compile` (torch.compile on the decode step and the vision tower) take fewer kernels.
    `adapter` is a LoRA adapter to be merged; beside weights in bitsandbytes' codes, as QLoRA trains it, it
    runs unmerged. If `model` itself is one, `base` is what it was trained on (default: what it names).
    `quantize` rounds the weights, or expands those that were saved as codes into floats (`none`);
    `tokenizer` is another folder's.
    `workers` threads or processes (`worker_kind`) read images ahead.
    `prepare` reads an image (default: `evalkit.images.prepare`). Creating one reads nothing;
    `info`, `identity()` and `dtype="auto"` (the precision in which most weights are stored) read the folder.
    """

    model: str
    revision: str | None = None
    resolution: int | None = None
    dtype: str = "float32"
    device: str = "auto"
    device_map: str | None = None
    batch_size: int | str = "auto"
    engine: str = "auto"
    protocol: str = "paper"
    workers: int | None = None
    worker_kind: str | None = None
    kv_dtype: str | None = None
    stable: bool | str | float | None = None
    strict: bool = False
    sliding_window: str = "none"
    prompt_mask: str | None = None
    conventions: str | None = None
    cuda_graphs: str = "auto"
    fused_kernels: bool = False
    compile: bool = False
    adapter: str | None = None
    base: str | None = None
    quantize: str | None = None
    tokenizer: str | None = None
    prepare: Prepare | None = None
    _any_engine: bool = field(default=False, init=False, repr=False)  # so saved codes may choose

    def __post_init__(self) -> None:
        given = {name: value for name in MODEL_OPTIONS if (value := getattr(self, name)) is not None}
        for name, value in model_options(given).items():
            setattr(self, name, value)
        if self.protocol not in PROTOCOLS:
            raise ModelError(f"protocol {self.protocol}: no such protocol{nearest(self.protocol, PROTOCOLS)}")
        if self.quantize is not None:
            self.quantize = quantization.read(self.quantize)
        if self.engine == "auto":
            self._any_engine = True
            spread = self.device_map or self.quantize in quantization.LIBRARIES
            self.engine = "plain" if spread else "fast"
        if self.dtype == "auto":
            self.dtype = self._stored()
        self._check_together()

    def _stored(self) -> str:
        """The precision of the checkpoint's weights, where all are of one that is run."""
        stored = self.info.dtype
        if stored not in ("float32", "bfloat16", "float16"):
            raise ModelError(
                f"--dtype auto: {self.info.path} is stored in {stored}; say float32, bfloat16 or float16"
            )
        return stored

    def _check_together(self) -> None:
        """Raises ModelError for options that exclude each other."""
        if self.engine == "fast" and self.device_map:
            raise ModelError(f"device_map={self.device_map}: needs --engine plain")
        if self.engine == "fast" and self.quantize in quantization.LIBRARIES:
            raise ModelError(f"--quantize {self.quantize}: needs --engine plain; --quantize int8 does not")
        if self.engine == "plain" and (self.kv_dtype not in (None, self.dtype) or self.strict):
            raise ModelError("--kv-dtype, --strict: need --engine fast")
        if self.engine == "plain" and (self.compile or self.fused_kernels or self.cuda_graphs == "on"):
            raise ModelError("--compile, --cuda-graphs, --fused-kernels: need --engine fast")
        if self.compile and self.fused_kernels:
            raise ModelError("--compile, --fused-kernels: only one of the two")
        if self.kv_dtype == "float32" and self.dtype != "float32":
            raise ModelError(f"--kv-dtype float32: the cache cannot be wider than --dtype {self.dtype}")

    @cached_property
    def info(self) -> CheckpointInfo:
        """The checkpoint as its files describe it, checked; needs neither torch nor transformers."""
        path, adapter = self._found.weights, self._found.adapter
        tokenizer = hub.resolve(self.tokenizer, what="a folder with a tokenizer") if self.tokenizer else None
        if path.suffix == ".npz" and path.is_file():
            info = big_vision.inspect(path, tokenizer)
            self._check_npz()
        else:
            info = checkpoint_info.inspect(path, tokenizer)
        checkpoint_info.check_resolution(info, self.resolution)
        info = self._with_conventions(info, adapter.path if adapter is not None else None)
        quantization.check_saved(info, self.quantize)
        self._settle_engine(info)
        if adapter is None:
            return info
        if self.quantize == "torchao-int8":
            raise ModelError(f"--quantize {self.quantize}: not possible with an adapter; nf4 is")
        lora.check_base(adapter, self._found.base, info.family, info.resolution, info.shapes)
        remarks = info.remarks + lora.remarks(adapter, info.shapes)
        return dataclasses.replace(info, adapter=adapter, remarks=remarks)

    def _with_conventions(self, info: CheckpointInfo, adapter: Path | None) -> CheckpointInfo:
        """With what the checkpoint was trained with, by the files beside it or the options."""
        found = trained_with.Trained(info.protocol, info.trained)
        if self.conventions is not None:
            found = trained_with.given(Path(self.conventions))
        elif adapter is not None:
            found = trained_with.over(found, trained_with.beside(adapter))
        trained = found.conventions
        if self.prompt_mask is not None:
            trained = dataclasses.replace(trained, prompt_mask=self.prompt_mask)
        return dataclasses.replace(info, protocol=found.protocol, trained=trained)

    def _settle_engine(self, info: CheckpointInfo) -> None:
        """Takes the plain engine for weights that stay codes. Raises ModelError if another was asked for."""
        if quantization.in_force(info, self.quantize) is None or self.engine == "plain":
            return
        if not self._any_engine:
            raise ModelError(
                f"--engine fast: {info.path} is saved in codes, which --engine plain runs as they are; with "
                "--quantize none they are expanded into floats, for either engine"
            )
        self.engine = "plain"
        self._check_together()

    def _check_npz(self) -> None:
        for name, value in (("device_map", self.device_map), ("quantize", self.quantize)):
            if value and (name == "device_map" or value in quantization.LIBRARIES):
                raise ModelError(
                    f"{self.model}: {name}={value}: not possible with a .npz; run evalkit convert first"
                )

    @cached_property
    def _found(self) -> Found:
        return find(str(self.model), self.revision, self.adapter, self.base)

    @cached_property
    def _digests(self) -> dict[str, Any]:
        return dict(checkpoint_info.digests(self.info))

    @property
    def rules(self) -> Rules:
        return rules(self.protocol, self.info.eos, self.info.trained)

    def identity(self) -> Mapping[str, Any]:
        """Everything that decides the text. Hashes the weights (once); needs no torch."""
        fixed = self.rules  # reads the folder, which may decide the engine
        return {
            "backend": f"paligemma-{self.engine}",
            "text_version": TEXT_VERSION,
            **self._digests,
            "dtype": self.dtype,
            "kv_dtype": self._kv_dtype,
            "attention": self.info.attention,
            "quantisation": quantization.identity(self.info, self.quantize),
            "protocol": {
                "prompt": fixed.protocol,
                "eos": list(fixed.eos),
                "first_logits_capped": fixed.cap_first,
                "first_position": fixed.first_position,
                "sliding_window": self.info.window if self._sliding else None,
            },
            **({"conventions": said} if (said := conventions.identity(self.info.trained)) else {}),
            # Earlier versions took the embedding table for both.
            **({"tables": 2} if self.info.two_tables else {}),
            **({"stable": self._threshold} if self._threshold else {}),
            **({"compiled": True} if self.compile else {}),  # its kernels round less often
        }

    @property
    def _threshold(self) -> float:
        """The margin below which `stable` recomputes an answer; 0 without it."""
        if self.stable is None or self.stable is False:
            return 0.0
        return THRESHOLDS[self.dtype] if self.stable is True or self.stable == "auto" else float(self.stable)

    @property
    def _sliding(self) -> bool:
        return self.sliding_window == "transformers"

    @property
    def _kv_dtype(self) -> str:
        return self.kv_dtype or self.dtype
