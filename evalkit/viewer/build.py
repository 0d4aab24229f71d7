"""The report of runs, written as a folder that opens from disk, or as one file."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalkit import __version__
from evalkit.options.fields import paths
from evalkit.options.verbs import ReportOptions
from evalkit.viewer import compared, first_look, overview, scripts
from evalkit.viewer.assembled import Assembled
from evalkit.viewer.collect import Collector, of_run
from evalkit.viewer.columns import pack
from evalkit.viewer.first_look import Remark
from evalkit.viewer.gather import Gathered, TaskRuns, gather
from evalkit.viewer.pictures import LONGEST, MANY, SMALLER, Pictures, Wanted, Where
from evalkit.viewer.stream import Survey, journalled, survey

VERSION = 1  # of the data that the page reads


def build(options: ReportOptions, command: str = "") -> Path:
    """Writes the report and returns its index.html. Raises UserError where no run is scored."""
    folder = Path(options.output)
    gathered = gather(paths(options.runs))
    pictures = Pictures(None if options.no_images or options.redact else folder, inline=options.single_file)
    report = overview.report(gathered, options, command)
    report |= {"version": VERSION, "made": _now(), "evalkit": __version__}
    remarks: list[Remark] = []
    for t, task in enumerate(gathered.tasks):
        found = _task(folder, t, task, gathered, pictures, options)
        remarks += first_look.of_task(t, found)
        comparisons, why_not = compared.of_task(t, found)
        report["comparisons"] += comparisons
        compared.unlike(report, t, why_not)
    report["comparisons"] = compared.adjusted(report["comparisons"])
    report["look_first"] = first_look.chosen([*remarks, *first_look.of_comparisons(report)])
    scripts.put(folder, "report", "report", report)
    scripts.write_page(folder)
    return folder / "index.html"


def _task(
    folder: Path, t: int, task: TaskRuns, gathered: Gathered, pictures: Pictures, options: ReportOptions
) -> Assembled:
    """Reads one task and writes its files."""
    found = survey(task, options.limit)
    _picture(task, found, pictures, paths(options.data_root))
    runs = [of_run(part, journalled(part, found.places), found.n) for part in task.parts]

    def write(chunk: int, records: list[dict[str, Any]]) -> None:
        scripts.put(folder, f"{t}/samples/{chunk}", f"samples/{t}/{chunk}", records)

    collector = Collector(task, found, runs, pictures, len(gathered.sides), write, redact=options.redact)
    collector.read()
    whole = Assembled(collector)
    head, data = pack(whole.columns(), found.n)
    scripts.put(folder, f"{t}/columns", f"columns/{t}", {"head": head, "data": scripts.zipped(data)})
    scripts.put(folder, f"{t}/text", f"text/{t}", scripts.zipped(scripts.json_bytes(collector.texts)))
    scripts.put(folder, f"{t}/task", f"task/{t}", overview.task(task, whole))
    return whole


def _picture(task: TaskRuns, found: Survey, pictures: Pictures, given: Sequence[Path]) -> None:
    """Makes the pictures of a task's images."""
    where = [Where.of_run(part.run, given) for part in task.parts]
    exif = [str(part.run["identity"].get("preparation", {}).get("exif", "ignore")) for part in task.parts]
    pictures.longest = SMALLER if len(found.images) > MANY else LONGEST
    pictures.make(Wanted(key, path, where[k], exif[k]) for key, (path, k) in found.images.items())


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
