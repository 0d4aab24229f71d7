"""`evalkit sweep`: what moves the score, as a map of settings."""

from __future__ import annotations

from pathlib import Path

from evalkit.cli.options import command
from evalkit.evaluation import sweep as sweeping
from evalkit.files import atomic_write
from evalkit.options.verbs import SweepOptions
from evalkit.printing import put
from evalkit.report import sweep as report


def sweep(options: SweepOptions) -> int:
    """Runs the grid; prints the map, or writes it."""
    form = report.form_of(options)  # a wrong name is said before hours of work
    text = report.text_of(sweeping.sweep(options, command()), form)
    if options.output is not None:
        atomic_write(Path(options.output), text)
    else:
        put(text, end="")
    return 0


ACTS = {"sweep": sweep}
