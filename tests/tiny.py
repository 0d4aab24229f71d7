"""Builds tiny random PaliGemma checkpoints in Hugging Face layout, for tests that need no real one."""

from __future__ import annotations

import atexit
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.models.paligemma import PaliGemma
from evalkit.types import Decode, ImageRef, Prediction, Preparation, Request

PROMPTS = ["caption en", "what is this a cat", "answer what is", "detect cat ; dog", "segment dog", ""]

WORDS = ["caption", "▁en", "answer", "▁what", "▁is", "▁this", "▁a", "▁cat", "▁dog", "detect", "segment"]


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Pieces and merges of a byte-fallback BPE: every word is merged from the left."""
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{b:02X}>" for b in range(256)), "\n", "▁"]
    letters = sorted({c for word in WORDS for c in word} | set("bdfjkmqvxyz;,.?0123456789") - {"▁"})
    pieces += [c for c in letters if c not in pieces]
    merges = []
    for word in WORDS:
        for end in range(2, len(word) + 1):
            if word[:end] not in pieces:
                pieces.append(word[:end])
                merges.append((word[: end - 1], word[end - 1]))
    return {piece: i for i, piece in enumerate(pieces)}, merges


def tokenizer() -> Any:
    """A GemmaTokenizer with `<image>`, loc and seg tokens, as PaliGemmaProcessor leaves it."""
    from transformers import GemmaTokenizer

    words, merges = vocabulary()
    made = GemmaTokenizer(vocab=words, merges=merges)
    made.add_special_tokens({"additional_special_tokens": ["<image>"]})
    made.add_tokens([f"<loc{i:04d}>" for i in range(1024)] + [f"<seg{i:03d}>" for i in range(128)])
    return made


def build(folder: Path, family: int = 1, image_size: int = 28, seed: int = 0, tok: Any = None,
          more: dict[str, Any] | None = None) -> Path:  # fmt: skip
    """Saves a checkpoint with random weights and its tokenizer; returns the folder. `more` is of the text
    config."""
    import torch
    from transformers import (
        Gemma2Config,
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        SiglipVisionConfig,
    )

    tok = tok or tokenizer()
    text: dict[str, Any] = {
        "vocab_size": len(tok), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0,
        "eos_token_id": 1, "bos_token_id": 2,
    }  # fmt: skip
    if family == 2:
        text |= {"sliding_window": 4, "query_pre_attn_scalar": 8, "eos_token_id": [1, 107]}
    text |= more or {}
    vision = SiglipVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        image_size=image_size, patch_size=14, projection_dim=32, vision_use_head=False,
    )  # fmt: skip
    config = PaliGemmaConfig(
        vision_config=vision,
        text_config=(Gemma2Config if family == 2 else GemmaConfig)(**text),
        image_token_index=tok.convert_tokens_to_ids("<image>"),
        projection_dim=32,
        hidden_size=32,
    )
    model = PaliGemmaForConditionalGeneration(config)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):  # by name: transformers' order has changed
            if weight.ndim > 1:  # large enough that texts differ from prompt to prompt
                weight.normal_(0, 0.08 if "embed_tokens" in name else 0.25, generator=random)
            elif name.endswith("bias"):
                weight.zero_()
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


@cache
def checkpoint(family: int) -> Path:
    """A PaliGemma (1) or PaliGemma 2 (2) checkpoint, built once a process; not to be changed."""
    folder = Path(tempfile.mkdtemp(prefix=f"tiny-paligemma-{family}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return build(folder, family, seed=family)


def weights(folder: Path) -> dict[str, Any]:
    """A checkpoint's tensors, by the names that transformers saves from 5.6 on."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    return {name.replace("vision_tower.vision_model.", "vision_tower."): t for name, t in tensors.items()}


def shards(folder: Path) -> tuple[Path, Path]:
    """Saves a checkpoint's weights again as two files and their index; the second holds the projector."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = tuple(folder / f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    home = {name: files["projector" in name].name for name in tensors}
    for file in files:
        save_file({n: t for n, t in tensors.items() if home[n] == file.name}, file, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": home}))
    return files[0], files[1]


def soft_capped(model: Any, logits: Any) -> Any:
    """transformers' logits with Gemma 2's final soft cap, which transformers applies from 5.23 on.

    Before, PaliGemma 2's logits come without it: the same greedy tokens, other log-probabilities (.004 on the
    tiny checkpoint, where rounding moves them by 2e-6).
    """
    import transformers

    cap = getattr(model.config.text_config, "final_logit_softcapping", None)
    applied = tuple(map(int, transformers.__version__.split(".")[:2])) >= (5, 23)
    return logits if cap is None or applied else (logits / cap).tanh() * cap


def image_processor(**options: Any) -> Any:
    """transformers' image processor that works with Pillow; its name is new in 5.4."""
    import transformers

    kind = getattr(transformers, "SiglipImageProcessorPil", None) or transformers.SiglipImageProcessor
    return kind(**options)


def edit(folder: Path, **changes: Any) -> None:
    """Changes config.json: `edit(folder, model_type="llama", text_config__vocab_size=5)`; None removes."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    for key, value in changes.items():
        *parents, last = key.split("__")
        place = config
        for parent in parents:
            place = place[parent]
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    file.write_text(json.dumps(config))


@dataclass(frozen=True)
class Picture:
    """What `prepare` returns, as far as a backend looks."""

    pixels: np.ndarray
    digest: str
    size: tuple[int, int]


def prepare(ref: Any, preparation: Any) -> Picture:
    """Random pixels that the path alone decides; no file is read."""
    seed = sum(ref.path.encode()) * 7919
    side = preparation.resolution
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Picture(pixels, f"digest of {ref.path}", (480, 640))


def backend(folder: Path, **options: Any) -> PaliGemma:
    """The backend over a checkpoint folder, with made-up images."""
    return PaliGemma(str(folder), **{"prepare": prepare, "engine": "plain", **options})


def ask(n: int, images: int = 1, **decode: Any) -> list[Request]:
    """`n` requests s0, s1, ... with prompts of several lengths and `images` images each."""
    return [
        Request(
            f"s{i}",
            tuple(ImageRef(f"{i}-{k}.jpg") for k in range(images)),
            PROMPTS[i % len(PROMPTS)],
            Preparation(28),
            Decode(**{"max_new_tokens": 8, **decode}),
        )
        for i in range(n)
    ]


def by_id(predictions: Iterable[Prediction]) -> dict[str, Prediction]:
    return {p.id: p for p in predictions}


def absent(monkeypatch: Any, package: str) -> None:
    """As if the package were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == package else find(name, *more)
    )
