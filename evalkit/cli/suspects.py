"""`evalkit suspects`: samples whose annotation is probably wrong, ranked, and as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

from evalkit.comparison import suspects as comparison
from evalkit.evaluation import progress
from evalkit.files import atomic_write
from evalkit.options.fields import paths
from evalkit.options.verbs import SuspectsOptions
from evalkit.report.suspects import table
from evalkit.runs import store


def suspects(options: SuspectsOptions) -> int:
    """Prints the first of them, and writes all where `options.output` says."""
    found = comparison.find(store.find(paths(options.runs)))
    print(table(found, options.top), end="")
    if options.output is not None:
        lines = (json.dumps(comparison.record(each), ensure_ascii=False) + "\n" for each in found)
        atomic_write(Path(options.output), "".join(lines))
        progress.say(f"{options.output}: {len(found):,} samples")
    return 0


ACTS = {"suspects": suspects}
