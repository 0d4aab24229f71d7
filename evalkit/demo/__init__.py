"""The embedded demo: a generated benchmark and a tiny PaliGemma trained on the same kind of images.

Importing this is cheap; torch is loaded only to make a checkpoint for another resolution than 224.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from evalkit.files import cache_folder, refusals

ASSETS = Path(__file__).parent / "assets"
SCENES = "shapes"  # the folder of the generated benchmark
CHECKPOINTS = ("later", "earlier")
RESOLUTIONS = (224, 448, 896)
SHARED = (
    "config.json",
    "generation_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
LAYOUT = b"1"
"""Raise this when `checkpoint` writes other files from the same assets."""


def mask_decoder() -> Path:
    """The mask VQ-VAE's codebook and decoder, an npz with the keys of the published one."""
    return ASSETS / "masks.npz"


def checkpoint(name: str = "later", resolution: int = 224) -> Path:
    """A complete Hugging Face folder of the demo checkpoint `name` for images of `resolution`.

    It is in evalkit's cache ($EVALKIT_CACHE, or below $XDG_CACHE_HOME), is named after the digest of its
    content's source, and appears by a rename: a folder that exists is complete, also when two processes
    make it at once. Raises ValueError for an unknown name or resolution,
    ResultsError where the cache cannot be written.
    """
    if name not in CHECKPOINTS:
        raise ValueError(f"no demo checkpoint '{name}': there are {', '.join(CHECKPOINTS)}")
    if resolution not in RESOLUTIONS:
        known = ", ".join(str(r) for r in RESOLUTIONS)
        raise ValueError(f"no demo checkpoint for {resolution} pixels: there are {known}")
    target = cache_folder() / "demo" / f"{name}-{resolution}-{_digest(name, resolution)}"
    if target.is_dir():
        return target
    with refusals(target):
        return _made(target, name, resolution)


def _made(target: Path, name: str, resolution: int) -> Path:
    """The folder, complete from the moment that it is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        _fill(made, name, resolution)
        made.chmod(0o755)
        made.rename(target)
    except OSError:
        if not target.is_dir():  # otherwise another process was faster, with an identical folder
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return target


def _digest(name: str, resolution: int) -> str:
    digest = hashlib.sha256(LAYOUT + str(resolution).encode())
    for file in (*SHARED, f"{name}.safetensors"):
        digest.update(hashlib.sha256((ASSETS / file).read_bytes()).digest())
    return digest.hexdigest()[:16]


def _fill(folder: Path, name: str, resolution: int) -> None:
    """Writes the folder's files; at 224 pixels they are unchanged copies of the assets."""
    for file in SHARED:
        shutil.copyfile(ASSETS / file, folder / file)
    weights = ASSETS / f"{name}.safetensors"
    if resolution == 224:
        shutil.copyfile(weights, folder / "model.safetensors")
        return
    scale = resolution // 224
    config = _read(folder / "config.json")
    config["vision_config"]["image_size"] *= scale
    config["vision_config"]["patch_size"] *= scale
    _write(folder / "config.json", config)
    processor = _read(folder / "processor_config.json")
    processor["image_processor"]["size"] = {"height": resolution, "width": resolution}
    _write(folder / "processor_config.json", processor)
    _scale_kernel(weights, folder / "model.safetensors", scale)


def _scale_kernel(source: Path, target: Path, scale: int) -> None:
    """Spreads every weight of the patch kernel over scale x scale pixels. The model then computes exactly
    what it would for the image averaged down to 224 pixels, with the same number of tokens."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(source)
    (key,) = (k for k in tensors if k.endswith("patch_embedding.weight"))
    spread = tensors[key].repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    tensors[key] = (spread / scale**2).contiguous()
    save_file(tensors, target, metadata={"format": "pt"})
    target.chmod(0o644)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
