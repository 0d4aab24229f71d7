"""What an option is: a field of a frozen dataclass whose type, default, check and help are all that a command
line, a Python function, `evalkit.toml` and a backend need to take it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar, dataclass_transform

from evalkit import hints
from evalkit.errors import UserError, nearest

Names = str | Path | Sequence[str | Path]
"""One name or path, several by comma, or a sequence of them."""
Paths = str | Path | Sequence[str | Path]
"""One path or a sequence of them."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Flag:
    """How an option is said on the command line, and what `--help` says of it."""

    help: str
    metavar: str = ""
    check: Callable[[Any], Any] | None = None  # gives the value to use, or raises ValueError([value,] why)
    also: tuple[str, ...] = ()  # other spellings of the flag
    place: str = ""  # "" for a flag; how often a word without a flag may stand: 1, ?, *, +
    repeat: bool = False  # may be given several times
    several: bool = False  # takes several words at once, as a shell's pattern gives them
    bare: str | None = None  # what the flag means with no word behind it
    required: bool = False
    empty: bool = False  # whether an empty text means something
    exists: str = ""  # a "folder" or "file" that must be there
    writes: str = ""  # a "folder" or "file" that is to be written


def option(help: str, *, default: Any = MISSING, kw_only: bool = True, **flag: Any) -> Any:
    """A field of an options class; without `kw_only` it is positional in Python too."""
    return field(default=default, kw_only=kw_only, metadata={"flag": Flag(help, **flag)})


@dataclass_transform(eq_default=False, kw_only_default=True, frozen_default=True, field_specifiers=(option,))
def options(cls: type[T]) -> type[T]:
    """Makes a frozen dataclass of a class whose fields are options."""
    return dataclass(frozen=True, eq=False)(cls)


class OptionError(UserError):
    """An option that is not what it may be; the command line and Python spell its name in their own way."""

    def __init__(self, name: str, value: Any, why: str, place: str = "") -> None:
        self.name, self.value, self.why = name, value, why
        said = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        flag = f"--{name.replace('_', '-')}" if not place else "" if said else name
        shown = " ".join(filter(None, [flag, "" if value is True else said]))
        super().__init__(f"{shown}: {why}")

    def in_python(self) -> str:
        return f"{self.name}={self.value!r}: {self.why}"


@options
class Options:
    """Base of all options classes: values are checked when one is made. Raises OptionError."""

    from_file: ClassVar[frozenset[str]] = frozenset()  # names whose values evalkit.toml gave

    def __post_init__(self) -> None:
        for name, value in checked(type(self), vars(self)).items():
            object.__setattr__(self, name, value)

    def own_code(self) -> tuple[bool, tuple[Path, ...]]:
        """Whether own code that a task names may run, and where its files are looked for."""
        return bool(getattr(self, "allow_code", False)), tuple(getattr(self, "include_path", ()))

    def given(self, of: type[Options] | None = None) -> dict[str, Any]:
        """The options that are not at their defaults; of the class `of` alone where it is named."""
        cls = of or type(self)
        defaults = {f.name: f.default for f in dataclasses.fields(cls) if f.default is not MISSING}
        usual = checked(cls, defaults)
        mine = {name: getattr(self, name) for name in flags(cls)}
        return {name: value for name, value in mine.items() if name not in usual or usual[name] != value}


def flags(cls: type[Options]) -> Mapping[str, Flag]:
    """Every option of a class by name, positional ones first."""
    found = [f for f in dataclasses.fields(cls) if "flag" in f.metadata]
    return {f.name: f.metadata["flag"] for f in sorted(found, key=lambda f: bool(f.kw_only))}


def checked(cls: type[Options], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of options as they are used: text is read as the annotated type. Raises OptionError."""
    known, annotated = flags(cls), hints.annotated(cls)
    return {k: _checked(k, v, annotated[k], known[k]) for k, v in values.items() if k in known}


def _checked(name: str, value: Any, hint: Any, flag: Flag) -> Any:
    given = value
    try:
        if not flag.empty and (value == "" or (isinstance(value, (list, tuple)) and "" in value)):
            raise ValueError("", "is empty; say what it is, or leave it out")
        if isinstance(value, str) and not hints.fits(value, hint):
            value = hints.read(value, hint)
        if not hints.fits(value, hint) or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"must be {hints.shown(hint)}")
        return flag.check(value) if flag.check and value is not None else value
    except ValueError as error:
        choices = hints.choices(hint)
        wrong, why = error.args if len(error.args) == 2 else (given, str(error))
        if choices:
            of = "unknown" if flag.place else f"no such {name.replace('_', ' ')}"
            why = of + nearest(str(value), choices)
        raise OptionError(name, wrong, why, flag.place) from None


def made(cls: type[Any], given: Mapping[str, Any]) -> Any:
    """An options object from names and values. Raises UserError for a name that the class does not have."""
    for name in given:
        if name not in flags(cls):
            raise UserError(f"{name}: no such option{nearest(name, flags(cls))}")
    return cls(**given)


# --- checks that several options share -----------------------------------------------------------


def positive(value: Any) -> Any:
    """A number from 1."""
    if isinstance(value, (int, float)) and value < 1:
        raise ValueError("is below 1; give a number from 1")
    return value


def count_or_share(value: Any) -> Any:
    """A whole number from 1, or a share of the whole between 0 and 1."""
    if 0 < value < 1:
        return value
    if not value >= 1:
        raise ValueError("is below 1; give a number from 1, or a share such as 0.1")
    if value % 1:
        raise ValueError("is no whole number; give a number from 1, or a share such as 0.1")
    return int(value)


def not_negative(value: float) -> float:
    """A number from 0."""
    if value < 0:
        raise ValueError("is below 0; give a number from 0")
    return value


def margin(value: Any) -> Any:
    """A number from 0, True for one that was measured, or a word."""
    return not_negative(value) if isinstance(value, (int, float)) else value


def share(value: float) -> float:
    """A share of the whole, such as a margin: 0.01 is one point."""
    if not 0 < value < 1:
        raise ValueError("must be between 0 and 1; one point is 0.01")
    return value


def names(value: Names) -> tuple[str, ...]:
    """Names separated by commas or in a sequence, each once and in order."""
    each = [value] if isinstance(value, (str, Path)) else value
    return tuple(dict.fromkeys(part for one in each for part in str(one).split(",") if part))


def models(value: Names) -> tuple[str, ...]:
    """Models as `names`; `name=LABEL` after a model stays with it: `out/checkpoint-200,name=best`."""
    found: list[str] = []
    for one in [value] if isinstance(value, (str, Path)) else value:
        for part in filter(None, str(one).split(",")):
            if found and part.startswith("name="):
                found[-1] += f",{part}"
            else:
                found.append(part)
    return tuple(dict.fromkeys(found))


def paths(value: Paths) -> tuple[Path, ...]:
    """One path or several."""
    return tuple(Path(one) for one in ([value] if isinstance(value, (str, Path)) else value))


def settings(value: Mapping[str, Any] | Sequence[str]) -> dict[str, str]:
    """`{"decode.beams": 3}` or `["decode.beams=3"]` as texts by key."""
    if isinstance(value, Mapping):
        return {str(k): str(v) for k, v in value.items()}
    found: dict[str, str] = {}
    for text in [value] if isinstance(value, str) else value:
        key, mark, content = text.partition("=")
        if not mark or not key:
            raise ValueError(text[:80], "write KEY=VALUE, e.g. --set decode.max_new_tokens=64")
        if found.get(key, content) != content:
            raise ValueError(text[:80], f"{key} is {found[key]} already; say it once")
        found[key] = content
    return found
