"""Converts a big_vision `.npz` to a folder in Hugging Face layout, one weight at a time to save memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evalkit.errors import ModelError
from evalkit.files import atomic_file, atomic_write, json_text
from evalkit.models.paligemma.checkpoint import big_vision
from evalkit.models.paligemma.checkpoint.info import TOKENIZER_FILES

BYTES = {"F32": 4, "F16": 2, "F64": 8, "BF16": 2}
OURS = ("preprocessor_config.json", "model.safetensors")
Say = Callable[[str], None]


def convert(file: Path, target: Path, tokenizer: Path | None, say: Say = lambda text: None) -> None:
    """Writes config.json, model.safetensors (in the file's own precision), the tokenizer's files and the
    image processor's. Raises ModelError, ResultsError; never leaves an incomplete file of weights."""
    there = {f.name for f in target.iterdir()} if target.is_dir() else set()
    if target.is_file() or there - {*OURS, *TOKENIZER_FILES}:  # config.json is written last: it marks the end
        raise ModelError(f"{target}: already exists; name a new folder")
    if not file.is_file():
        raise ModelError(f"{file}: no such file; give a .npz of big_vision")
    info = big_vision.inspect(file, tokenizer)
    assert info.derived is not None
    say(info.describe())
    for source in info.tokenizer:
        atomic_write(target / source.name, source.read_bytes())
    atomic_write(target / "preprocessor_config.json", _json(_processor(info.resolution, info.image_tokens)))
    _weights(file, target / "model.safetensors")
    atomic_write(target / "config.json", _json({**info.derived, "dtype": info.dtype}))


def _weights(file: Path, target: Path) -> None:
    """Writes the header, from shapes alone, then every weight in the header's order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, kind, shape in big_vision.listing(file):
        size = math.prod(shape) * BYTES[kind]
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json_text(header, compact=True).encode()
    text += b" " * (-len(text) % 8)
    with atomic_file(target) as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for tensor in big_vision.read(file):
            assert header[tensor.name]["shape"] == list(tensor.array.shape)
            out.write(tensor.array.data)


def _processor(resolution: int, tokens: int) -> dict[str, Any]:
    """The configuration of transformers' image processor: pixels from -1 to 1, bicubic."""
    return {
        "image_processor_type": "SiglipImageProcessor",
        "processor_class": "PaliGemmaProcessor",
        "do_convert_rgb": None,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "image_seq_length": tokens,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": resolution, "width": resolution},
    }


def _json(content: Any) -> str:
    return json_text(content, indent=2) + "\n"
