"""Options that many commands share: of a model, of the data, of where runs are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from evalkit.errors import UserError
from evalkit.options.fields import Options, Paths, checked, flags, margin, option, options, paths, positive

Dtype = Literal["float32", "bfloat16", "float16", "auto"]
Protocol = Literal["paper", "hf"]


def read_model_args(given: str | Mapping[str, Any]) -> dict[str, Any]:
    """`pretrained=...,dtype=...` as names and texts. Raises ValueError."""
    if isinstance(given, Mapping):
        return dict(given)
    found: dict[str, str] = {}
    for part in filter(None, given.split(",")):
        key, mark, value = part.partition("=")
        if not mark or not key:
            raise ValueError("write key=value, with a comma between two")
        key = key.replace("-", "_")
        if found.get(key, value) != value:
            raise ValueError(f"{key} is {found[key]} already; say it once")
        found[key] = value
    return found


@options
class ModelOptions(Options):
    """How a checkpoint is loaded and run. What is left at None is the backend's own choice.

    A backend that cannot use an option which is given refuses it by name.
    """

    model_args: str | Mapping[str, Any] = option(
        "any of these as lm-eval takes them, and pretrained=...; the others go to a class of your own",
        default="",
        metavar="K=V,...",
        check=read_model_args,
        empty=True,
    )
    revision: str | None = option("hub revision, a 40-digit commit is best", default=None)
    resolution: int | None = option(
        "in pixels, checked against the checkpoint: 224, 448, 896", default=None, metavar="PX", check=positive
    )
    dtype: Dtype | None = option(
        "default float32, as the reference runs; auto: as the weights are stored", default=None
    )
    device: str | None = option("cpu, cuda, cuda:1 (default: a GPU if there is one)", default=None)
    device_map: str | None = option("'auto' spreads a checkpoint over several GPUs", default=None)
    adapter: str | None = option(
        "a LoRA adapter (peft's two files): merged, or beside a quantised base", default=None, metavar="DIR"
    )
    base: str | None = option(
        "what an adapter is merged into (default: what it names)", default=None, metavar="FOLDER"
    )
    quantize: str | None = option(
        "int8, nf4 or another scheme; none: saved codes as floats", default=None, metavar="SCHEME"
    )
    tokenizer: str | None = option(
        "another folder's tokenizer; a .npz needs one", default=None, metavar="FOLDER"
    )
    batch_size: int | Literal["auto"] = option(
        "auto halves when memory runs out", default="auto", metavar="N|auto", check=positive
    )
    engine: Literal["auto", "fast", "plain"] | None = option(
        "default fast wherever it can be; plain is transformers' own forward", default=None
    )
    kv_dtype: Literal["float32", "bfloat16"] | None = option(
        "bfloat16: round keys and values as big_vision", default=None
    )
    stable: float | bool | Literal["auto"] | None = option(
        "decide answers closer than MARGIN logits again in float32; `evalkit doctor` measures MARGIN",
        default=None,
        metavar="MARGIN",
        bare="auto",
        check=margin,
    )
    strict: bool | None = option("one batch shape; out of memory is an error", default=None)
    sliding_window: Literal["none", "transformers"] | None = option(
        "default none, as the reference; transformers: Gemma 2's window while decoding", default=None
    )
    prompt_mask: Literal["bidirectional", "causal", "causal_image"] | None = option(
        "causal: the prompt's text sees only what is before it, as LLaMA-Factory trains; causal_image: the "
        "image too (default: as the checkpoint's evalkit.yaml says, else bidirectional)",
        default=None,
    )
    conventions: str | None = option(
        "what the checkpoint was trained with (default: evalkit.yaml in its folder)",
        default=None,
        metavar="FILE",
    )
    cuda_graphs: Literal["auto", "on", "off"] | None = option(
        "decode steps as CUDA graphs (default auto: wherever the fast engine runs on a GPU)", default=None
    )
    fused_kernels: bool | None = option(
        "norms, rotation and cache by Triton kernels on a GPU; not yet proven on one", default=None
    )
    compile: bool | None = option("torch.compile decode steps and vision tower", default=None)
    workers: int | None = option(
        "readers of images (default 2, on a GPU up to 8)", default=None, metavar="N", check=positive
    )
    worker_kind: Literal["thread", "process"] | None = option(
        "whether those are threads or processes (default: threads, on a GPU processes)", default=None
    )

    @property
    def pretrained(self) -> str:
        """The checkpoint that `--model_args pretrained=...` names, or ''."""
        return str(read_model_args(self.model_args).get("pretrained", ""))

    def of_model(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What was said of the model: options of their own, and those in `model_args`, which count more."""
        flags = {k: v for k, v in self.given(ModelOptions).items() if k != "model_args"}
        args = {k: v for k, v in read_model_args(self.model_args).items() if k != "pretrained"}
        return flags, args


MODEL_OPTIONS = frozenset(flags(ModelOptions)) - {"model_args"}
"""The names of all options of a model."""


def model_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a model by name, checked; texts are read as on the command line. Raises OptionError."""
    return checked(ModelOptions, given)


@options
class DataOptions(Options):
    """Where data and task files are."""

    data_root: Paths = option(
        "where datasets are (or EVALKIT_DATA, or evalkit.toml)",
        default=(),
        metavar="DIR",
        check=paths,
        repeat=True,
        exists="folder",
    )
    include_path: Paths = option(
        "more task files", default=(), metavar="DIR", check=paths, repeat=True, exists="folder"
    )


@options
class TrustOptions(Options):
    """Whether digests that were remembered are trusted."""

    rehash: bool = option(
        "hash weights and other large files again instead of trusting what is remembered of them",
        default=False,
    )


def one_model(names: tuple[str, ...], verb: str) -> str:
    """The only name. Raises UserError for several."""
    if len(names) != 1:
        raise UserError(f"{verb}: one --model at a time")
    return names[0]
