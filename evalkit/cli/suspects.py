"""`evalkit suspects`: samples whose annotation is probably wrong, ranked, and as JSON lines."""

from __future__ import annotations

from pathlib import Path

from evalkit.comparison import suspects as comparison
from evalkit.errors import UserError
from evalkit.evaluation import progress
from evalkit.files import atomic_write, json_text
from evalkit.options.fields import paths
from evalkit.options.verbs import SuspectsOptions
from evalkit.printing import put
from evalkit.report.suspects import table
from evalkit.runs import store


def suspects(options: SuspectsOptions) -> int:
    """Prints the first of them, and writes all where `options.output` says."""
    places = paths(options.runs)
    folders = store.find(places)
    if not folders:
        raise UserError(
            f"{', '.join(map(str, places))}: holds no runs; give a run folder or a folder of runs"
        )
    found = comparison.find(folders)
    put(table(found, options.top), end="")
    if options.output is not None:
        lines = (json_text(comparison.record(each)) + "\n" for each in found)
        atomic_write(Path(options.output), "".join(lines))
        progress.say(f"{options.output}: {len(found):,} samples")
    return 0


ACTS = {"suspects": suspects}
