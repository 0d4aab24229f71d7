"""`table --per`: a line a part of each score (class, group, kind of error...), or its confusion matrix.

Knows what scores hold; computes none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalkit.errors import UserError, nearest
from evalkit.report import causes, columns
from evalkit.report.leaderboard import Cell, in_order

GROUP = "group"
MATRIX = "confusion"
WIDE = 12  # columns of a matrix; of a larger one the commonest confusions are listed
LISTED = 20
ORDERED = ("error", "threshold", "bin", "coverage")  # parts that stand as their metric has them

Parts = Mapping[str, Mapping[str, Any]]


def table(cells: Sequence[Cell], form: str, per: str) -> str:
    """The parts of all scores that have them. Raises UserError where none has; `form` is one of FORMS."""
    found = [(cell, parts) for cell in in_order(cells) if (parts := parts_of(cell, per))]
    if not found:
        there = sorted({name for cell in cells for name in kinds(cell)})
        known = f"; there are: {', '.join(there)}" if there else "; these scores have no parts"
        raise UserError(f"--per {per}: no score has it{nearest(per, there) if there else known}")
    if form in ("csv", "json"):
        return columns.records(list(_records(found, per)), form)
    if per == MATRIX:
        return "\n".join(_matrix(cell, parts, form) for cell, parts in found)
    found = _without_repeats(found)
    figures = list(dict.fromkeys(f for _, parts in found for row in parts.values() for f in row))
    header = ["task", "metric", "model", per, *figures]
    lines = [
        [c.score.task, c.score.metric, c.model, name, *(shown(row.get(f)) for f in figures)]
        for c, parts in found
        for name, row in parts.items()
    ]
    notes = ["shares × 100; whole numbers are counts"]
    if per == "error":
        kinds_there = dict.fromkeys(name for _, parts in found for name in parts if name in causes.ERRORS)
        notes += [f"{name}: {causes.ERRORS[name]}" for name in kinds_there]
        notes += dict.fromkeys(line for c, _ in found for line in causes.odd(c.score, c.task_file))
    return columns.plain([header, *lines], form, notes)


def _without_repeats(found: Sequence[tuple[Cell, Parts]]) -> list[tuple[Cell, Parts]]:
    """The parts without those of which another metric of the same run says every figure, and perhaps more:
    F1 by class stands in AP's lines too."""
    kept: list[int] = []
    for i in sorted(range(len(found)), key=lambda i: -sum(map(len, found[i][1].values()))):
        cell, parts = found[i]
        run = cell.score.task, cell.model, cell.run
        others = (found[k] for k in kept)
        if not any(run == (c.score.task, c.model, c.run) and _within(parts, more) for c, more in others):
            kept.append(i)
    return [found[i] for i in sorted(kept)]


def _within(parts: Parts, other: Parts) -> bool:
    return all(name in other and row.items() <= other[name].items() for name, row in parts.items())


def kinds(cell: Cell) -> list[str]:
    """What a score can be broken down by."""
    return [*([GROUP] if cell.score.groups else []), *cell.score.breakdowns]


def parts_of(cell: Cell, per: str) -> Parts:
    """The parts of a score; classes by name, what is no class last."""
    found: Parts = cell.score.groups if per == GROUP else cell.score.breakdowns.get(per, {})
    return found if per in ORDERED else {name: found[name] for name in sorted(found, key=_place)}


def shown(value: float | None) -> str:
    """A figure as tables show it: counts as they are, shares × 100."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{100 * value:.1f}"


def _place(name: str) -> tuple[bool, str]:
    return name.startswith("("), name


def _records(found: Sequence[tuple[Cell, Parts]], per: str) -> Iterator[dict[str, Any]]:
    """One a part, all with the same keys; of a matrix one a cell."""
    figures = list(dict.fromkeys(f for _, parts in found for row in parts.values() for f in row))
    for cell, parts in found:
        head = {"task": cell.score.task, "metric": cell.score.metric, "model": cell.model, "run": cell.run}
        for name, row in parts.items():
            if per == MATRIX:
                yield from (head | {"true": name, "answered": other, "n": n} for other, n in row.items())
            else:
                yield head | {per: name} | {figure: row.get(figure) for figure in figures}


def _matrix(cell: Cell, parts: Parts, form: str) -> str:
    """One score's matrix: a row a true class, a column an answered one."""
    names = sorted({*parts, *(name for row in parts.values() for name in row)}, key=_place)
    title = (
        f"{cell.score.task} {cell.score.metric} {cell.model}: a row is a true class, a column an answered one"
    )
    if len(names) <= WIDE:
        lines = [[name, *(str(parts.get(name, {}).get(other, 0)) for other in names)] for name in names]
        return columns.plain([["true", *names], *lines], form, [title])
    wrong = [(n, a, b) for a, row in parts.items() for b, n in row.items() if a != b]
    most = sorted(wrong, key=lambda each: (-each[0], each[1:]))[:LISTED]
    more = f"; the {len(most)} commonest of {len(wrong)} confusions, --format json has all"
    return columns.plain(
        [["true", "answered", "n"], *([a, b, str(n)] for n, a, b in most)], form, [title + more]
    )
