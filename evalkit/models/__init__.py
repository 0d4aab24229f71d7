"""Backends that hold a checkpoint: one class a file or folder, found by its name. `open_checkpoint` says
which of them a `--model` means; importing this imports none of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evalkit.errors import ModelError, UserError, nearest
from evalkit.files import remembered_digest
from evalkit.types import Checkpoint

KEYS = (
    "revision", "dtype", "device", "device_map", "batch_size", "engine", "resolution",
    "adapter", "base", "quantize", "tokenizer",
    "kv_dtype", "stable", "strict", "sliding_window", "cuda_graphs", "compile", "workers", "worker_kind",
)  # fmt: skip
"""What a PaliGemma checkpoint takes, as flags and in --model_args."""

_OURS = (
    "engine", "batch_size", "resolution", "kv_dtype", "stable", "strict", "sliding_window",
    "cuda_graphs", "compile", "workers", "worker_kind",
)  # fmt: skip
"""No module's business."""


def open_checkpoint(
    spec: str,
    flags: Mapping[str, Any],
    args: Mapping[str, str],
    name: str = "",
    say: Callable[[str], None] = lambda text: None,
) -> Checkpoint:
    """The checkpoint that `--model SPEC` means, inspected but not loaded.

    `module:FILE.py:CLASS`, `replay:FILE.jsonl`, a folder in Hugging Face layout, a big_vision `.npz`,
    an adapter's folder, or a hub id. `flags` are those of the command line that were given (`KEYS`),
    `args` is --model_args; `name` overrides how it is called; `say` hears of long work. Raises UserError.
    """
    kind, mark, rest = spec.partition(":")
    if mark and kind == "module":
        return _module(rest, flags, args)
    if mark and kind == "replay":
        _known(args, ("resolution",), spec)
        from evalkit.models.replay import Replay

        return Replay(Path(rest).expanduser(), _resolution(flags, args)).as_checkpoint()
    return _paligemma(spec, flags, args, name, say)


def _module(rest: str, flags: Mapping[str, Any], args: Mapping[str, str]) -> Checkpoint:
    """All options go to the class, but `batch_size`, which is how many `answer_batch` gets at once."""
    from evalkit.models.module import Module, read_options

    given = {k: v for k, v in flags.items() if k not in _OURS}
    options = {
        **given,
        **read_options({k: v for k, v in args.items() if k not in ("batch_size", "resolution")}),
    }
    size = args.get("batch_size", flags.get("batch_size", "auto"))
    return Module(rest, options, _resolution(flags, args), size).as_checkpoint()


def _paligemma(
    spec: str,
    flags: Mapping[str, Any],
    args: Mapping[str, str],
    name: str,
    say: Callable[[str], None],
) -> Checkpoint:
    from evalkit.models.paligemma import PaliGemma

    _known(args, KEYS)
    options = {**flags, **args, "resolution": _resolution(flags, args)}
    backend = PaliGemma(spec, **options)
    called = name or called_after(spec)
    if backend.adapter:
        called += f"+{called_after(backend.adapter)}"
    fresh = [f for f in backend.info.weights if remembered_digest(f) is None]
    size = sum(f.stat().st_size for f in fresh)
    if size > 1 << 28:
        say(f"{called}: new here, hashing {size / 1e9:.1f} GB of weights once")
    return backend.as_checkpoint(called)


def called_after(spec: str) -> str:
    """What a checkpoint is called in tables and folder names: the last part of its path or hub id."""
    name = _plain(Path(spec.rstrip("/")).name).strip("-.").removesuffix(".npz")
    if spec.startswith((".", "/")) and name in ("", "checkpoint"):
        return _plain("-".join(Path(spec).resolve().parts[-2:]))
    return name


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.\-]+", "-", text)


def _known(args: Mapping[str, str], keys: tuple[str, ...], spec: str = "") -> None:
    for key, value in args.items():
        if key not in keys:
            of = f" with {spec}" if spec else ""
            raise UserError(f"--model_args {key}={value}: unknown{of}{nearest(key, keys)}")


def _resolution(flags: Mapping[str, Any], args: Mapping[str, str]) -> int | None:
    given = args.get("resolution", flags.get("resolution"))
    if given is None:
        return None
    if not str(given).isdecimal() or int(given) < 1:
        raise ModelError(f"--model_args resolution={given}: must be a number of pixels, e.g. 224")
    return int(given)
