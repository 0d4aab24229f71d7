"""Options that say nothing: which have no effect beside the others, and which name a place that is not there.

Asked once, when a user's options are made, before anything is loaded; a default of `evalkit.toml` may stand
without effect."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.options.fields import OptionError, Options, flags, settings
from evalkit.options.groups import LayoutOptions
from evalkit.options.model import MODEL_OPTIONS, read_model_args
from evalkit.options.verbs.models import gen_kwargs

LAYOUT = tuple(flags(LayoutOptions))


@dataclass(frozen=True)
class Rule:
    """Options that have no effect unless `used` says so of all options; `why` is said of them."""

    names: tuple[str, ...]
    used: Callable[[Any], object]
    why: str


def _needs(names: str, other: str, why: str = "") -> Rule:
    """Options that do nothing without another one, or without any of several."""
    others = other.split()
    shown = " or ".join(f"--{name.replace('_', '-')}" for name in others)
    return Rule(
        tuple(names.split()),
        lambda options: any(_said(getattr(options, name)) for name in others),
        f"goes with {shown}{why}; leave it out, or say {'that' if len(others) == 1 else 'one of them'} too",
    )


def _not_with(names: str, other: str, why: str) -> Rule:
    """Options that do nothing beside another one."""
    shown = f"--{other.replace('_', '-')}"
    return Rule(
        tuple(names.split()),
        lambda options: not _said(getattr(options, other)),
        f"has no effect with {shown}, {why}; leave one of the two out",
    )


def _said(value: Any) -> bool:
    return value is not None and value is not False and value != () and value != ""


_OF_DATA = _needs(" ".join(LAYOUT), "data")

RULES: Mapping[str, tuple[Rule, ...]] = {
    "run": (
        _OF_DATA,
        _not_with("limit", "ids", "which chooses the samples"),
        _needs("margin until_decided", "against"),
    ),
    "score": (
        _needs("task keys name output_path", "predictions"),
        Rule(("runs",), lambda o: not o.predictions, "a run is scored from its own answers; leave it out, or "
             "--predictions"),
    ),
    "report": (
        _not_with("picture_size", "no_images", "which writes no pictures"),
        _not_with("picture_size", "redact", "which writes no pictures"),
    ),
    "plot": (
        Rule(("top",), lambda o: {*o.what} - {"forest", "trend"}, "goes with --what of rows, such as errors, "
             "classes or confusion; leave it out, or name one of them"),
    ),
    "compare": (
        _not_with("json samples margin allow forgetting", "grid", "which lists runs and compares none"),
        Rule(("samples",), lambda o: str(o.json) != "-", "has no effect with --json -, which has every "
             "sample that changed; leave one of the two out"),
    ),
    "sweep": (_OF_DATA,),
    "check": (_needs("report", "junit github"),),
    "watch": (_OF_DATA,),
    "explain": (
        Rule(("published_model",), lambda o: len(o.runs) < 2, "has no effect with two runs, which are "
             "compared with each other; leave it out, or name one run"),
    ),
    "list": (
        Rule(("output_path",), lambda o: o.what == "runs", "goes with `list runs`; leave it out"),
        Rule(("include_path",), lambda o: o.what not in ("runs", "forms"),
             "task files name no runs and no forms; leave it out"),
    ),
    "show": (
        Rule(("data_root",), lambda o: not o.yaml, "has no effect with --yaml, which reads no data; leave "
             "one of the two out"),
    ),
    "data": (_needs("all_images", "check"),),
    "validate": (
        _needs("data_root", "data"),
        Rule(("files", "data", "include_path", "allow_code"), lambda o: not o.schema,
             "has no effect with --schema, which is of all task files; leave one of the two out"),
    ),
    "runs": (
        Rule(("runs",), lambda o: o.what in ("keep", "rm"), "goes with `runs keep` and `runs rm`; "
             "--output-path names the folder of runs"),
        Rule(("output_path",), lambda o: o.what in ("list", "gc"), "goes with `runs list` and `runs gc`; "
             "name the run folders themselves"),
        Rule(("yes",), lambda o: o.what in ("rm", "gc"), "goes with `runs rm` and `runs gc`; leave it out"),
    ),
    "doctor": (
        Rule(("model",), lambda o: o.protocol_of is None, "--protocol-of stands in place of --model; leave "
             "one of the two out"),
        Rule(("tasks", "data", "data_root", "include_path", "allow_code", "write", *LAYOUT),
             lambda o: o.protocol_of, "goes with --protocol-of MODEL, which stands in place of --model"),
        Rule(("save_task",), lambda o: False, "goes with `evalkit run --data` and `evalkit data`; leave it "
             "out"),
        _needs("split verb box_order", "data"),
    ),
}  # fmt: skip
"""By verb: what an option goes with. Rules that need more than options are told where it is known."""


def check(verb: str, options: Options, asked: frozenset[str]) -> None:
    """Raises OptionError for an option that has no effect beside the others and is among those `asked` for,
    and for a place that is not there."""
    known, given = flags(type(options)), options.given()
    for rule in RULES.get(verb, ()):
        for name in rule.names:
            if name in given and name in asked and not rule.used(options):
                raise OptionError(name, given[name], rule.why, known[name].place)
    for name, flag in known.items():
        if flag.exists and name in given:
            for path in _each(given[name]):
                _is_there(name, path, flag.exists)
        if flag.writes and name in given:
            _may_be_written(name, Path(given[name]), flag.writes, flag.place)
    _twice(options, asked)


def _each(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _is_there(name: str, path: Any, kind: str) -> None:
    if kind == "folder" and not os.path.isdir(path):
        what = "is a file" if os.path.lexists(path) else "no such folder"
        raise OptionError(name, path, f"{what}; name a folder that is there")
    if kind == "file" and not os.path.isfile(path):
        what = "is a folder" if os.path.isdir(path) else "no such file"
        raise OptionError(name, path, f"{what}; name a file that is there")


def _may_be_written(name: str, path: Path, kind: str, place: str) -> None:
    """Raises OptionError for a folder where a file is to be, and the other way round."""
    if kind == "file" and str(path) != "-" and path.is_dir():
        raise OptionError(name, path, "is a folder; name a file to be written", place)
    folders = [path, *path.parents] if kind == "folder" else [*path.parents]
    if stops := next((f for f in folders if os.path.lexists(f) and not os.path.isdir(f)), None):
        what = "is a file" if stops == path else f"{stops} is a file"
        raise OptionError(name, path, f"{what}; name a folder", place)


def _twice(options: Options, asked: frozenset[str]) -> None:
    """Raises OptionError for what is said in two ways that differ."""
    keys, prompt = settings(getattr(options, "set", ())), getattr(options, "prompt", None)
    if isinstance(prompt, str) and keys.get("prompt", prompt) != prompt:
        raise OptionError("prompt", prompt, f"--set says prompt={keys['prompt']}; leave one of the two out")
    for key, value in gen_kwargs(getattr(options, "gen_kwargs", "")).items():
        if keys.get(key, value) != value:
            raise OptionError(
                "set", f"{key}={keys[key]}", f"--gen-kwargs says {value}; leave one of the two out"
            )
    args = read_model_args(getattr(options, "model_args", ""))
    for name in MODEL_OPTIONS & asked & args.keys():
        value = getattr(options, name)
        if str(value) != str(args[name]):
            raise OptionError(name, value, f"--model-args says {name}={args[name]}; leave one of the two out")
