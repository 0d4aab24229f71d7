"""From an options class to the flags of a command, and back to an options object."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from evalkit import hints
from evalkit.cli.suggest import Parser
from evalkit.errors import UserError
from evalkit.options.config import made
from evalkit.options.fields import Flag, Options, flags
from evalkit.options.groups import CodeOptions, LayoutOptions, SetOptions, TrackerOptions
from evalkit.options.model import DataOptions, ModelOptions, TrustOptions
from evalkit.options.verbs import VERBS

SHARED: tuple[tuple[type[Options], str], ...] = (
    (DataOptions, "where data and tasks are"),
    (LayoutOptions, "how data of your own is read (--data)"),
    (SetOptions, "another setting of the task"),
    (ModelOptions, "how the model is loaded and run"),
    (TrackerOptions, "where else scores go"),
    (TrustOptions, "what is trusted"),
    (CodeOptions, "what is trusted"),
)
"""What several commands take, in the order of `--help`: a command's own flags come first."""
MANY = 20  # flags: from here on the usage line names the required ones alone


def parser(verb: str, about: str) -> argparse.ArgumentParser:
    """The parser of one command. It only splits words; the options class checks them."""
    cls = VERBS[verb]
    every = flags(cls)
    top = Parser(prog=f"evalkit {verb}", description=f"{about[0].upper()}{about[1:]}.")
    annotated = hints.annotated(cls)
    titles = dict.fromkeys(["", *(title for _, title in SHARED)])
    below = {name: _title(cls, name) for name in every}
    for title in titles:
        mine = [name for name in every if below[name] == title]
        group = top.add_argument_group(title) if title and mine else top
        for name in mine:
            _add(group, name, every[name], annotated[name])
    if len(every) > MANY:
        top.usage = _usage(top)
    return top


def _title(cls: type[Options], name: str) -> str:
    """Below what a flag stands in `--help`; '' for a command's own."""
    first = next(base for base in cls.__mro__ if name in vars(base).get("__annotations__", {}))
    return dict(SHARED).get(first, "")


def _usage(top: argparse.ArgumentParser) -> str:
    """The command with what it needs; all its flags would be thirty lines before the first that explains."""
    needed = [f"{a.option_strings[0]} {a.metavar}" for a in top._actions if a.option_strings and a.required]
    places = [
        str(a.metavar) if a.nargs != "*" else f"[{a.metavar} ...]"
        for a in top._actions
        if not a.option_strings
    ]
    return " ".join([top.prog, *needed, "[options]", *places])


def read(verb: str, about: str, words: Sequence[str]) -> Any:
    """The options that a command's words mean. Raises UserError; a word out of place ends the process."""
    given = vars(parser(verb, about).parse_args(words))
    for name, flag in flags(VERBS[verb]).items():
        if flag.place and flag.also:  # may be said in two ways, but once
            said = [given.pop(key) for key in (name, f"--{name}") if key in given]
            if len(said) != 1:
                raise UserError(f"{verb}: name one {name}: {flag.help}")
            given[name] = said[0]
    return made(verb, given)


def command() -> str:
    """The command as it was typed, for run.json."""
    return shlex.join(sys.argv[1:])


def _add(top: argparse._ActionsContainer, name: str, flag: Flag, hint: Any) -> None:
    choices = hints.choices(hint)
    metavar = flag.metavar or ("{" + ",".join(choices) + "}" if choices else name.upper())
    settings: dict[str, Any] = {"help": flag.help.replace("%", "%%"), "default": argparse.SUPPRESS}
    if flag.place:
        nargs = None if flag.place == "1" else flag.place
        top.add_argument(name, nargs=nargs, metavar=metavar, **settings)
        if flag.also:
            top.add_argument(*flag.also, dest=f"--{name}", metavar=metavar, **settings)
        return
    spelled = [f"--{name.replace('_', '-')}", *flag.also]
    if bool in hints.members(hint) and not flag.bare:
        top.add_argument(*spelled, dest=name, action="store_true", required=flag.required, **settings)
        return
    if flag.bare:
        settings |= {"nargs": "?", "const": flag.bare}
    if flag.several:
        settings["nargs"] = "+"
    action = "extend" if flag.several else "append" if flag.repeat else "store"
    top.add_argument(*spelled, dest=name, action=action, metavar=metavar, required=flag.required, **settings)
