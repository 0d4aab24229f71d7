"""Describes a PaliGemma checkpoint on disk from config.json and safetensors headers: finds, checks and hashes
it. Imports neither torch nor transformers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.errors import ModelError
from evalkit.files import file_digest
from evalkit.models.paligemma.checkpoint import contents, hub, saved_codes, settings, trained, weight_files
from evalkit.models.paligemma.checkpoint.lora import Adapter
from evalkit.models.paligemma.checkpoint.planned import Planned
from evalkit.models.paligemma.checkpoint.safetensors import DTYPES, canonical
from evalkit.models.paligemma.checkpoint.settings import Settings
from evalkit.types import Conventions

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
SIZES = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "head_dim",
)  # fmt: skip
FAMILIES = {"gemma": 1, "gemma2": 2}


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """One checkpoint as its files describe it."""

    path: Path
    family: int  # 1: Gemma decoder, 2: Gemma 2 decoder
    resolution: int  # pixels per side
    patch: int  # pixels per side of one patch
    parameters: int
    dtype: str  # what most parameters are saved in
    vocabulary: int  # rows of the embedding table
    image_token: int  # id of the `<image>` placeholder
    eos: tuple[int, ...]  # end tokens that the checkpoint's configs list
    weights: tuple[Path, ...]
    tokenizer: tuple[Path, ...]
    processor: tuple[Path, ...]
    protocol: str  # that its `evalkit.yaml` says it was trained with: paper, hf, or ""
    shapes: Mapping[str, tuple[int, ...]]  # of every tensor, by `safetensors.canonical` name
    codes: saved_codes.Codes | None = None  # how bitsandbytes saved the weights; None: they are plain
    two_tables: bool = False  # whether an output table is saved beside the embedding table
    window: int | None = None  # tokens that alternate layers see when transformers decodes (Gemma 2)
    adapter: Adapter | None = None  # merged into the weights when they are loaded
    derived: Mapping[str, Any] | None = None  # config.json derived from a .npz, which has none
    remarks: tuple[str, ...] = ()  # sentences: what is odd about the files, and does not stop a run
    trained: Conventions = field(default_factory=Conventions)  # what else that file says
    planned: Planned = field(default_factory=Planned)  # the files that a run's identity names

    @property
    def image_tokens(self) -> int:
        """Tokens that one image takes in the prompt: (resolution / patch)²."""
        return (self.resolution // self.patch) ** 2

    @property
    def attention(self) -> str:
        """transformers' attention: `sdpa`, or `eager` if attention logits are soft-capped (Gemma 2)."""
        return "eager" if self.family == 2 else "sdpa"

    def describe(self) -> str:
        """`PaliGemma 2, 448 px (1,024 image tokens), 3.0 B parameters in bfloat16, 2 files`."""
        name = "PaliGemma" if self.family == 1 else f"PaliGemma {self.family}"
        files = f"{len(self.weights)} file" + ("s" if len(self.weights) != 1 else "")
        files = files if self.weights else "in memory"
        files += f", with adapter {self.adapter.path.name}" if self.adapter else ""
        saved = f" (saved in {self.codes.scheme})" if self.codes else ""
        return (
            f"{name}, {self.resolution} px ({self.image_tokens:,} image tokens), "
            f"{_short(self.parameters)} parameters in {self.dtype}{saved}, {files}"
        )


def inspect(path: str | Path, tokenizer: Path | None = None) -> CheckpointInfo:
    """Describes a checkpoint folder without loading it; `tokenizer` is another folder with the tokenizer.

    Raises ModelError if the folder is not a PaliGemma, has no safetensors weights, lacks shards or
    the tokenizer, or contradicts itself.
    """
    folder = Path(path)
    config = _config(folder)
    text, vision = config.part("text_config"), config.part("vision_config")
    for part in (text, vision):
        for size in SIZES:
            part.maybe(size, least=1)
    family = _family(config, text)
    found, remarks = weight_files.find(folder)
    codes = saved_codes.read(config)
    if codes is not None:
        codes, found = saved_codes.plain(codes, found)
    contents.refuse(folder, found)
    tensors = {name: tensor for one in found for name, tensor in one.tensors.items()}
    shapes = {canonical(name): tensor.shape for name, tensor in tensors.items()}
    kinds: Counter[str] = Counter()
    for tensor in tensors.values():
        kinds[DTYPES.get(tensor.dtype, tensor.dtype)] += math.prod(tensor.shape)
    home, told = (tokenizer, ()) if tokenizer else _tokenizer_home(folder)
    info = described(folder, config, shapes, kinds, home)
    remarks += contents.compare(folder, list(tensors), info.shapes, text, vision, family)
    return dataclasses.replace(
        info,
        weights=tuple(one.file for one in found),
        processor=info.processor or (processor_files(home) if told else ()),
        codes=codes,
        remarks=(*remarks, *told),
    )


def described(
    folder: Path, config: Settings, shapes: dict[str, tuple[int, ...]], kinds: Counter[str], home: Path
) -> CheckpointInfo:
    """What config, tokenizer (in `home`) and tensors say together; `kinds` counts numbers by precision.

    Raises ModelError where they contradict each other.
    """
    text, vision = config.part("text_config"), config.part("vision_config")
    family = _family(config, text)
    resolution, patch = _geometry(folder, vision, shapes)
    said = trained.beside(folder)
    two_tables = {contents.TABLE, contents.HEAD} <= shapes.keys()
    if contents.HEAD in shapes and not two_tables:  # then it is the embedding table too, as in transformers
        shapes[contents.TABLE] = shapes[contents.HEAD]
    return CheckpointInfo(
        path=folder,
        family=family,
        resolution=resolution,
        patch=patch,
        parameters=sum(kinds.values()),
        dtype=kinds.most_common(1)[0][0],
        vocabulary=_vocabulary(folder, text, shapes),
        image_token=config.whole("image_token_index", "image_token_id", default=256000),
        eos=_eos(folder, config, text),
        weights=(),
        tokenizer=tokenizer_files(home),
        processor=processor_files(folder),
        protocol=said.protocol,
        trained=said.conventions,
        window=window(family, text),
        shapes=shapes,
        two_tables=two_tables,
    )


def window(family: int, text: Settings) -> int | None:
    """The sliding window that transformers reads from a text config, in tokens; None for Gemma 1."""
    if family != 2 or ("sliding_window" in text.content and text.content["sliding_window"] is None):
        return None
    return text.whole("sliding_window", default=4096)  # Gemma2Config's own default


def tokenizer_files(folder: Path) -> tuple[Path, ...]:
    """The files of a folder's tokenizer. Raises ModelError if it has none."""
    found = tuple(folder / name for name in TOKENIZER_FILES if (folder / name).is_file())
    if not _has_tokenizer(folder):
        raise ModelError(
            f"{folder}: the tokenizer is missing (tokenizer.json or tokenizer.model); name the folder "
            "that has it with --model_args tokenizer=FOLDER"
        )
    return found


def processor_files(folder: Path) -> tuple[Path, ...]:
    return tuple(folder / name for name in PROCESSOR_FILES if (folder / name).is_file())


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model"))


def _tokenizer_home(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder that has a checkpoint's tokenizer: its own, or the one above, where a trainer leaves it; and
    what is to be said."""
    above = folder.resolve().parent
    if _has_tokenizer(folder) or not _has_tokenizer(above):
        return folder, ()
    return above, (f"{folder}: has no tokenizer; the one in the folder above is used",)


def check_resolution(info: CheckpointInfo, resolution: int | None) -> None:
    """Raises ModelError if `--resolution` is not the resolution that the checkpoint was made for."""
    if resolution is not None and resolution != info.resolution:
        raise ModelError(
            f"{info.path}: --resolution {resolution}: this checkpoint takes {info.resolution} px "
            f"({info.image_tokens:,} image tokens); leave the option out "
            f"or use --resolution {info.resolution}"
        )


def decisive(info: CheckpointInfo) -> dict[str, dict[str, Path]]:
    """The files that decide the text, by the name that they have in the identity."""
    names = ("config.json", "generation_config.json") if info.derived is None else ()
    adapter = info.adapter.files if info.adapter else ()
    return {
        "weights": {_below(f, info.path): f for f in info.weights}
        | {f"adapter/{f.name}": f for f in adapter},
        "config": {name: info.path / name for name in names if (info.path / name).is_file()},
        "tokenizer": {f.name: f for f in info.tokenizer},
        "processor": {f.name: f for f in info.processor},
    }


def digests(info: CheckpointInfo) -> dict[str, dict[str, str]]:
    """sha256 of the files that decide the text: `weights`, `config`, `tokenizer`, `processor`. Large
    files are hashed once and remembered."""
    found = {
        kind: {name: file_digest(file) for name, file in files.items()}
        for kind, files in decisive(info).items()
    }
    if info.derived is not None:
        text = json.dumps(info.derived, sort_keys=True).encode()
        found["config"] = {"derived": hashlib.sha256(text).hexdigest()}
    return found


def check_small_files(info: CheckpointInfo) -> None:
    """Raises ModelError if config, tokenizer or processor are not those of `info.planned`, or if a file has
    come to the tokenizer: once all is loaded."""
    files = decisive(info)
    info.planned.check_again(f for kind in ("config", "tokenizer", "processor") for f in files[kind].values())
    home = info.tokenizer[0].parent
    if info.planned.digests and tokenizer_files(home) != info.tokenizer:
        raise ModelError(f"{home}: a file of the tokenizer was added after the run was planned; run the same "
                         "command again")  # fmt: skip


def _below(file: Path, folder: Path) -> str:
    """A file's name in the identity: shards of one name in two folders are two."""
    return os.path.relpath(file, folder) if file != folder else file.name


# --- reading the folder --------------------------------------------------------------------------


def _config(folder: Path) -> Settings:
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder; give a checkpoint folder or a hub id")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: {_instead(folder)}")
    return settings.read(folder / "config.json")


def _instead(folder: Path) -> str:
    """What a folder without config.json is."""
    if (folder / "adapter_config.json").is_file():
        return (
            "holds only an adapter (adapter_config.json), not the weights of its base; give the base as "
            "--model and this as --adapter"
        )
    return hub.inside(folder, "--model") or (
        "config.json is missing; give a checkpoint folder in Hugging Face layout"
    )


def _family(config: Settings, text: Settings) -> int:
    if config.content.get("model_type") != "paligemma":
        raise ModelError(
            f"{config.where}: model_type is {str(config.content.get('model_type'))[:60]!r}; "
            "only 'paligemma' (PaliGemma and PaliGemma 2) can be evaluated"
        )
    kind = text.text("model_type", "gemma")
    if kind not in FAMILIES:
        raise ModelError(
            f"{config.where}: text_config.model_type is {kind[:60]!r}; it must be 'gemma' (PaliGemma) or "
            "'gemma2' (PaliGemma 2)"
        )
    return FAMILIES[kind]


def _geometry(folder: Path, vision: Settings, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int]:
    """(resolution, patch) from the config, checked against the position table in the weights."""
    resolution = vision.whole("image_size", default=224, least=1)
    patch = vision.whole("patch_size", default=14, least=1)
    if resolution % patch:
        raise ModelError(f"{vision.where}: image_size {resolution} is not a multiple of patch_size {patch}")
    if contents.POSITIONS not in shapes:
        raise ModelError(f"{folder}: the weights hold no vision tower (no position_embedding.weight)")
    rows = shapes[contents.POSITIONS][0]
    if rows != (resolution // patch) ** 2:
        raise ModelError(
            f"{vision.where}: image_size {resolution} means "
            f"{(resolution // patch) ** 2} image tokens, but the weights have positions for "
            f"{rows} ({math.isqrt(rows) * patch} px)"
        )
    return resolution, patch


def _vocabulary(folder: Path, text: Settings, shapes: Mapping[str, tuple[int, ...]]) -> int:
    if contents.TABLE not in shapes:
        raise ModelError(f"{folder}: the weights hold no embedding table (no embed_tokens.weight)")
    rows = shapes[contents.TABLE][0]
    said = text.maybe("vocab_size")
    if said is not None and said != rows:
        raise ModelError(f"{text.where}: vocab_size is {said}, but the embedding table has {rows} rows")
    return rows


def _eos(folder: Path, config: Settings, text: Settings) -> tuple[int, ...]:
    """The end tokens that transformers' `generate` would stop at."""
    generation = folder / "generation_config.json"
    first = (settings.read(generation),) if generation.is_file() else ()
    said = [source.wholes("eos_token_id") for source in (*first, text, config)]
    return next((listed for listed in said if listed is not None), (1,))


def _short(n: int) -> str:
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return str(n)
