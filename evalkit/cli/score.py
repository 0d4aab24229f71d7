"""evalkit.cli.score: docstring to be written."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from evalkit.evaluation import progress
from evalkit.evaluation.evaluate import rescore, score_predictions
from evalkit.report import formats, leaderboard
from evalkit.types import why_not_scored


def _score(arguments: argparse.Namespace) -> int:

    return score(arguments)


# --- score and table -----------------------------------------------------------------------------------


def score(arguments: argparse.Namespace) -> int:
    """`evalkit score`: runs again from their files, or a file of predictions made elsewhere."""
    if not arguments.predictions:
        folders = rescore(arguments)
        print(formats.terminal(leaderboard.collect(folders), bold=sys.stdout.isatty()), end="")
        return 0
    data, scored, untold = score_predictions(arguments)
    name = arguments.name or Path(arguments.predictions).stem
    cells = [leaderboard.Cell(s, arguments.predictions, name, ()) for s in scored.scores]
    print(formats.terminal(cells, bold=sys.stdout.isatty()), end="")
    if untold:
        told = f"{len(untold):,} of {len(data.samples):,} samples have no prediction"
        progress.say(f"{told}, the first is {untold[0]}")
    for metric, why in scored.not_scored.items():
        progress.say(f"{metric}: {why_not_scored(why)}")
    for found in scored.scores:
        progress.say(found.signature)
    return 0
