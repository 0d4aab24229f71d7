"""Which layers an adapter's config names, as peft reads it: to tell those that the adapter does not have."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint.safetensors import canonical
from evalkit.models.paligemma.checkpoint.settings import Settings

ALL = "all-linear"
LINEAR = re.compile(
    r"vision_tower\.encoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])"
    r"|multi_modal_projector\.linear"
    r"|language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
)


def _since_452(name: str) -> str:
    return name if name.startswith("lm_head") else f"model.{name}"


def _before(name: str) -> str:
    name = name.replace("vision_tower.", "vision_tower.vision_model.", 1)
    return (
        name.replace("language_model.", "language_model.model.", 1)
        if "lm_head" not in name
        else f"language_model.{name}"
    )


SPELLINGS: tuple[Callable[[str], str], ...] = (
    _since_452,
    lambda name: _since_452(name).replace("vision_tower.", "vision_tower.vision_model.", 1),
    _before,
    lambda name: name,
)
"""From a layer's canonical name to the one that it had in the model which was trained."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What a config names. `adapted` are the names of the layers in the adapter, as they were trained."""

    config: Settings
    adapted: tuple[str, ...]


def read(config: Settings, adapted: tuple[str, ...]) -> Targets:
    """Raises ModelError for a config of wrong types, or an expression that cannot be read."""
    for key in ("target_modules", "exclude_modules"):
        value = config.texts(key)
        if isinstance(config.content.get(key), str):
            matches(config, key, value[0], "")
    for pattern in config.texts("layers_pattern"):
        matches(config, "layers_pattern", pattern, "")
    if config.content.get("layers_to_transform") != []:
        config.wholes("layers_to_transform")
    return Targets(config, tuple(name.removeprefix("base_model.model.") for name in adapted))


def missing(targets: Targets, has: Collection[str], shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The layers of the base (`shapes`) that are named and not among those that the adapter `has`; canonical
    names. [] where the config names none, or other layers than the adapter has: then nothing is known."""
    layers = [n.removesuffix(".weight") for n in shapes if n.endswith(".weight")]
    layers = [name for name in layers if LINEAR.fullmatch(name)]
    for spelling in SPELLINGS:
        if {spelling(canonical(name)) for name in targets.adapted} == set(targets.adapted):
            named = [name for name in layers if _named(targets.config, spelling(name))]
            mine = {canonical(name) for name in targets.adapted}
            return [n for n in named if n not in has] if mine & set(layers) <= set(named) else []
    return []


def matches(config: Settings, key: str, pattern: str, name: str) -> bool:
    """Whether an expression of the config fits the whole name. Raises ModelError if it is none."""
    try:
        return re.fullmatch(pattern, name) is not None
    except (re.error, RecursionError, OverflowError) as error:
        raise ModelError(
            f"{config.where}: {key}: {pattern[:60]!r} is no regular expression ({error})"
        ) from None


def _named(config: Settings, name: str) -> bool:
    """Whether peft would adapt the layer: `check_target_module_exists` of peft.tuners.tuners_utils."""
    if config.content.get("exclude_modules") and _listed(config, "exclude_modules", name):
        return False
    saved = config.texts("modules_to_save")
    if any(f".{module}." in f".{name}." for module in saved) or not _listed(config, "target_modules", name):
        return False
    only = config.content.get("layers_to_transform")
    if only in (None, []) or isinstance(config.content.get("target_modules"), str):
        return True
    patterns = "|".join(f"(?:{p})" for p in config.texts("layers_pattern")) or r"[^.]*"
    found = re.match(rf"(?:^|.*?\.)(?:{patterns})\.(?P<index>\d+)\.", name)
    return found is not None and int(found["index"]) in (only if isinstance(only, list) else [only])


def _listed(config: Settings, key: str, name: str) -> bool:
    value = config.content.get(key)
    if isinstance(value, str):
        return value.lower() == ALL or matches(config, key, value, name)
    return any(name == one or name.endswith(f".{one}") for one in config.texts(key))
