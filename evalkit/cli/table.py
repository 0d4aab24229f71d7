"""`evalkit table`: the leaderboard of runs, in the form asked for or meant by the file's name."""

from __future__ import annotations

import shlex
from pathlib import Path

from evalkit import printing
from evalkit.files import atomic_write
from evalkit.options.fields import paths
from evalkit.options.verbs import TableOptions
from evalkit.printing import put
from evalkit.report import formats
from evalkit.report.columns import screen_width
from evalkit.runs import store


def table(options: TableOptions) -> int:
    """Prints it, or writes it."""
    screen = screen_width() if options.output is None else None
    cells = formats.cells_of(options)
    if not cells:
        _tell_unscored(options)
    text, left_out = formats.render(cells, options, screen)
    for sentence in left_out:
        printing.say(sentence)
    if options.output is not None:
        atomic_write(Path(options.output), text)
    else:
        put(text, end="")
    return 0


def _tell_unscored(options: TableOptions) -> None:
    """Why a table is empty where there are runs: one that was stopped is scored by a command only."""
    places = paths(options.runs) or [Path("results")]
    waiting = [folder for folder in store.find(places) if folder.read_run() is not None]
    if waiting:
        names = " ".join(shlex.quote(str(place)) for place in places)
        runs = "1 run is" if len(waiting) == 1 else f"{len(waiting):,} runs are"
        printing.say(
            f"{runs} not scored yet: the same `evalkit run` goes on to the end, `evalkit score {names}` "
            "scores what is answered"
        )


ACTS = {"table": table}
