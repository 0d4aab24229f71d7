"""`evalkit score`: runs again from their files, or a file of predictions that were made elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from evalkit.cli.options import command
from evalkit.errors import TasksFailed
from evalkit.evaluation import progress, rescore
from evalkit.options.verbs import ScoreOptions
from evalkit.printing import put
from evalkit.report import breakdowns, formats, leaderboard
from evalkit.types import why_not_scored


def score(options: ScoreOptions) -> int:
    """Scores, and shows the table."""
    if not options.predictions:
        failed = None
        try:
            folders = rescore.rescore(options)
        except TasksFailed as error:
            failed, folders = error, list(error.runs)
        _show(leaderboard.collect(folders), options)
        if failed:
            progress.failures(failed)
        return failed.status if failed else 0
    found = rescore.score_predictions(options, command())
    data, scored, missing = found.data, found.scored, found.missing
    file = str(options.predictions)
    name = options.name or Path(file).stem
    cells = [leaderboard.Cell(s, file, name, ()) for s in scored.scores]
    _show(cells, options)
    for word, said in data.told:
        progress.say(f"{word}: {said}")
    if missing:
        of = f"{len(missing):,} of {len(data.samples):,} samples have no prediction"
        progress.say(f"{of}, the first is {missing[0]}")
    for metric, why in scored.not_scored.items():
        progress.say(f"{metric}: {why_not_scored(why)}")
    for each in scored.scores:
        progress.say(each.signature)
    if found.folder is not None:
        progress.say(f"kept as the run {found.folder.path}")
    return 1 if scored.failed else 0


def _show(cells: Sequence[leaderboard.Cell], options: ScoreOptions) -> None:
    """The table, and its parts where they are asked for."""
    put(formats.terminal(cells, bold=sys.stdout.isatty()), end="")
    if options.per:
        put("\n" + breakdowns.table(cells, "terminal", options.per), end="")


ACTS = {"score": score}
