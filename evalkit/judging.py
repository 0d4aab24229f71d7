"""The arguments of the verbs that judge: compare, check, baseline, watch. Each imports what it needs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from evalkit.errors import UserError

Adder = Callable[..., Any]


def add(verbs: Any, verb: Adder, model: Adder, data: Adder, where: Adder) -> None:
    """Adds the verbs; the four callables are the command line's own way of adding arguments."""
    _compare_arguments(verb(verbs, "compare", "are two models different, task by task", _compare))


def margin(text: str) -> float:
    """A margin as a share: 0.01 is one point."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError("must be between 0 and 1; one point is 0.01")
    return value


def allowed(text: str) -> tuple[str, ...]:
    """`prompt,protocol,samples`, checked."""
    known = ("prompt", "protocol", "samples")
    names = tuple(n for n in text.split(",") if n)
    wrong = [n for n in names if n not in known]
    if wrong:
        raise UserError(f"--allow {wrong[0]}: unknown; there are: {', '.join(known)}")
    return names


# --- compare -------------------------------------------------------------------------------------------


def _compare_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "runs", nargs="+", metavar="A B",
        help="run folders, folders of runs, baseline files, FILE@GIT_REF; the first against the rest",
    )  # fmt: skip
    verb.add_argument("--allow", default="", metavar="KINDS", help="prompt,protocol,samples may differ")
    verb.add_argument("--margin", type=margin, default=0.01, help="of equivalence (default 0.01: one point)")
    verb.add_argument("--json", metavar="FILE", help="everything as JSON; - prints it instead of the table")
    verb.add_argument("--samples", type=int, default=0, metavar="N", help="name N lost and gained samples")
    verb.add_argument(
        "--grid", action="store_true", help="runs by resolution, precision, prompt and checkpoint, with cost"
    )


def _compare(arguments: argparse.Namespace) -> int:
    from evalkit import comparing

    return comparing.run(
        arguments.runs, allowed(arguments.allow), arguments.margin, arguments.json, arguments.grid,
        arguments.samples,
    )  # fmt: skip
