"""`evalkit published` and `explain`: the papers' numbers, and why a run's may differ."""

from __future__ import annotations

from collections import Counter

from evalkit.options.fields import paths
from evalkit.options.verbs import ExplainOptions, PublishedOptions
from evalkit.printing import one_line, put
from evalkit.published import numbers
from evalkit.report import columns
from evalkit.report import explain as report
from evalkit.report.published import points


def published(options: PublishedOptions) -> int:
    """The rows of a task or a model, or how many there are of each task."""
    if options.what is None:
        for task, n in sorted(Counter(row.task for row in numbers.load()).items()):
            put(f"{task:<26} {n:>3} number{'' if n == 1 else 's'}")
        put(f"models: {', '.join(numbers.models())}")
        return 0
    rows = numbers.search(options.what)
    header = ["task", "metric", "of", "model", "kind", "px", "score", "stdev", "source"]
    lines = [
        [r.task, r.metric, r.part, r.model, r.kind, str(r.resolution), points(r.score, True),
         "" if r.stdev is None else points(r.stdev, True),
         r.source + (f"; not comparable: {r.differs}" if r.differs else "")]
        for r in rows
    ]  # fmt: skip
    put(columns.plain([header, *lines], "terminal", keys=6), end="")
    put("\nscores × 100; stdev over five fine-tunes")
    return 0


def explain(options: ExplainOptions) -> int:
    """Why a run's number may differ from the published one; of two runs, what differs first."""
    put("\n".join(map(one_line, report.explained(paths(options.runs), options.published_model))))
    return 0


ACTS = {"published": published, "explain": explain}
