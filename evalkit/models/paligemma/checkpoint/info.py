"""Describes a PaliGemma checkpoint on disk from config.json and safetensors headers: finds, checks and hashes
it. Imports neither torch nor transformers."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evalkit import door
from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint import safetensors
from evalkit.models.paligemma.checkpoint.lora import Adapter

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
PROTOCOLS = ("paper", "hf")
FAMILIES = {"gemma": 1, "gemma2": 2}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


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
    protocol: str  # that its `evalkit.yaml` says it was trained with: paper, hf, or "" without that file
    shapes: Mapping[str, tuple[int, ...]]  # of every tensor, by `safetensors.canonical` name
    window: int | None = None  # tokens that alternate layers see when transformers decodes (Gemma 2)
    adapter: Adapter | None = None  # merged into the weights when they are loaded
    derived: Mapping[str, Any] | None = None  # config.json derived from a .npz, which has none

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
        files += f", with adapter {self.adapter.path.name}" if self.adapter else ""
        return (
            f"{name}, {self.resolution} px ({self.image_tokens:,} image tokens), "
            f"{_short(self.parameters)} parameters in {self.dtype}, {files}"
        )


def inspect(path: str | Path, tokenizer: Path | None = None) -> CheckpointInfo:
    """Describes a checkpoint folder without loading it; `tokenizer` is another folder with the tokenizer.

    Raises ModelError if the folder is not a PaliGemma, has no safetensors weights, lacks shards or
    the tokenizer, or contradicts itself.
    """
    folder = Path(path)
    config = _config(folder)
    text: Mapping[str, Any] = config.get("text_config") or {}
    vision: Mapping[str, Any] = config.get("vision_config") or {}
    family = _family(folder, config, text)
    weights = _weights(folder)
    shapes, kinds = safetensors.shapes(weights)
    resolution, patch = _geometry(folder, vision, shapes)
    vocabulary = _vocabulary(folder, text, shapes)
    return CheckpointInfo(
        path=folder,
        family=family,
        resolution=resolution,
        patch=patch,
        parameters=sum(math.prod(shape) for shape in shapes.values()),
        dtype=kinds.most_common(1)[0][0],
        vocabulary=vocabulary,
        image_token=int(config.get("image_token_index", config.get("image_token_id", 256000))),
        eos=_eos(folder, config, text),
        weights=weights,
        tokenizer=tokenizer_files(tokenizer or folder),
        processor=tuple(folder / name for name in PROCESSOR_FILES if (folder / name).is_file()),
        protocol=_protocol(folder),
        window=window(family, text),
        shapes={safetensors.canonical(name): shape for name, shape in shapes.items()},
    )


def window(family: int, text: Mapping[str, Any]) -> int | None:
    """The sliding window that transformers reads from a text config, in tokens; None for Gemma 1."""
    said = text.get("sliding_window", 4096) if family == 2 else None  # 4096: Gemma2Config's own default
    return None if said is None else int(said)


def tokenizer_files(folder: Path) -> tuple[Path, ...]:
    """The files of a folder's tokenizer. Raises ModelError if it has none."""
    found = tuple(folder / name for name in TOKENIZER_FILES if (folder / name).is_file())
    if not any(f.name in ("tokenizer.json", "tokenizer.model") for f in found):
        raise ModelError(
            f"{folder}: the tokenizer is missing (tokenizer.json or tokenizer.model); name the folder "
            "that has it with --model_args tokenizer=FOLDER"
        )
    return found


def check_resolution(info: CheckpointInfo, resolution: int | None) -> None:
    """Raises ModelError if `--resolution` is not the resolution that the checkpoint was made for."""
    if resolution is not None and resolution != info.resolution:
        raise ModelError(
            f"{info.path}: --resolution {resolution}: this checkpoint takes {info.resolution} px "
            f"({info.image_tokens:,} image tokens); leave the option out "
            f"or use --resolution {info.resolution}"
        )


def digests(
    info: CheckpointInfo, digest: Callable[[Path], str] | None = None
) -> dict[str, dict[str, str] | str]:
    """sha256 of the files that decide the text: `weights`, `config`, `tokenizer`, `processor`.

    `digest` hashes one file (default: `evalkit.files.file_digest`, which remembers large files).
    """
    digest = digest or _default_digest()
    if info.derived is not None:
        text = json.dumps(info.derived, sort_keys=True).encode()
        config = {"derived": hashlib.sha256(text).hexdigest()}
    else:
        names = ("config.json", "generation_config.json")
        config = {name: digest(info.path / name) for name in names if (info.path / name).is_file()}
    adapter = info.adapter.files if info.adapter else ()
    return {
        "weights": {_below(f, info.path): digest(f) for f in info.weights}
        | {f"adapter/{f.name}": digest(f) for f in adapter},
        "config": config,
        "tokenizer": {f.name: digest(f) for f in info.tokenizer},
        "processor": {f.name: digest(f) for f in info.processor},
    }


def _below(file: Path, folder: Path) -> str:
    """A file's name in the identity: shards of one name in two folders are two."""
    return os.path.relpath(file, folder) if file != folder else file.name


def resolve(spec: str, revision: str | None = None) -> Path:
    """The path of a local checkpoint, or the snapshot folder of a hub id (downloaded if not cached).

    Raises ModelError if there is no such folder, or the hub cannot be reached or refuses.
    """
    path = door.home(spec)
    if path.is_dir():
        if revision is not None:
            raise ModelError(f"{spec}: --revision {revision}: a local folder has no revisions; leave it out")
        return path
    if path.suffix == ".npz" and path.is_file():
        return path
    if path.is_file():
        raise ModelError(
            f"{spec}: is a file; name the checkpoint's folder {path.parent}, or a .npz of big_vision"
        )
    if not HUB_ID.fullmatch(spec):
        raise ModelError(
            f"{spec}: no such folder; --model takes a checkpoint folder in Hugging Face layout or a hub id "
            "like google/paligemma-3b-mix-224"
        )
    return _from_hub(spec, revision)


def _from_hub(spec: str, revision: str | None) -> Path:
    # Imported here: reading a local checkpoint needs no hub client.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    shown = f"{spec}@{revision}" if revision else spec
    try:
        return Path(
            snapshot_download(spec, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.model"])
        )
    except GatedRepoError:
        raise ModelError(
            f"{shown}: the licence must be accepted first; accept it at "
            f"https://huggingface.co/{spec} and set HF_TOKEN"
        ) from None
    except RevisionNotFoundError:
        raise ModelError(f"{shown}: no such revision on the hub; give a commit, tag or branch") from None
    except RepositoryNotFoundError:
        raise ModelError(f"{shown}: neither a folder here nor a repository on the hub") from None
    except Exception as error:  # the client's network errors have no common class
        raise ModelError(
            f"{shown}: no such folder here, and the hub cannot be reached ({type(error).__name__}); "
            "download it elsewhere and give its folder"
        ) from None


# --- reading the folder --------------------------------------------------------------------------


def _config(folder: Path) -> Mapping[str, Any]:
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder; --model takes a checkpoint folder or a hub id")
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise ModelError(
                f"{folder}: holds only an adapter (adapter_config.json), not the weights of its base; "
                "give the base as --model and this as --adapter"
            )
        raise ModelError(f"{folder}: config.json is missing; give a checkpoint folder in Hugging Face layout")
    config = _json(folder / "config.json")
    if config.get("quantization_config"):
        raise ModelError(f"{folder}: config.json: quantization_config: quantised weights are not supported; "
                         "give the unquantised checkpoint")  # fmt: skip
    return config


def _family(folder: Path, config: Mapping[str, Any], text: Mapping[str, Any]) -> int:
    if config.get("model_type") != "paligemma":
        raise ModelError(
            f"{folder}: config.json: model_type is {config.get('model_type')!r}; "
            "only 'paligemma' (PaliGemma and PaliGemma 2) can be evaluated"
        )
    kind = text.get("model_type", "gemma")
    if kind not in FAMILIES:
        raise ModelError(
            f"{folder}: config.json: text_config.model_type is {kind!r}; it must be 'gemma' (PaliGemma) or "
            "'gemma2' (PaliGemma 2)"
        )
    return FAMILIES[kind]


def _weights(folder: Path) -> tuple[Path, ...]:
    """The safetensors files: the single one, or those that the index lists."""
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if single.is_file():  # transformers prefers it too
        return (single,)
    if index.is_file():
        named = sorted(set((_json(index).get("weight_map") or {}).values()))
        missing = [name for name in named if not (folder / str(name)).is_file()]
        if missing or not named:
            shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            what = f"{len(missing)} of {len(named)} weight files that it names are missing: {shown}"
            raise ModelError(
                f"{index}: {what if named else 'names no weight files'}; copy or download them again"
            )
        return tuple(folder / str(name) for name in named)
    pickled = sorted(f.name for f in folder.iterdir() if f.suffix in PICKLED)
    if pickled:
        raise ModelError(
            f"{folder}: only pickled weights ({pickled[0]}), which can run code when opened and are never "
            "loaded; convert them where you trust them: from_pretrained(FOLDER).save_pretrained(OUT)"
        )
    raise ModelError(f"{folder}: no weights; model.safetensors (or its shards and their index) is missing")


def _geometry(
    folder: Path, vision: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[int, int]:
    """(resolution, patch) from the config, checked against the position table in the weights."""
    resolution, patch = int(vision.get("image_size", 224)), int(vision.get("patch_size", 14))
    if patch < 1 or resolution < patch or resolution % patch:
        raise ModelError(
            f"{folder}: config.json: vision_config: image_size {resolution} is not a multiple of "
            f"patch_size {patch}"
        )
    rows = next((s[0] for n, s in shapes.items() if n.endswith("position_embedding.weight")), None)
    if rows is None:
        raise ModelError(f"{folder}: the weights hold no vision tower (no position_embedding.weight)")
    if rows != (resolution // patch) ** 2:
        raise ModelError(
            f"{folder}: config.json: vision_config.image_size {resolution} means "
            f"{(resolution // patch) ** 2} image tokens, but the weights have positions for "
            f"{rows} ({math.isqrt(rows) * patch} px)"
        )
    return resolution, patch


def _vocabulary(folder: Path, text: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> int:
    rows = next((s[0] for n, s in shapes.items() if n.endswith("embed_tokens.weight")), None)
    if rows is None:
        raise ModelError(f"{folder}: the weights hold no embedding table (no embed_tokens.weight)")
    said = text.get("vocab_size")
    if said is not None and int(said) != rows:
        raise ModelError(
            f"{folder}: config.json: text_config.vocab_size is {said}, but the embedding table has "
            f"{rows} rows"
        )
    return rows


def _eos(folder: Path, config: Mapping[str, Any], text: Mapping[str, Any]) -> tuple[int, ...]:
    """The end tokens that transformers' `generate` would stop at."""
    generation = folder / "generation_config.json"
    listed = _json(generation).get("eos_token_id") if generation.is_file() else None
    for source in (text, config):
        listed = source.get("eos_token_id") if listed is None else listed
    if listed is None:
        return (1,)
    return tuple(int(i) for i in listed) if isinstance(listed, list) else (int(listed),)


def _protocol(folder: Path) -> str:
    """`protocol: paper|hf` of the checkpoint's own `evalkit.yaml`, its only key; "" without the file."""
    file = folder / "evalkit.yaml"
    if not file.is_file():
        return ""
    try:
        said = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        raise ModelError(f"{file}: cannot be read as YAML") from None
    if not isinstance(said, dict) or set(said) != {"protocol"} or said["protocol"] not in PROTOCOLS:
        raise ModelError(f"{file}: must hold one line, 'protocol: paper' or 'protocol: hf'")
    return str(said["protocol"])


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise ModelError(f"{file}: must hold one JSON object")
    return value


def _default_digest() -> Callable[[Path], str]:
    try:
        from evalkit.files import file_digest
    except ImportError:
        return _sha256
    found: Callable[[Path], str] = file_digest
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _short(n: int) -> str:
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return str(n)
