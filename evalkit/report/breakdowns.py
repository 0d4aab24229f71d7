"""`table --per`: a line a part of each score (class, group, kind of error...), or its confusion matrix.

Knows what scores hold; computes none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from evalkit.errors import UserError, nearest
from evalkit.report import causes, columns
from evalkit.report.columns import HALF, interval
from evalkit.report.leaderboard import Cell, in_order
from evalkit.stats.intervals import FEW
from evalkit.stats.parts import HIGH, IMAGES, LOW

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
    named = figures(parts for _, parts in found)
    header = ["task", "metric", "model", per, *named]
    lines = [
        [c.score.task, c.score.metric, c.model, name, *(spread(row, f) for f in named)]
        for c, parts in found
        for name, row in parts.items()
    ]
    notes = ["shares × 100; whole numbers are counts", *_on_intervals([parts for _, parts in found])]
    if per == "error":
        kinds_there = dict.fromkeys(name for _, parts in found for name in parts if name in causes.ERRORS)
        notes += [f"{name}: {causes.ERRORS[name]}" for name in kinds_there]
        notes += dict.fromkeys(line for c, _ in found for line in causes.odd(c.score, c.task_file))
    return columns.plain([header, *lines], form, notes, keys=4)


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
    of = figures([parts])
    return all(
        name in other and all(other[name].get(f) == row[f] for f in of if f in row and f != IMAGES)
        for name, row in parts.items()
    )


def kinds(cell: Cell) -> list[str]:
    """What a score can be broken down by."""
    odd = ["error"] if causes.own(cell.score) else []
    return list(dict.fromkeys([*([GROUP] if cell.score.groups else []), *cell.score.breakdowns, *odd]))


def parts_of(cell: Cell, per: str) -> Parts:
    """The parts of a score; classes by name, what is no class last. Beside TIDE's errors stand what is odd
    about answers."""
    found: Parts = cell.score.groups if per == GROUP else cell.score.breakdowns.get(per, {})
    if per == "error":
        return {**found, **causes.own(cell.score)}
    return found if per in ORDERED else {name: found[name] for name in sorted(found, key=_place)}


def shown(value: float | None) -> str:
    """A figure as tables show it: counts as they are, shares × 100."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{100 * value:.1f}"


def figures(tables: Iterable[Parts]) -> list[str]:
    """The figures of parts, without the bounds of their intervals; how many images show a part is last."""
    found = dict.fromkeys(f for parts in tables for row in parts.values() for f in row)
    named = [
        f for f in found if not (f.endswith((LOW, HIGH)) and f.removesuffix(LOW).removesuffix(HIGH) in found)
    ]
    return sorted(named, key=lambda f: f == IMAGES)


def spread(row: Mapping[str, Any], figure: str) -> str:
    """A figure of a part as tables show it, `41.2 ±3.4` or `5.1 [0.2, 31.2]` where it has an
    interval."""
    low, high = row.get(figure + LOW), row.get(figure + HIGH)
    value = row.get(figure)
    return shown(value) + ("" if value is None else interval(value, low, high))


def rough(parts: Parts) -> list[str]:
    """`cat (12)`: the parts that so few images show that their intervals are rough, the fewest first."""
    few = {n: int(row[IMAGES]) for n, row in parts.items() if row.get(IMAGES, FEW) < FEW}
    return [f"{name} ({few[name]})" for name in sorted(few, key=lambda name: (few[name], name))]


def _on_intervals(tables: Sequence[Parts]) -> Iterator[str]:
    """What a reader must know of the intervals of parts."""
    rows = [row for parts in tables for row in parts.values()]
    if not any(IMAGES in row for row in rows):
        return
    yield f"± {HALF} (clustered by image); none where one image alone shows it"
    few = list(dict.fromkeys(text for parts in tables for text in rough(parts)))
    if few:
        more = f" and {len(few) - LISTED} more" if len(few) > LISTED else ""
        yield f"fewer than {FEW} images, so the interval is rough: {', '.join(few[:LISTED])}{more}"
    if any("AP" in row for row in rows) and not any("AP" + LOW in row for row in rows):
        yield "AP, AP50 and AR100 of so many classes have no interval: each would be drawn again 500 times"


def _place(name: str) -> tuple[bool, str]:
    return name.startswith("("), name


def _records(found: Sequence[tuple[Cell, Parts]], per: str) -> Iterator[dict[str, Any]]:
    """One a part, all with the same keys; of a matrix one a cell."""
    every = list(dict.fromkeys(f for _, parts in found for row in parts.values() for f in row))
    for cell, parts in found:
        head = {"task": cell.score.task, "metric": cell.score.metric, "model": cell.model, "run": cell.run}
        for name, row in parts.items():
            if per == MATRIX:
                yield from (head | {"true": name, "answered": other, "n": n} for other, n in row.items())
            else:
                yield head | {per: name} | {figure: row.get(figure) for figure in every}


def _matrix(cell: Cell, parts: Parts, form: str) -> str:
    """One score's matrix: a row a true class, a column an answered one."""
    names = sorted({*parts, *(name for row in parts.values() for name in row)}, key=_place)
    title = (
        f"{cell.score.task} {cell.score.metric} {cell.model}: a row is a true class, a column an answered one"
    )
    if len(names) <= WIDE:
        lines = [[name, *(str(parts.get(name, {}).get(other, 0)) for other in names)] for name in names]
        return columns.plain([["true", *names], *lines], form, [title], keys=1)
    wrong = [(n, a, b) for a, row in parts.items() for b, n in row.items() if a != b]
    most = sorted(wrong, key=lambda each: (-each[0], each[1:]))[:LISTED]
    more = f"; the {len(most)} commonest of {len(wrong)} confusions, --format json has all"
    return columns.plain(
        [["true", "answered", "n"], *([a, b, str(n)] for n, a, b in most)], form, [title + more]
    )
