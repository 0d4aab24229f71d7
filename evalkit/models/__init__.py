"""Backends that run a checkpoint: one class per file or folder, found by its name. `open_checkpoint`
resolves a `--model` to one of them. Importing this package imports none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evalkit import demo, own_code, registry
from evalkit.errors import ModelError, nearest
from evalkit.models import _own
from evalkit.options.model import MODEL_OPTIONS, ModelOptions
from evalkit.types import Checkpoint, Model, Opening

DEFAULT = "paligemma"  # the backend when `--model` names none


def open_checkpoint(
    spec: str, options: ModelOptions | None = None, say: Callable[[str], None] = lambda text: None
) -> Checkpoint:
    """The checkpoint that `--model SPEC` names, inspected but not loaded; `say` gets a line about long work.

    `BACKEND:REST` goes to the class of `evalkit/models/BACKEND.py` (`module:FILE.py:CLASS`,
    `replay:FILE.jsonl`) or of an installed package's entry point, `demo:NAME` is an embedded checkpoint, and
    anything else is PaliGemma's: a folder in Hugging Face layout, a `.npz`, an adapter's folder, a hub id.
    Raises UserError, also for an option that the backend does not use.
    """
    options = options or ModelOptions()
    flags, args = options.of_model()
    kind, mark, rest = spec.partition(":")
    name = ""
    if mark and kind == "demo":
        resolution = args.get("resolution", flags.get("resolution", 224))
        name = f"demo-{rest}" + (f"-{resolution}" if str(resolution) != "224" else "")
        kind, rest = DEFAULT, embedded(spec, resolution)
    elif not mark and spec in ("demo", *demo.CHECKPOINTS) and not Path(spec).exists():
        known = " and ".join(f"demo:{each}" for each in demo.CHECKPOINTS)
        raise ModelError(f"--model {spec}: no such folder; the embedded checkpoints are {known}")
    elif not mark or not registry.has("models", kind):
        kind, rest = DEFAULT, spec
    backend: type[Model] = registry.find("models", kind)
    if kind == "module" and (own_backend := _backend_class(rest)) is not None:
        backend, kind, rest = own_backend, rest, ""
    if backend.uses is not None:  # a default of evalkit.toml is for the backends that have a use for it
        flags = {k: v for k, v in flags.items() if k in backend.uses or k not in options.from_file}
    _refuse_unused(backend, kind, spec, flags, args)
    opening = Opening(rest, flags, args, name, say)
    ours = backend.__module__.startswith("evalkit.")
    return backend.open(opening) if ours else _own.checkpoint(backend, spec, opening)


def embedded(spec: str, resolution: Any) -> str:
    """The folder of `demo:NAME`. Raises ModelError for an unknown name or resolution."""
    try:
        return str(demo.checkpoint(spec.partition(":")[2], int(resolution)))
    except ValueError as error:
        raise ModelError(f"--model {spec}: {error}") from None


def _backend_class(rest: str) -> type[Model] | None:
    """The class of `module:REST` if it is itself a backend; None if it must be wrapped as one."""
    cls = own_code.load(rest, f"module:{rest}", kind=ModelError, fresh=True, typed=True)
    return cls if issubclass(cls, Model) else None


def _refuse_unused(
    backend: type[Model], kind: str, spec: str, flags: Mapping[str, Any], args: Mapping[str, Any]
) -> None:
    """Raises ModelError for an option that has no effect with this backend."""
    why = f"the backend {kind} does not use it; leave it out for {spec}"
    for option, value in flags.items():
        if backend.uses is not None and option not in backend.uses:
            raise ModelError(f"--{option.replace('_', '-')} {value}: {why}")
    known = MODEL_OPTIONS if backend.uses is None else backend.uses
    for option, value in args.items():
        if option not in known and not backend.takes_more:
            of = "" if kind == DEFAULT else f" with {spec}"
            wrong = why if option in MODEL_OPTIONS else f"unknown{of}{nearest(option, known)}"
            raise ModelError(f"--model_args {option}={value}: {wrong}")
