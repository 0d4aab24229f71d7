"""Reads checkpoints as big_vision writes them: one `.npz` of stacked layers, read layer by layer under
transformers' names. Does not import torch."""

from __future__ import annotations

import contextlib
import json
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from evalkit.errors import ModelError
from evalkit.models.paligemma.checkpoint.big_vision_names import ATTENTION, ONCE, VISION, Array, stacks
from evalkit.models.paligemma.checkpoint.contents import shown
from evalkit.models.paligemma.checkpoint.info import CheckpointInfo, tokenizer_files, window
from evalkit.models.paligemma.checkpoint.safetensors import canonical
from evalkit.models.paligemma.checkpoint.settings import Settings

KINDS = {"f4": "F32", "f2": "F16", "f8": "F64", "V2": "BF16", "u2": "BF16"}
"""numpy's types to safetensors'. numpy has no bfloat16, so it is saved as two raw bytes."""
NAMES = {"F32": "float32", "F16": "float16", "F64": "float64", "BF16": "bfloat16"}
MAX_LAYERS = 1000
MAX_SIDE = 1 << 24  # no axis of a PaliGemma's arrays is longer
LOCATIONS_AND_SEGMENTS = 1024 + 128  # the last rows of every PaliGemma's table


@dataclass(frozen=True, slots=True)
class Member:
    """One array of the file, not read yet."""

    name: str  # in the archive
    shape: tuple[int, ...]
    kind: str  # F32 | F16 | F64 | BF16
    item: int  # bytes per number


@dataclass(frozen=True, slots=True)
class Tensor:
    """One weight under transformers' name; bfloat16 is given as uint16, the upper half of a float32."""

    name: str
    kind: str
    array: Array


# --- what is in the file -------------------------------------------------------------------------


def members(file: Path) -> dict[str, Member]:
    """Every array below `params/`, by its key without that prefix. Reads headers only; never unpickles."""
    found: dict[str, Member] = {}
    with _archive(file) as archive:
        for info in archive.infolist():
            key = info.filename.removesuffix(".npy").removeprefix("params/")
            if not key.startswith(("img/", "llm/")):
                continue  # the optimiser's state, counters
            with archive.open(info) as stream:
                shape, order, dtype = _header(stream)
                has = info.file_size - stream.tell()
            kind = KINDS.get(dtype.str[1:]) if dtype.str[0] != ">" else None
            if kind is None:
                raise ModelError(
                    f"{file}: {key}: is of numpy type {dtype}; weights must be little-endian floats"
                )
            if has != math.prod(shape) * dtype.itemsize or max(shape, default=0) > MAX_SIDE:
                raise ModelError(
                    f"{file}: {key}: holds {has:,} bytes, not those of {shape}; download it again"
                )
            if order:
                raise ModelError(f"{file}: {key}: is in Fortran order; save it with np.ascontiguousarray")
            found[key] = Member(info.filename, shape, kind, dtype.itemsize)
    if not found:
        raise ModelError(
            f"{file}: holds no params/img/... and params/llm/...; give a PaliGemma of big_vision"
        )
    return found


@contextlib.contextmanager
def _archive(file: Path) -> Iterator[zipfile.ZipFile]:
    """The opened archive; whatever is wrong with it becomes a ModelError."""
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, OSError, zlib.error) as error:
        raise ModelError(f"{file}: is not a valid .npz file ({error}); download it again") from None


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"array format {version}")
    found: tuple[tuple[int, ...], bool, np.dtype[Any]] = read(stream)
    return found


def read(file: Path) -> Iterator[Tensor]:
    """Every weight, one at a time; memory holds one layer of one array, or the embedding table."""
    known = members(file)
    family = _family(known)
    with _archive(file) as archive:
        for key, targets in ONCE.items():
            for part in _layers(archive, known[key], stacked=False):
                for name, turn in targets:
                    yield Tensor(name, known[key].kind, _packed(turn(part)))
        for key, prefix, targets in stacks(family):
            for layer, part in enumerate(_layers(archive, known[key], stacked=True)):
                for name, turn in targets:
                    array = _packed(turn(part))
                    yield Tensor(prefix.format(layer) + name, known[key].kind, array)


def _packed(w: Array) -> Array:
    """A contiguous copy; a transposed matrix is copied in strips, four times as fast as numpy does it."""
    if w.ndim != 2 or not w.flags.f_contiguous or w.flags.c_contiguous:
        return np.ascontiguousarray(w)
    copy = np.empty(w.shape, w.dtype)
    for start in range(0, w.shape[1], 16):
        copy[:, start : start + 16] = w[:, start : start + 16]
    return copy


def _layers(archive: zipfile.ZipFile, member: Member, stacked: bool) -> Iterator[Array]:
    """The array as a whole, or slice by slice along its first axis."""
    shape = member.shape[1:] if stacked else member.shape
    dtype = np.dtype("<u2") if member.kind == "BF16" else np.dtype(f"<f{member.item}")
    size = math.prod(shape) * member.item
    with archive.open(member.name) as stream:
        _header(stream)
        for _ in range(member.shape[0] if stacked else 1):
            data = stream.read(size)
            if len(data) != size:
                raise ValueError(f"{member.name} is cut short")
            yield np.frombuffer(data, dtype).reshape(shape)


def listing(file: Path) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """(name, kind, shape) of every weight in the order in which `read` gives them."""
    known = members(file)
    family = _family(known)
    shapes = _shapes(file, known, family)
    for key, targets in ONCE.items():
        for name, _ in targets:
            yield name, known[key].kind, shapes[name]
    for key, prefix, targets in stacks(family):
        for layer in range(known[key].shape[0]):
            for name, _ in targets:
                full = prefix.format(layer) + name
                yield full, known[key].kind, shapes[full]


# --- as a checkpoint -----------------------------------------------------------------------------


def inspect(file: Path, tokenizer: Path | None) -> CheckpointInfo:
    """Describes a `.npz` checkpoint without reading its numbers; all sizes come from the shapes.

    Raises ModelError for missing or unknown arrays, and for a missing or wrong tokenizer.
    """
    if tokenizer is None:
        raise ModelError(
            f"{file}: a .npz holds no tokenizer; name a folder that has PaliGemma's (any of its "
            "checkpoints on the hub) with --model_args tokenizer=FOLDER"
        )
    known = members(file)
    family = _family(known)
    wanted = {*ONCE, *(key for key, _, _ in stacks(family))}
    missing, extra = sorted(wanted - set(known)), sorted(set(known) - wanted)
    if missing or extra:
        what = f"{missing[0]} is missing" if missing else f"{extra[0]} is not part of any PaliGemma"
        raise ModelError(f"{file}: {what}; give a PaliGemma or PaliGemma 2 of big_vision with stacked layers")
    shapes = {canonical(name): shape for name, shape in _shapes(file, known, family).items()}
    try:
        config = _config(known, family)
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise ModelError(f"{file}: its arrays are not shaped as PaliGemma's ({error})") from None
    rows = known["llm/embedder/input_embedding"].shape[0]
    ids = _ids(tokenizer, ("<image>", "<loc0000>"))
    if ids.get("<loc0000>", rows - LOCATIONS_AND_SEGMENTS) != rows - LOCATIONS_AND_SEGMENTS:
        raise ModelError(
            f"{tokenizer}: <loc0000> has id {ids['<loc0000>']}, the table of {file} has it in row "
            f"{rows - LOCATIONS_AND_SEGMENTS}; give the tokenizer of a published PaliGemma"
        )
    config["image_token_index"] = ids.get("<image>", rows)
    counts: Counter[str] = Counter()
    for member in known.values():
        counts[NAMES[member.kind]] += math.prod(member.shape)
    return CheckpointInfo(
        path=file,
        family=family,
        resolution=config["vision_config"]["image_size"],
        patch=config["vision_config"]["patch_size"],
        parameters=sum(counts.values()),
        dtype=counts.most_common(1)[0][0],
        vocabulary=rows,
        image_token=config["image_token_index"],
        eos=(1,),
        weights=(file,),
        tokenizer=tokenizer_files(tokenizer),
        processor=(),
        protocol="",
        window=window(family, Settings(str(file), config["text_config"])),
        shapes=shapes,
        derived=config,
    )


def _family(known: Mapping[str, Member]) -> int:
    """1 or 2: Gemma 2 has two more norms per layer."""
    return 2 if "llm/layers/post_ffw_norm/scale" in known else 1


def _shapes(file: Path, known: Mapping[str, Member], family: int) -> dict[str, tuple[int, ...]]:
    """Shapes under transformers' names, found by transforming arrays that take no memory."""
    found = {}
    depths = {"img": known[f"img/Transformer/encoderblock/{next(iter(VISION))}"].shape[0],
              "llm": known["llm/layers/mlp/linear"].shape[0]}  # fmt: skip
    try:
        if max(depths.values()) > MAX_LAYERS:
            raise ValueError(f"{max(depths.values()):,} layers")
        for key, targets in ONCE.items():
            for name, turn in targets:
                found[name] = turn(_hollow(known[key].shape)).shape
        for key, prefix, targets in stacks(family):
            depth, *rest = known[key].shape
            if depth != depths[key[:3]]:
                raise ValueError(f"{key} has {depth} layers, others have {depths[key[:3]]}")
            for name, turn in targets:
                shape = turn(_hollow(tuple(rest))).shape
                found |= {prefix.format(layer) + name: shape for layer in range(depth)}
    except (ValueError, IndexError) as error:
        raise ModelError(f"{file}: its arrays are not shaped as PaliGemma's ({error})") from None
    return found


def _hollow(shape: tuple[int, ...]) -> Array:
    """An array of that shape that needs the memory of one number."""
    return np.broadcast_to(np.uint8(0), shape)


def _config(known: Mapping[str, Member], family: int) -> dict[str, Any]:
    """transformers' config.json, from the shapes. Raises ValueError where they make no sense."""
    block = "img/Transformer/encoderblock"
    layers, width, heads, _ = known[f"{block}/{ATTENTION}/query/kernel"].shape
    patch, rows = known["img/embedding/kernel"].shape[0], known["img/pos_embedding"].shape[1]
    side = math.isqrt(rows)
    if side * side != rows:
        raise ValueError(f"positions for {rows} image tokens, which is not a square")
    depth, text_heads, text_width, head = known["llm/layers/attn/q_einsum/w"].shape
    text: dict[str, Any] = {
        "model_type": "gemma" if family == 1 else "gemma2",
        "vocab_size": known["llm/embedder/input_embedding"].shape[0],
        "hidden_size": text_width,
        "intermediate_size": known["llm/layers/mlp/linear"].shape[1],
        "num_hidden_layers": depth,
        "num_attention_heads": text_heads,
        "num_key_value_heads": known["llm/layers/attn/kv_einsum/w"].shape[2],
        "head_dim": head,
        "hidden_activation": "gelu_pytorch_tanh",
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
    }
    if family == 2:  # only the 27B model scales by width / heads, the others by the head's width
        text["query_pre_attn_scalar"] = (
            text_width // text_heads if (text_width, head) == (4608, 128) else head
        )
    return {
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "model_type": "paligemma",
        "image_token_index": text["vocab_size"],
        "projection_dim": text_width,
        "hidden_size": text_width,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
        "tie_word_embeddings": True,
        "text_config": text,
        "vision_config": {
            "model_type": "siglip_vision_model",
            "image_size": side * patch,
            "patch_size": patch,
            "hidden_size": width,
            "intermediate_size": known[f"{block}/MlpBlock_0/Dense_0/bias"].shape[1],
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_image_tokens": rows,
            "projection_dim": text_width,
            "hidden_act": "gelu_pytorch_tanh",
            "vision_use_head": False,
        },
    }


def _ids(tokenizer: Path, tokens: tuple[str, ...]) -> dict[str, int]:
    """The ids of these tokens in tokenizer.json; {} without that file."""
    file = tokenizer / "tokenizer.json"
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        added = {t["content"]: int(t["id"]) for t in content.get("added_tokens") or ()}
        vocabulary = (content.get("model") or {}).get("vocab")
        pieces = vocabulary if isinstance(vocabulary, dict) else {}
        return {t: int((added if t in added else pieces)[t]) for t in tokens if t in added or t in pieces}
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        raise ModelError(f"{file}: cannot be read as a tokenizer ({shown(str(error))})") from None
