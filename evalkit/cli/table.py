"""evalkit.cli.table: docstring to be written."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalkit.cli.options import _published_model
from evalkit.errors import UserError
from evalkit.evaluation import progress
from evalkit.files import atomic_write
from evalkit.report import formats, leaderboard, seeds
from evalkit.report.leaderboard import Cell
from evalkit.report.published import table
from evalkit.runs import store


def _table(arguments: argparse.Namespace) -> int:

    return table(arguments)


def table(arguments: argparse.Namespace) -> int:
    """`evalkit table`: the leaderboard of runs, in the form asked for or told by the file's name."""
    cells = leaderboard.collect(store.find(arguments.runs or [Path("results")]))
    if arguments.mean_over:
        cells = seeds.over_seeds(cells)
    output: Path | None = arguments.output
    form = arguments.format or formats.by_suffix(output) or "terminal"
    screen = output is None and sys.stdout.isatty()
    if arguments.published or arguments.published_model:
        write(arguments, cells, form)
        return 0
    text, left_out = formats.render(cells, form, arguments.shape, arguments.paired, screen)
    for sentence in left_out:
        progress.say(sentence)
    if output is not None:
        atomic_write(output, text)
    else:
        print(text, end="")
    return 0


def table_arguments(verb: argparse.ArgumentParser) -> None:
    """The forms of the leaderboard."""
    verb.add_argument(
        "--format", choices=("terminal", "md", "csv", "html", "latex", "json", "model-index", "lm-eval"),
        help="default: by the name of --output, else terminal",
    )  # fmt: skip
    verb.add_argument(
        "--shape", choices=("wide", "long"), help="tasks × models, or a line a score (csv and json: long)"
    )
    verb.add_argument("--paired", action="store_true", help="tell ties with the best by the samples; slower")
    verb.add_argument(
        "--mean-over", choices=("seed",),
        help="one column for fine-tunes named alike but for -seed0, _s1, -run2 at the end: mean ± deviation",
    )  # fmt: skip
    verb.add_argument("--output", type=Path, metavar="FILE", help="write there instead of printing")
    verb.add_argument("--published", action="store_true", help="the papers' numbers beside, a line a score")
    _published_model(verb)


def write(arguments: Any, cells: Sequence[Cell], form: str) -> None:
    """`evalkit table --published`, printed or written. Raises UserError for forms of another shape."""
    if form in ("model-index", "lm-eval") or arguments.shape == "wide":
        asked = "--shape wide" if arguments.shape == "wide" else f"--format {form}"
        raise UserError(f"--published: is a line a score; leave {asked} out")
    text = table(cells, form, arguments.published_model)
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        atomic_write(arguments.output, text)
