"""`evalkit compare A B`: differences with intervals and verdicts, ranks, grids."""

from __future__ import annotations

import sys
from pathlib import Path

from evalkit.files import atomic_write
from evalkit.options.verbs import CompareOptions
from evalkit.printing import put
from evalkit.report import forgetting
from evalkit.report.columns import json_text, screen_width
from evalkit.report.comparison import compared, grid_of, ranks_text, record_of, text_of


def compare(options: CompareOptions) -> int:
    """The first model against each of the others."""
    if options.grid:
        put(grid_of(options), end="")
        return 0
    found, ranked = compared(options)
    told = record_of(found, ranked)
    if options.forgetting:
        found = [forgetting.worst_first(c) for c in found]
        told["forgetting"] = {c.b.name: forgetting.record(c) for c in found}
    if options.json:
        text = json_text(told)
        if str(options.json) == "-":
            put(text, end="")
            return 0
        atomic_write(Path(options.json), text)
    colour, width = sys.stdout.isatty(), screen_width()
    heads = [f"{forgetting.text_of(c)}\n" if options.forgetting else "" for c in found]
    texts = [h + text_of(c, colour, options.samples, width) for h, c in zip(heads, found, strict=True)]
    put("\n".join(texts) + ranks_text(ranked), end="")
    return 0


ACTS = {"compare": compare}
