"""The map of `evalkit sweep`: a line a setting, and what moves the score. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from evalkit.comparison.sweep import Point, Sweep
from evalkit.errors import UserError
from evalkit.options.verbs import SweepOptions
from evalkit.report import columns, formats
from evalkit.report.comparison import difference, hundredths, p_value

FORMS = ("terminal", "md", "csv", "html", "latex", "json")
NOTE = (
    "values and differences × 100, from each task's first setting, on the same samples; 95 % intervals, "
    "paired, clustered by image; p and verdicts hold for all settings and looks together (Bonferroni over "
    "looks, Holm over settings)"
)


def form_of(options: SweepOptions) -> str:
    """The form that is asked for. Raises UserError for a file whose name means none."""
    output = None if options.output is None else Path(options.output)
    form = options.format or formats.by_suffix(output) or "terminal"
    if form not in FORMS:
        raise UserError(
            f"--output {output}: a sweep is written as {', '.join(FORMS)}; name one with --format"
        )
    return form


def text_of(found: Sweep, form: str) -> str:
    """The map in a form; JSON has every number."""
    if form == "json":
        moved = [p.run for p in found.moved]
        content = {"axes": found.axes, "margin": found.margin, "points": [*found.records()], "moved": moved}
        return columns.json_text(content)
    if form == "csv":
        return columns.records([*found.records()], form)
    header = ["task", "metric", *found.axes, "n", "value", "difference", "p", "verdict"]
    rows = [[*_names(found, i), *_numbers(p, found.margin)] for i, p in enumerate(found.points)]
    return columns.plain([header, *rows], form, [*_moving(found), NOTE], keys=2 + len(found.axes))


def _names(found: Sweep, place: int) -> list[str]:
    """Task, metric and settings; the first two once a task."""
    point = found.points[place]
    same = place > 0 and found.points[place - 1].task == point.task
    return [*(("", "") if same else (point.task, point.metric)), *point.values]


def _numbers(point: Point, margin: float) -> list[str]:
    d = point.found
    gap, p = ("–", "–") if d is None else (difference(d), p_value(point.p))
    return [f"{point.n:,}", hundredths(point.score.value), gap, p, point.verdict(margin)]


def _moving(found: Sweep) -> Iterator[str]:
    """What moves the score beyond noise, the most first; or that nothing does, and what is undecided."""
    order = sorted(found.moved, key=lambda p: -abs(p.found.value) if p.found else 0.0)
    for point in order:
        assert point.found is not None
        said = ", ".join(f"{axis} {value}" for axis, value in found.changed(point).items())
        yield f"{point.task}: {said} moves the score by {difference(point.found)}"
    if not order:
        yield "nothing moves the score beyond noise"
    left = sum(p.verdict(found.margin) == "undecided" for p in found.points)
    if left:
        yield f"{left} undecided: more samples, or a wider --margin, would tell"
