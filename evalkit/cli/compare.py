"""evalkit.cli.compare: docstring to be written."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from evalkit.cli.options import allowed, margin
from evalkit.comparison import ranks
from evalkit.comparison.compare import compare, record, sides
from evalkit.files import atomic_write
from evalkit.report.columns import _screen
from evalkit.report.comparison import grid_table, text_of
from evalkit.runs import scored_run


def run(
    places: Sequence[str],
    allow: Collection[str],
    margin: float,
    as_json: str | None,
    grid: bool,
    samples: int,
) -> int:
    """`evalkit compare A B [C ...]`: the first model against each of the others."""
    given = [(place, scored_run.read(place)) for place in places]
    if grid:
        print(grid_table([run for _, group in given for run in group]), end="")
        return 0
    models = sides(given)
    found = [compare(models[0], other, allow, margin) for other in models[1:]]
    ranked = ranks.ranks(models, allow) if len(models) > 2 or len(found[0].tasks) > 1 else []
    if as_json:
        content = {
            "comparisons": [record(c) for c in found],
            "mean_ranks": [{"model": r.name, "mean": r.mean, "low": r.low, "high": r.high} for r in ranked],
        }
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        if as_json == "-":
            print(text, end="")
            return 0
        atomic_write(Path(as_json), text)
    colour = sys.stdout.isatty()
    print("\n".join(text_of(c, colour, samples, _screen()) for c in found), end="")
    if ranked:
        print("\nmean rank over tasks, 1 is best; 95 % interval, images resampled in all tasks at once")
        width = max(len(r.name) for r in ranked)
        for r in sorted(ranked, key=lambda r: r.mean):
            print(f"  {r.name:<{width}}  {r.mean:.2f} [{r.low:.2f}, {r.high:.2f}]")
    return 0


# --- compare -------------------------------------------------------------------------------------------


def _compare_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "runs", nargs="+", metavar="A B",
        help="run folders, folders of runs, baseline files, FILE@GIT_REF; the first against the rest",
    )  # fmt: skip
    verb.add_argument("--allow", default="", metavar="KINDS", help="prompt,protocol,samples may differ")
    verb.add_argument("--margin", type=margin, default=0.01, help="of equivalence (default 0.01: one point)")
    verb.add_argument("--json", metavar="FILE", help="everything as JSON; - prints it instead of the table")
    verb.add_argument("--samples", type=int, default=0, metavar="N", help="name N lost and gained samples")
    verb.add_argument(
        "--grid", action="store_true", help="runs by resolution, precision, prompt and checkpoint, with cost"
    )


def _compare(arguments: argparse.Namespace) -> int:
    return run(
        arguments.runs, allowed(arguments.allow), arguments.margin, arguments.json, arguments.grid,
        arguments.samples,
    )  # fmt: skip
