"""evalkit from Python: the command line's verbs as typed functions.

Every function takes what its command takes: the options are the classes of `evalkit/options/verbs`,
checked in the same way. A name that no option has is a TypeError, a value that is not right an
`evalkit.errors.UserError`.
"""

from evalkit.api.finished import Run, Runs, build_report, export, load, view
from evalkit.api.verbs import (
    Compared,
    ask,
    check,
    compare,
    flat_scores,
    load_task,
    metric,
    parser,
    plot,
    run,
    score,
    sweep,
    table,
)  # fmt: skip

__all__ = [
    "Compared", "Run", "Runs", "ask", "build_report", "check", "compare", "export", "flat_scores", "load",
    "load_task", "metric", "parser", "plot", "run", "score", "sweep", "table", "view",
]  # fmt: skip
