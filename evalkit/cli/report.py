"""`evalkit report`, `view` and `plot`: writes the pages, shows them, and draws figures for papers."""

from __future__ import annotations

from evalkit.cli.options import command
from evalkit.options.verbs import PlotOptions, ReportOptions, ViewOptions
from evalkit.printing import put, say
from evalkit.viewer import plot as figures
from evalkit.viewer import view as viewing
from evalkit.viewer.build import build


def report(options: ReportOptions) -> int:
    """Writes the report of the named runs, and prints what to open."""
    put(str(build(options, f"evalkit {command()}", say)))
    return 0


def view(options: ViewOptions) -> int:
    """Serves the report of the named runs until Ctrl-C."""
    with viewing.view(options, f"evalkit {command()}", say) as shown:
        put(shown.address, flush=True)
        say("Ctrl-C ends it")
        try:
            shown.wait()
        except KeyboardInterrupt:
            say()
    return 0


def plot(options: PlotOptions) -> int:
    """Writes the figures, and prints their names."""
    for place in figures.write(options, say):
        put(str(place))
    return 0


ACTS = {"report": report, "view": view, "plot": plot}
