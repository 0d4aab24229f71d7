"""LoRA and DoRA adapters as peft saves them: reads them, checks them against their base, merges them into its
weights.

Merged here and not by peft, so that unknown settings are refused instead of ignored.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint import contents, hub, settings, targets
from evalkit.models.paligemma.checkpoint import safetensors as tensors
from evalkit.models.paligemma.checkpoint.settings import Settings
from evalkit.models.paligemma.checkpoint.targets import Targets

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
UNDERSTOOD = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "exclude_modules", "fan_in_fan_out",
    "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha",
    "lora_dropout", "modules_to_save", "peft_type", "peft_version", "r", "rank_pattern", "revision",
    "target_modules", "task_type", "use_dora", "use_rslora", "ensure_weight_tying",
    "megatron_core", "qalora_group_size", "eva_config", "runtime_config",  # no effect without their switches
}  # fmt: skip
"""Keys of adapter_config.json that are followed, or have no effect on a trained adapter. `fan_in_fan_out`
is for a kind of layer that PaliGemma lacks; peft ignores it there too."""
LENGTHS = re.compile(r"(.+)\.lora_(magnitude_vector)(?:\.default)?(?:\.weight)?")
INITIAL = (True, False, None, "gaussian", "eva", "orthogonal")  # other methods change the base's weights
OFFICIAL = re.compile(
    r"paligemma(?P<family>2?)-(?P<size>\d+b)-(?P<kind>[a-z0-9_-]+?)-(?P<resolution>\d{3})(?!\d)"
)


@dataclass(frozen=True, slots=True)
class Pair:
    """One adapted layer: W + scaling · B A. With DoRA its rows are then brought to lengths m of their own."""

    a: str  # key of A, (r, in)
    b: str  # key of B, (out, r)
    rank: int
    shape: tuple[int, int]  # (out, in) of the layer
    scaling: float
    lengths: str = ""  # key of m, (out,)


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter as its two files describe it. Layers and parameters have their `safetensors.canonical`
    names."""

    path: Path
    base: str  # the checkpoint that it says it was trained on, or ""
    revision: str | None
    pairs: Mapping[str, Pair]  # by layer
    replaced: Mapping[str, tuple[str, tuple[int, ...]]]  # by parameter: key and shape
    own_copies: tuple[str, ...]  # those of `replaced` that must not change a tied weight elsewhere
    targets: Targets  # the layers that its config names

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path / CONFIG, self.path / WEIGHTS)


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter and no full weights. Raises ModelError if it holds both."""
    if not (folder / CONFIG).is_file():
        return False
    if any(folder.glob("model*.safetensors")):
        raise ModelError(
            f"{folder}: holds full weights and an adapter ({CONFIG}); keep them in two folders and "
            "give --model WEIGHTS --adapter ADAPTER"
        )
    return True


def inspect(folder: Path) -> Adapter:
    """Describes an adapter without loading it. Raises ModelError if it cannot be merged exactly."""
    if not (folder / CONFIG).is_file():
        why = (
            hub.inside(folder, "--adapter")
            or f"{CONFIG} is missing; --adapter takes a folder as peft saves it"
        )
        raise ModelError(f"{folder}: {why}")
    if not (folder / WEIGHTS).is_file():
        pickled = " (only the pickled adapter_model.bin, which is never loaded)"
        found = pickled if (folder / "adapter_model.bin").is_file() else ""
        raise ModelError(f"{folder}: {WEIGHTS} is missing{found}; save it with safe_serialization=True")
    config = settings.read(folder / CONFIG)
    _refuse(config)
    shapes = _shapes(folder / WEIGHTS)
    halves: dict[str, dict[str, str]] = {}
    replaced: dict[str, tuple[str, tuple[int, ...]]] = {}
    for key in shapes:
        match = re.fullmatch(r"(.+)\.lora_([AB])\.(?:default\.)?weight", key) or LENGTHS.fullmatch(key)
        if match:
            halves.setdefault(match[1], {})[match[2]] = key
        elif "lora_" in key:
            raise ModelError(
                f"{folder / WEIGHTS}: {key}: only LoRA on linear layers is merged; merge it with peft"
            )
        else:
            replaced[tensors.canonical(key)] = (key, shapes[key])
    saved = config.texts("modules_to_save")
    return Adapter(
        path=folder,
        base=config.text("base_model_name_or_path"),
        revision=config.text("revision") or None,
        pairs={tensors.canonical(k): _pair(folder, config, k, v, shapes) for k, v in sorted(halves.items())},
        replaced=replaced,
        own_copies=tuple(name for name in replaced if any(f".{m}." in f".{name}" for m in saved)),
        targets=targets.read(config, tuple(sorted(halves))),
    )


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of an adapter's tensors. Raises ModelError for numbers that are no floats."""
    (header,) = tensors.headers((file,))
    for name, tensor in header.tensors.items():
        if tensor.dtype not in tensors.DTYPES:
            kinds = ", ".join(tensors.DTYPES.values())
            raise ModelError(
                f"{file}: {name} is {tensor.dtype}, it must be one of {kinds}; save the adapter again"
            )
    return {name: tensor.shape for name, tensor in header.tensors.items()}


def _refuse(config: Settings) -> None:
    said = config.content
    if said.get("peft_type") != "LORA":
        raise ModelError(
            f"{config.where}: peft_type is {said.get('peft_type')!r}; only LORA adapters are merged"
        )
    for key, value in said.items():
        if value and key not in UNDERSTOOD:
            raise ModelError(
                f"{config.where}: {key} is not understood, so its merged weights would be wrong; merge the "
                "adapter with peft (merge_and_unload) and evaluate the merged checkpoint"
            )
    if said.get("init_lora_weights") not in INITIAL:
        raise ModelError(
            f"{config.where}: init_lora_weights is {said['init_lora_weights']!r}, which changes the base "
            "too; merge the adapter with peft and evaluate the merged checkpoint"
        )
    if said.get("ensure_weight_tying") and said.get("modules_to_save"):
        raise ModelError(
            f"{config.where}: ensure_weight_tying is not understood; merge the adapter with peft"
        )


def _pair(
    folder: Path,
    config: Settings,
    module: str,
    halves: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
) -> Pair:
    """One layer's two matrices and scaling: alpha / r, or alpha / √r (rsLoRA, Kalajdzievski 2023)."""
    where = f"{folder / WEIGHTS}: {tensors.canonical(module)}"
    dora = bool(config.content.get("use_dora"))
    if not {"A", "B"} <= set(halves):
        raise ModelError(f"{where}: has only half of its LoRA matrices; save the adapter again")
    a, b = shapes[halves["A"]], shapes[halves["B"]]
    lengths = halves.get("magnitude_vector", "")
    if bool(lengths) != dora or (dora and shapes[lengths] != b[:1]):
        has = f"has {shapes[lengths]}" if lengths else "has none"
        raise ModelError(
            f"{where}: {CONFIG} says use_dora {str(dora).lower()}, its lora_magnitude_vector {has}; save the "
            "adapter again"
        )
    if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
        raise ModelError(
            f"{where}: LoRA matrices of {a} and {b} cannot be multiplied; only linear layers are merged"
        )
    name = module.removeprefix("base_model.model.")
    rank = _matching(config, "rank_pattern", name, "r")
    alpha = _matching(config, "alpha_pattern", name, "lora_alpha")
    if rank != a[0] or isinstance(alpha, bool) or not isinstance(alpha, (int, float)):
        raise ModelError(f"{where}: has rank {a[0]}, {CONFIG} says r {rank} and lora_alpha {alpha}")
    scaling = alpha / (math.sqrt(a[0]) if config.content.get("use_rslora") else a[0])
    if not math.isfinite(scaling):
        raise ModelError(f"{config.where}: lora_alpha is {alpha}; it must be a finite number")
    return Pair(halves["A"], halves["B"], a[0], (b[0], a[1]), scaling, lengths)


def _matching(config: Settings, patterns: str, name: str, default: str) -> Any:
    """The value of the first pattern that matches the end of the module's name, as in peft."""
    for pattern, value in config.part(patterns).content.items():
        if targets.matches(config, patterns, rf"(.*\.)?({pattern})$", name):
            return value
    return config.content.get(default)


# --- does it fit? --------------------------------------------------------------------------------


def check_base(
    adapter: Adapter, spec: str, family: int, resolution: int, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Raises ModelError unless the adapter fits the base: by the names of published checkpoints if both
    are known, and by every layer's shape. `shapes` are the base's by canonical name."""
    trained, given = OFFICIAL.search(adapter.base.lower()), OFFICIAL.search(spec.lower())
    if trained:
        facts = [
            (
                "a PaliGemma" + (" 2" if family == 2 else ""),
                trained["family"] == ("2" if family == 2 else ""),
            ),
            (f"made for {resolution} px", int(trained["resolution"]) == resolution),
        ]
        if given:
            facts.append((f"{given['size']} {given['kind']}", trained["size"] == given["size"]
                          and trained["kind"] == given["kind"]))  # fmt: skip
        wrong = next((fact for fact, holds in facts if not holds), None)
        if wrong:
            raise ModelError(
                f"{adapter.path}: was trained on {adapter.base}, but {spec} is {wrong}; give the base "
                "that the adapter was trained on"
            )
    of = f", it was trained on {adapter.base}" if adapter.base else ""
    for name, pair in adapter.pairs.items():
        has = _shape(f"{name}.weight", shapes)
        if has != pair.shape:
            is_there = f"has {has}" if has else "has no such layer"
            raise ModelError(
                f"{adapter.path}: adapts {name} of {pair.shape}, {spec} {is_there}; the adapter belongs to "
                f"another base{of}"
            )
    for name, (_, shape) in adapter.replaced.items():
        has = _shape(name, shapes)
        if has != shape:
            is_there = f"has {has}" if has else "has none"
            raise ModelError(
                f"{adapter.path}: brings its own {name} of {shape}, {spec} {is_there}; the adapter "
                f"belongs to another base{of}"
            )


def remarks(adapter: Adapter, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """What is to be said of an adapter that covers a part of what its config names. `shapes`: the base's."""
    said = []
    lost = targets.missing(adapter.targets, adapter.pairs, shapes)
    if lost:
        said.append(
            f"{adapter.path}: adapts {len(adapter.pairs):,} of the {len(lost) + len(adapter.pairs):,} layers "
            f"that {CONFIG} names; the base's own weights are used for {contents.listed(lost)}"
        )
    saved = adapter.targets.config.texts("modules_to_save")
    gone = [name for name in saved if not any(f".{name}." in f".{place}" for place in adapter.replaced)]
    if gone:
        said.append(
            f"{adapter.path}: {CONFIG} names modules_to_save {', '.join(gone)}, which it does not hold; "
            "the base's own weights are used for them"
        )
    others = sorted(file.parent.name for file in adapter.path.glob(f"*/{CONFIG}"))
    others = [name for name in others if not re.fullmatch(r"checkpoint-\d+", name)]  # a trainer's
    if others:
        said.append(
            f"{adapter.path}: holds other adapters too, which are not run: {', '.join(others)}; give one as "
            "--adapter"
        )
    return tuple(said)


def _shape(name: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """A parameter's shape; the output table is the embedding table unless saved separately."""
    if name == "lm_head.weight" and name not in shapes:
        name = "language_model.embed_tokens.weight"
    return shapes.get(name)


# --- merging -------------------------------------------------------------------------------------


def merge(adapter: Adapter, model: Any) -> None:
    """Merges the adapter into a loaded model of transformers, in place.

    The sum is computed in float32 and then rounded to the model's precision. If two layers share a weight
    (embedding and output table), only the adapted layer changes.
    """
    import torch

    homes = {tensors.canonical(n): m for n, m in model.named_modules()}
    with torch.no_grad(), opened(adapter) as read:
        for name, pair in adapter.pairs.items():
            weight = _own(model, homes[name], "weight")
            a, b, lengths = matrices(pair, read, weight.device)
            whole = weight.float() + (b @ a) * pair.scaling
            if lengths is not None:  # DoRA: Liu et al. 2024, equation 5
                whole *= (lengths / whole.norm(dim=1)).unsqueeze(1)
            weight.copy_(whole)
        for name, (key, _) in adapter.replaced.items():
            home = homes[name.rpartition(".")[0]]
            replace(adapter, model, home, name, read(key))


def replace(adapter: Adapter, model: Any, home: Any, name: str, values: Any) -> None:
    """Puts the adapter's own values into the parameter `name` of a layer, `home`."""
    parameter = name.rpartition(".")[2]
    target = _own(model, home, parameter) if name in adapter.own_copies else getattr(home, parameter)
    target.copy_(values)


def matrices(pair: Pair, read: Callable[[str], Any], device: Any) -> tuple[Any, Any, Any | None]:
    """A, B and DoRA's lengths m (None without DoRA) in float32 on a device."""
    each = (pair.a, pair.b, pair.lengths)
    a, b, lengths = (read(key).to(device).float() if key else None for key in each)
    return a, b, lengths


@contextlib.contextmanager
def opened(adapter: Adapter) -> Iterator[Callable[[str], Any]]:
    """Reads its tensors by key. Raises ModelError for what is not finite."""
    from safetensors import safe_open

    from evalkit.models.paligemma.checkpoint import finite

    with safe_open(adapter.path / WEIGHTS, framework="pt") as file:

        def read(key: str) -> Any:
            values = file.get_tensor(key)
            finite.check(adapter.path / WEIGHTS, key, values)
            return values

        yield read


def _own(model: Any, home: Any, parameter: str) -> Any:
    """The layer's parameter, replaced by a copy of its own if another layer shares it."""
    import torch

    found = getattr(home, parameter)
    sharing = [
        m for m in model.modules() if any(p is found for p in m._parameters.values()) and m is not home
    ]
    if sharing:
        found = torch.nn.Parameter(found.detach().clone(), requires_grad=False)
        setattr(home, parameter, found)
    return found
