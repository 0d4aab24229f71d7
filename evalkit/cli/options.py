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
from evalkit.options.fields import Flag, flags
from evalkit.options.verbs import VERBS


def parser(verb: str, about: str) -> argparse.ArgumentParser:
    """The parser of one command. It only splits words; the options class checks them."""
    top = Parser(prog=f"evalkit {verb}", description=f"{about[0].upper()}{about[1:]}.")
    cls = VERBS[verb]
    annotated = hints.annotated(cls)
    for name, flag in flags(cls).items():
        _add(top, name, flag, annotated[name])
    return top


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


def _add(top: argparse.ArgumentParser, name: str, flag: Flag, hint: Any) -> None:
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
