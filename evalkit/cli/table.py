"""`evalkit table`: the leaderboard of runs, in the form asked for or meant by the file's name."""

from __future__ import annotations

from pathlib import Path

from evalkit import printing
from evalkit.files import atomic_write
from evalkit.options.verbs import TableOptions
from evalkit.printing import put
from evalkit.report import formats
from evalkit.report.columns import screen_width


def table(options: TableOptions) -> int:
    """Prints it, or writes it."""
    screen = screen_width() if options.output is None else None
    text, left_out = formats.render(formats.cells_of(options), options, screen)
    for sentence in left_out:
        printing.say(sentence)
    if options.output is not None:
        atomic_write(Path(options.output), text)
    else:
        put(text, end="")
    return 0


ACTS = {"table": table}
