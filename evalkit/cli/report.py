"""`evalkit report`: writes the pages, and says how to open them."""

from __future__ import annotations

from evalkit.cli.options import command
from evalkit.options.verbs import ReportOptions
from evalkit.printing import put, say
from evalkit.viewer.build import build


def report(options: ReportOptions) -> int:
    """Writes the report of the named runs, and prints where it is."""
    say("reading the runs")
    put(str(build(options, f"evalkit {command()}")))
    return 0


ACTS = {"report": report}
