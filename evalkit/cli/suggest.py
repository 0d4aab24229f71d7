"""A command line that says a mistyped word in one line, with the nearest right one."""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from typing import Any, NoReturn

from evalkit.errors import meant


class Parser(argparse.ArgumentParser):
    """Says a mistake in one line, with the nearest right word; the page of all flags is `--help`'s."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but a command looks at its flags' names first, before it misses required ones."""
        if " " in self.prog:  # a command, not `evalkit` itself
            known = set(re.findall(r"--[a-z][a-z-]*", self.format_help()))
            for word in itertools.takewhile(lambda word: word != "--", args or ()):
                flag = word.partition("=")[0]
                if flag.startswith("--") and not any(k.startswith(flag) for k in known):
                    self.error(f"{flag}: no such flag{meant(flag, known) or ' of this command'}")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        said, found, choices = message.partition(" (choose from ")
        near = meant(said.rpartition(": ")[2].strip("'"), re.findall(r"[\w-]+", choices)) if found else ""
        print(f"{self.prog}: {said + near if near else message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)
