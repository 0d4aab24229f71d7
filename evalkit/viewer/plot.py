"""Figures of runs for papers: what the report shows of them, drawn by matplotlib and written as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import UserError, nearest
from evalkit.files import atomic_write
from evalkit.options.fields import names, paths
from evalkit.options.verbs import PlotOptions, ReportOptions
from evalkit.options.verbs.outputs import FIGURES
from evalkit.viewer import assembled, compared, drawing, from_baseline, ink, overview
from evalkit.viewer.drawing import Sheet
from evalkit.viewer.gather import Gathered, TaskRuns, gather
from evalkit.viewer.pictures import Pictures
from evalkit.viewer.stream import survey

Say = Callable[[str], None]
WHOLE = ("forest", "trend")  # figures of all tasks, which need no sample
DRAWN: Mapping[str, Callable[[Sheet, Any], Any]] = {
    "bars": drawing.bars,
    "histogram": drawing.histogram,
    "curve": drawing.curve,
}


@dataclass(frozen=True)
class Figure:
    """One figure: what it shows, of which task ('' for all of them), and matplotlib's own."""

    what: str
    task: str
    title: str
    figure: Any


def write(options: PlotOptions, say: Say = lambda text: None) -> tuple[Path, ...]:
    """Writes the figures, and says where they are; `say` gets a line for what is not as one expects.

    Raises UserError where matplotlib is missing, no run is scored, or nothing is there of what was asked for;
    the other figures are written before that."""
    ink.refuse_missing()
    output = Path(options.output)
    form = output.suffix.lower().removeprefix(".")
    if form not in ink.FORMS:
        raise UserError(f"--output {output}: must end with .svg, .pdf or .png")
    with from_baseline.opened(paths(options.runs)) as places:
        return _written(gather(places), options, output, form, say)


def _written(gathered: Gathered, options: PlotOptions, output: Path, form: str, say: Say) -> tuple[Path, ...]:
    chosen = _chosen(gathered, names(options.tasks))
    asked = names(options.what)
    whats = tuple(FIGURES) if "all" in asked else asked
    places = []
    seen = set[str]()
    for found in figures(gathered, chosen, whats, options):
        parts = [output.stem, *([found.task] if found.task and len(chosen) > 1 else [])]
        parts += [found.what] if len(whats) > 1 else []
        place = output.with_name(f"{'-'.join(parts)}{output.suffix}")
        data, lost = ink.saved(found.figure, form, found.title)
        atomic_write(place, data)
        if lost and form != "svg":
            say(f"{place}: the font has no {' '.join(lost[:10])}; as .svg it keeps them as text")
        places.append(place)
        seen.add(found.what)
    missing = [what for what in whats if what not in seen]
    if missing and ("all" not in asked or not places):
        needs = "; ".join(f"{what} needs {FIGURES[what]}" for what in missing)
        raise UserError(f"--what {','.join(asked)}: these runs have no such figure; {needs}")
    return tuple(places)


def _chosen(gathered: Gathered, wanted: Sequence[str]) -> tuple[str, ...]:
    """The tasks that figures are of. Raises UserError for one that no run is of."""
    known = [task.name for task in gathered.tasks]
    for name in wanted:
        if name not in known:
            raise UserError(f"--tasks {name}: no run is of it{nearest(name, known)}")
    return tuple(name for name in known if not wanted or name in wanted)


def figures(
    gathered: Gathered, chosen: Sequence[str], whats: Sequence[str], options: PlotOptions
) -> Iterator[Figure]:
    """The figures that there are, those of all tasks first."""
    report = overview.report(gathered, ReportOptions(options.runs), "")
    width = ink.WIDTHS[options.width]
    sheet = Sheet(width, [run["short"] for run in report["runs"]], options.top, overview.SCALE)
    with ink.style():
        scored = [t for t in report["tasks"] if t["name"] in chosen and any(map(drawing.scored, t["scores"]))]
        if "forest" in whats and scored:
            yield Figure("forest", "", "Scores with their intervals", drawing.forest(sheet, scored))
        trend = report["trend"]["tasks"] if report["trend"] else []
        trend = [one for one in trend if one["points"] and one["name"] in chosen]
        if "trend" in whats and trend:
            yield Figure("trend", "", "Scores by step", drawing.trend(sheet, trend))
    if set(whats) <= set(WHOLE):
        return
    for task in (task for task in gathered.tasks if task.name in chosen):
        yield from _of_task(task, whats, options, sheet, report)


def _of_task(
    task: TaskRuns, whats: Sequence[str], options: PlotOptions, sheet: Sheet, report: Mapping[str, Any]
) -> Iterator[Figure]:
    """The figures of one task, whose samples are read once for all."""
    pictures = Pictures(None)
    try:
        found = assembled.read(task, survey(task), len(sheet.names), pictures)
    finally:
        pictures.close()
    sections = [s for s in overview.task(task, found)["sections"] if s["name"] in whats]
    with ink.style():
        for what in dict.fromkeys(section["name"] for section in sections):
            some = [section for section in sections if section["name"] == what]
            title = f"{task.name}: {some[0]['title']}"
            if some[0]["kind"] == "matrix":
                yield Figure(what, task.name, title, drawing.matrices(sheet, some))
            else:
                yield Figure(what, task.name, title, DRAWN[some[0]["kind"]](sheet, some[0]))
        if "differences" in whats:
            t = next(k for k, one in enumerate(report["tasks"]) if one["name"] == task.name)
            pairs, _ = compared.of_task(t, found)
            pairs = [pair for pair in pairs if pair["difference"] is not None]
            if pairs:
                figure = drawing.differences(sheet, pairs, report["tasks"])
                yield Figure("differences", task.name, f"{task.name}: differences", figure)
