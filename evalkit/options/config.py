"""`evalkit.toml`: data roots, and defaults of options, from the nearest such file upwards.

data = ["/datasets"]
[model]                  # of every command that takes a model
dtype = "bfloat16"
[run]                    # of one command
limit = 500
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit import door
from evalkit.errors import DataError, UserError, nearest
from evalkit.options import together
from evalkit.options.fields import OptionError, Options, checked, flags
from evalkit.options.model import ModelOptions
from evalkit.options.verbs import VERBS

FILE = "evalkit.toml"
MODEL = "model"  # the table for the options of a model
TABLES = {verb: cls for verb, cls in VERBS.items() if verb != "data"}  # `data` is the list of roots


@dataclass(frozen=True)
class Config:
    """What an `evalkit.toml` says; nothing where there is none."""

    data: tuple[Path, ...] = ()
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by table


def read(start: Path | None = None) -> Config:
    """The nearest `evalkit.toml` from a folder upwards, checked; relative data roots start at that file."""
    start = start or Path.cwd()
    for folder in (start, *start.parents):
        path = folder / FILE
        if os.path.isfile(path):
            return _read(path)
    return Config()


def _read(path: Path) -> Config:
    with door.guarded(path, "it must be TOML like data = ['/datasets']"):
        try:
            content = tomllib.loads(door.text(path))
        except tomllib.TOMLDecodeError as error:
            raise DataError(f"{path}: {error}; it must be TOML like data = ['/datasets']") from None
    known = ["data", MODEL, *TABLES]
    for key in content:
        if key not in known:
            raise DataError(f"{path}: {key}: unknown key{nearest(key, known)}")
    data = content.pop("data", [])
    if not isinstance(data, list) or not all(isinstance(entry, str) for entry in data):
        raise DataError(f"{path}: data: is no list of folders; write data = ['/datasets']")
    return Config(
        tuple(path.parent / _home(path, entry) for entry in data),
        {table: _defaults(path, table, values) for table, values in content.items()},
    )


def _home(path: Path, entry: str) -> Path:
    try:
        return door.home(entry)
    except UserError as error:
        raise DataError(f"{path}: data: {error}") from None


def _defaults(path: Path, table: str, values: Any) -> dict[str, Any]:
    """One table, its names and values checked."""
    cls: type[Options] = ModelOptions if table == MODEL else TABLES[table]
    if not isinstance(values, dict):
        raise UserError(f"{path}: {table}: is no table; write [{table}] above its options")
    found = {key.replace("-", "_"): value for key, value in values.items()}
    for key in found:
        if key not in flags(cls):
            raise UserError(f"{path}: {table}: {key}: unknown option{nearest(key, flags(cls))}")
    try:
        checked(cls, found)
    except OptionError as error:
        raise UserError(f"{path}: {table}: {error.name}: {error.value!r}: {error.why}") from None
    return found


def made(verb: str, given: Mapping[str, Any]) -> Any:
    """A command's options: what was given, then what `evalkit.toml` says, then the defaults.

    Raises UserError for a value that is not right, wherever it was said, and for one that is given in vain.
    """
    cls, config = VERBS[verb], read()
    defaults = {**config.defaults.get(verb, {})}
    if issubclass(cls, ModelOptions):
        defaults = {**config.defaults.get(MODEL, {}), **defaults}
    options = cls(**{**defaults, **given})
    object.__setattr__(options, "from_file", frozenset(defaults.keys() - given.keys()))
    together.check(verb, options, frozenset(given))
    return options
