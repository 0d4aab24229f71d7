"""The report of runs, written as a folder that opens from disk, or as one file."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evalkit import __version__
from evalkit.options.fields import paths
from evalkit.options.verbs import ReportOptions
from evalkit.viewer import compared, first_look, from_baseline, overview, scripts
from evalkit.viewer.assembled import Assembled, read
from evalkit.viewer.columns import pack
from evalkit.viewer.first_look import Remark, Verdict
from evalkit.viewer.gather import Gathered, TaskRuns, gather
from evalkit.viewer.masks import of_targets
from evalkit.viewer.outlet import Folder, Outlet, SingleFile
from evalkit.viewer.pictures import Pictures, longest, wanted
from evalkit.viewer.stream import Survey, survey

Say = Callable[[str], None]
VERSION = 1  # of the data that the page reads


def build(
    options: ReportOptions, command: str = "", say: Say = lambda text: None, gate: Sequence[Verdict] = ()
) -> Path:
    """Writes the report and returns what to open; `say` gets a line a task, `gate` is what one decided of
    these runs.

    Raises UserError where no run is scored, or the folder holds something else than a report."""
    with from_baseline.opened(paths(options.runs), paths(options.data_root)) as places:
        return _build(gather(places), options, command, say, gate)


def _build(
    gathered: Gathered, options: ReportOptions, command: str, say: Say, gate: Sequence[Verdict]
) -> Path:
    output = Path(options.output)
    outlet = SingleFile(output) if options.single_file else Folder(output)
    hidden = options.no_images or options.redact
    pictures = Pictures(None if hidden else outlet.pictures, options.single_file)
    report = overview.report(gathered, options, command)
    report |= {"version": VERSION, "made": _now(), "evalkit": __version__}
    remarks: list[Remark] = []
    try:
        for t, task in enumerate(gathered.tasks):
            found = _task(outlet, t, task, gathered, pictures, options, say)
            surveyed = found.collector.survey
            report["tasks"][t] |= {"n": surveyed.n, "shown": len(surveyed.shown)}
            remarks += first_look.of_task(t, found)
            comparisons, why_not = compared.of_task(t, found)
            report["comparisons"] += comparisons
            compared.unlike(report, t, why_not)
            say(_said(task, found, pictures))
        used = pictures.finish()
    finally:
        pictures.close()
    report["comparisons"] = compared.adjusted(report["comparisons"])
    report["look_first"] = first_look.chosen([*remarks, *first_look.of_comparisons(report, gate)])
    outlet.put("report", "report", report)
    return outlet.finish(used)


def _task(
    outlet: Outlet,
    t: int,
    task: TaskRuns,
    gathered: Gathered,
    pictures: Pictures,
    options: ReportOptions,
    say: Say,
) -> Assembled:
    """Reads one task and writes its files."""
    found = survey(task, options.limit)
    _picture(task, found, pictures, options)

    def write(chunk: int, records: list[dict[str, Any]]) -> None:
        outlet.put(f"{t}/samples/{chunk}", f"samples/{t}/{chunk}", records)

    masks, why = of_targets(task, frozenset(found.shown), paths(options.data_root))
    if why:
        say(f"{task.name}: the targets' masks are not drawn: {why}")
    whole = read(task, found, len(gathered.sides), pictures, write, masks, options.redact)
    head, data = pack(whole.columns(), len(found.shown))
    outlet.put(f"{t}/columns", f"columns/{t}", {"head": head, "data": scripts.zipped(data)})
    outlet.put(f"{t}/text", f"text/{t}", whole.collector.texts.done())
    outlet.put(f"{t}/task", f"task/{t}", overview.task(task, whole))
    return whole


def _picture(task: TaskRuns, found: Survey, pictures: Pictures, options: ReportOptions) -> None:
    """Begins to make the pictures of a task's images."""
    pictures.longest = options.picture_size or longest(len(found.images))
    pictures.ask(wanted([part.run for part in task.parts], found.images, paths(options.data_root)))


def _said(task: TaskRuns, found: Assembled, pictures: Pictures) -> str:
    """`docvqa_val: 5,349 samples` or `60 of 5,349 samples`, and why pictures are missing."""
    surveyed = found.collector.survey
    images, shown = surveyed.images, len(surveyed.shown)
    lost = [why for key in images if isinstance(why := pictures.get(key), str) and why]
    some = f"{shown:,} of " if shown < surveyed.n else ""
    text = f"{task.name}: {some}{surveyed.n:,} samples"
    return f"{text}; {len(lost):,} of {len(images):,} images have no picture: {lost[0]}" if lost else text


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
