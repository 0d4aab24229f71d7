"""Backends that run a checkpoint: one class per file or folder, found by its name. `open_checkpoint`
resolves a `--model` to one of them. Importing this package imports none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from evalkit import demo, own_code, registry
from evalkit.errors import ModelError, nearest
from evalkit.options.model import MODEL_OPTIONS, ModelOptions
from evalkit.types import Checkpoint, Model

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
    flags, args = (options or ModelOptions()).of_model()
    kind, mark, rest = spec.partition(":")
    name = ""
    if mark and kind == "demo":
        resolution = args.get("resolution", flags.get("resolution", 224))
        name = f"demo-{rest}" + (f"-{resolution}" if str(resolution) != "224" else "")
        kind, rest = DEFAULT, embedded(spec, resolution)
    elif not mark or kind not in registry.names("models"):
        kind, rest = DEFAULT, spec
    backend = registry.find("models", kind)
    if kind == "module":
        backend = _backend_class(rest) or backend
    _refuse_unused(backend, kind, spec, flags, args)
    found: Checkpoint = backend.open(rest, flags, args, name, say)
    return found if backend.__module__.startswith("evalkit.") else _with_code(found, backend)


def _with_code(found: Checkpoint, backend: type[Model]) -> Checkpoint:
    """The checkpoint of a backend outside evalkit, whose source code becomes part of the identity."""
    code = {"code": own_code.digest(backend)}
    return replace(found, identity=lambda protocol: {**found.identity(protocol), **code})


def embedded(spec: str, resolution: Any) -> str:
    """The folder of `demo:NAME`. Raises ModelError for an unknown name or resolution."""
    try:
        return str(demo.checkpoint(spec.partition(":")[2], int(resolution)))
    except ValueError as error:
        raise ModelError(f"--model {spec}: {error}") from None


def _backend_class(rest: str) -> type[Model] | None:
    """The class of `module:REST` if it is itself a backend; None if it must be wrapped as one."""
    cls = own_code.load(rest, f"module:{rest}", kind=ModelError)
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
            near = f": {why}" if option in MODEL_OPTIONS else f": unknown{nearest(option, known)}"
            raise ModelError(f"--model_args {option}={value}{near}")
