"""`evalkit report`, `view` and `plot`: writes the pages, shows them, and draws figures for papers."""

from __future__ import annotations

import hashlib
import signal
import webbrowser
from pathlib import Path

from evalkit.cli.options import command
from evalkit.files import cache_folder
from evalkit.options.fields import paths
from evalkit.options.verbs import PlotOptions, ReportOptions, ViewOptions
from evalkit.printing import put, say
from evalkit.viewer import outlet, serve
from evalkit.viewer import plot as figures
from evalkit.viewer.build import build


def report(options: ReportOptions) -> int:
    """Writes the report of the named runs, and prints what to open."""
    put(str(build(options, f"evalkit {command()}", say)))
    return 0


def view(options: ViewOptions) -> int:
    """Serves the report of the named runs until Ctrl-C. It is kept in the cache, with its pictures."""
    places = paths(options.runs)
    if len(places) == 1 and outlet.is_report(places[0]):
        folder = places[0]
    else:
        folder = _kept(places)
        build(
            ReportOptions(
                runs=places, output=folder, limit=options.limit, data_root=options.data_root,
                allow_code=options.allow_code,
            ),
            f"evalkit {command()}", say,
        )  # fmt: skip
    with serve.serving(folder) as address:
        put(address, flush=True)
        say("Ctrl-C ends it")
        if not options.no_browser:
            webbrowser.open(address)
        try:
            signal.pause()
        except KeyboardInterrupt:
            say()
    return 0


def _kept(places: tuple[Path, ...]) -> Path:
    """The folder of the report of these runs."""
    named = "\0".join(str(place.resolve()) for place in places)
    return cache_folder() / "reports" / hashlib.sha256(named.encode()).hexdigest()[:16]


def plot(options: PlotOptions) -> int:
    """Writes the figures, and prints their names."""
    for place in figures.write(options, say):
        put(str(place))
    return 0


ACTS = {"report": report, "view": view, "plot": plot}
