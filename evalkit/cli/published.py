"""evalkit.cli.published: docstring to be written."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from evalkit.errors import UserError
from evalkit.published import numbers as published_numbers
from evalkit.report import columns, leaderboard
from evalkit.report.explain import _first_difference, reasons
from evalkit.report.published import _points
from evalkit.runs import store

# --- published and explain --------------------------------------------------------------------------------


def _published(arguments: argparse.Namespace) -> int:

    return show(arguments.what)


def _explain(arguments: argparse.Namespace) -> int:

    return explain(arguments.runs, arguments.published_model)


# --- published --------------------------------------------------------------------------------------------


def show(what: str | None) -> int:
    """`evalkit published [TASK|MODEL]`: the rows, or how many there are of each task."""
    if what is None:
        for task, n in sorted(Counter(row.task for row in published_numbers.load()).items()):
            print(f"{task:<26} {n:>3} number{'' if n == 1 else 's'}")
        print(f"models: {', '.join(published_numbers.models())}")
        return 0
    rows = published_numbers.search(what)
    header = ["task", "metric", "of", "model", "kind", "px", "score", "stdev", "source"]
    lines = [
        [r.task, r.metric, r.part, r.model, r.kind, str(r.resolution), _points(r.score, True),
         "" if r.stdev is None else _points(r.stdev, True),
         r.source + (f"; not comparable: {r.differs}" if r.differs else "")]
        for r in rows
    ]  # fmt: skip
    print(columns.plain(header, lines, "terminal"), end="")
    print("\nscores × 100; stdev over five fine-tunes")
    return 0


# --- explain ----------------------------------------------------------------------------------------------


def explain(places: Sequence[Path], model: str | None) -> int:
    """`evalkit explain RUN`: why its number may differ from the published one; `A B`: what differs first."""
    if len(places) == 2:
        return _first_difference(*places)
    if len(places) != 1:
        raise UserError(f"explain: takes one run, or two to tell apart; here are {len(places)}")
    given = published_numbers.given(model) if model else None
    folders = store.find(places)
    if not folders:
        raise UserError(f"{places[0]}: holds no runs; give a run folder or a folder of runs")
    for number, folder in enumerate(folders):
        run = folder.read_run()
        if run is None:
            raise UserError(f"{folder.path}: holds no run.json; give a run folder")
        cells = leaderboard.collect([folder])
        if not cells:
            raise UserError(f"{folder.path}: is not scored yet; `evalkit score {folder.path}` does it")
        try:
            lines = reasons(run, cells, given)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{folder.path}: run.json: is not as evalkit writes it ({error})") from None
        print(("\n" if number else "") + "\n".join(lines))
    return 0
