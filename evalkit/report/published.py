"""`table --published`: every score with the published number that it may be compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from evalkit.published import numbers
from evalkit.published.numbers import Beside, Named
from evalkit.report import columns, leaderboard
from evalkit.report.leaderboard import Cell
from evalkit.types import why_not_scored

HEADER = ["task", "metric", "model", "px", "value", "published", "difference", "within", "source or why not"]
NOTE = (
    "within: of twice the published run-to-run deviation, and 0.05 points of rounding; `–` where no "
    "deviation is published. `evalkit explain RUN` says more"
)


# --- the table --------------------------------------------------------------------------------------------


def table(cells: Sequence[Cell], form: str, model: str | None) -> str:
    """A line a score with the published number beside it, and one a group or detail that has one."""
    given = numbers.given(model) if model else None
    found = [(c, part, b) for c in leaderboard.in_order(cells) for part, b in beside(c, given)]
    if form in ("csv", "json"):
        return columns.records([_record(*f) for f in found], form)
    lines = [line(*f) for f in found]
    notes = [NOTE, *leaderboard.notes(cells, marked=False)]
    return columns.plain([HEADER, *lines], form, notes, keys=4)


def beside(cell: Cell, given: Named | None) -> Iterator[tuple[str, Beside]]:
    named = given or numbers.name(cell.model)
    if cell.not_scored:
        rows = [
            r for r in numbers.for_task(cell.score.task)
            if named is not None and r in numbers.match(r.task, named, cell.resolution, r.metric)
            and cell.score.metric in (leaderboard.WHOLE, r.metric)
        ]  # fmt: skip
        yield "", Beside(rows[0] if rows else None, why_not=why_not_scored(cell.not_scored))
        return
    known = (cell.resolution, cell.task_file, cell.changed)
    yield "", numbers.beside(cell.score, named, *known)
    of_metric = [r.part for r in numbers.for_task(cell.score.task) if r.metric == cell.score.metric]
    for part in dict.fromkeys(p for p in of_metric if p):
        found = numbers.beside(cell.score, named, *known, part=part)
        if found.row is not None:
            yield part, found


def line(cell: Cell, part: str, found: Beside) -> list[str]:
    row, gap = found.row, found.difference
    within = "n/a" if gap is None else {True: "yes", False: "NO", None: "–"}[found.within]
    deviation = f" ±{100 * row.stdev:.1f}" if row is not None and row.stdev is not None else ""
    return [
        cell.score.task,
        cell.score.metric + (f" [{part}]" if part else ""),
        cell.model,
        str(cell.resolution or ""),
        cell.text() if not part else "–" if found.value is None else points(found.value),
        "n/a" if row is None else points(row.score) + deviation,
        "n/a" if gap is None else f"{100 * gap:+.1f}",
        within,
        found.why_not or "; ".join(filter(None, (row.source if row else "", found.note))),
    ]


def verdict(found: Beside, difference: str) -> str:
    if found.difference is None:
        return "not compared"
    said = {
        True: "within twice the deviation between runs",
        False: "NOT within twice the deviation between runs",
        None: "no deviation between runs is published",
    }
    return f"difference {difference}, {said[found.within]}"


def _record(cell: Cell, part: str, found: Beside) -> dict[str, Any]:
    row = found.row
    return leaderboard.record(cell) | {
        "part": part,
        "part_value": found.value if part else None,
        "published": row.score if row else None,
        "published_stdev": row.stdev if row else None,
        "difference": found.difference,
        "within": found.within,
        "published_source": row.source if row else "",
        "why_not": found.why_not,
        "note": "" if found.why_not else found.note,
    }


def points(value: float, exact: bool = False) -> str:
    text = f"{100 * value:.2f}" if exact else f"{100 * value:.1f}"
    return text[:-1] if exact and text.endswith("0") else text
