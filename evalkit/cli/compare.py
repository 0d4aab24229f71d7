"""`evalkit compare A B`: differences with intervals and verdicts, ranks, grids."""

from __future__ import annotations

import sys
from pathlib import Path

from evalkit.files import atomic_write
from evalkit.options.verbs import CompareOptions
from evalkit.printing import put
from evalkit.report.columns import json_text, screen_width
from evalkit.report.comparison import compared, grid_of, ranks_text, record_of, text_of


def compare(options: CompareOptions) -> int:
    """The first model against each of the others."""
    if options.grid:
        put(grid_of(options), end="")
        return 0
    found, ranked = compared(options)
    if options.json:
        text = json_text(record_of(found, ranked))
        if str(options.json) == "-":
            put(text, end="")
            return 0
        atomic_write(Path(options.json), text)
    colour, width = sys.stdout.isatty(), screen_width()
    put("\n".join(text_of(c, colour, options.samples, width) for c in found) + ranks_text(ranked), end="")
    return 0


ACTS = {"compare": compare}
