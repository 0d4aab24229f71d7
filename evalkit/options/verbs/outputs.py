"""What the verbs take that write runs for others: pages, figures, files for test servers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from evalkit.errors import nearest
from evalkit.options.fields import Names, Paths, names, option, options, paths, positive
from evalkit.options.groups import RUNS, CodeOptions
from evalkit.options.model import DataOptions


@options
class PagesOptions(CodeOptions):
    """Which samples a report shows, and where their images are."""

    runs: Paths = option(
        f"{RUNS}; several are compared", kw_only=False, metavar="RUN", place="+", check=paths
    )
    limit: int | None = option(
        "only so many samples of a task can be opened; figures are of all", default=None, metavar="N",
        check=positive,
    )  # fmt: skip
    data_root: Paths = option(
        "where images are, if not where the run found them",
        default=(),
        metavar="DIR",
        check=paths,
        repeat=True,
        exists="folder",
    )


@options
class ReportOptions(PagesOptions):
    """Pages that open from disk: scores, every sample with its picture, what went wrong."""

    output: str | Path = option("default: REPORT", default=Path("REPORT"), metavar="DIR", check=Path)
    picture_size: int | None = option(
        "pixels of a picture's longer side (default: 768 up to 500 images, 384 up to 5,000, else 256)",
        default=None,
        metavar="N",
        check=positive,
    )
    title: str = option("default: the checkpoints' names", default="", metavar="TEXT", empty=True)
    single_file: bool = option("one HTML file with everything in it, for few samples", default=False)
    no_images: bool = option("without pictures", default=False)
    redact: bool = option(
        "without pictures, questions, targets and answers: for data that may not be passed on", default=False
    )


@options
class ViewOptions(PagesOptions):
    """The same pages in the browser, served to this machine alone; RUN may also be a report."""

    no_browser: bool = option("only say the address", default=False)


FIGURES: dict[str, str] = {
    "forest": "a score",
    "differences": "two checkpoints that can be compared",
    "trend": "three checkpoints whose names differ by a number, or a folder that `evalkit watch` keeps",
    "errors": "answers that are wrong in a known way",
    "groups": "a dataset that states groups",
    "classes": "a metric that scores classes, such as coco_ap",
    "confusion": "classes that are answered",
    "sizes": "boxes of several sizes",
    "precision-recall": "boxes with scores of their own",
    "calibration": "log-probabilities, which a run keeps where its task asks for them",
    "coverage": "margins of the answers",
    "resolution": "one checkpoint at several resolutions",
    "scores": "a score of each sample",
    "overlap": "boxes",
    "lengths": "answers",
}
"""What `plot` draws, and what each needs."""


def figures(value: Names) -> tuple[str, ...]:
    """Names of figures, or `all`."""
    found = names(value)
    for name in found:
        if name != "all" and name not in FIGURES:
            raise ValueError(name, "no such figure" + nearest(name, [*FIGURES, "all"]))
    if not found:
        raise ValueError("names no figure; say forest, or all")
    return found


@options
class PlotOptions(CodeOptions):
    """The report's graphics as files for papers (needs matplotlib: pip install 'evalkit[plot]')."""

    runs: Paths = option(
        f"{RUNS}; several are compared", kw_only=False, metavar="RUN", place="+", check=paths
    )
    what: Names = option(
        f"default: forest; by comma, or all: {', '.join(FIGURES)}",
        default=("forest",), metavar="FIGURES", check=figures, repeat=True,
    )  # fmt: skip
    output: str | Path = option(
        "default: figure.pdf; .svg, .pdf or .png. Of several tasks or figures the names are put behind it",
        default=Path("figure.pdf"), metavar="FILE", check=Path, writes="file",
    )  # fmt: skip
    tasks: Names = option(
        "only these tasks, by comma", default=(), metavar="NAMES", check=names, repeat=True, also=("--task",)
    )
    width: Literal["one", "two"] = option("columns of a page of two: 3.35 or 6.9 inches", default="one")
    top: int = option(
        "rows of bars, classes of a matrix (default 20)", default=20, metavar="N", check=positive
    )


@options
class ExportOptions(DataOptions, CodeOptions):
    """A run's answers as the file that a test server wants."""

    runs: Paths = option(RUNS, kw_only=False, metavar="RUN", place="+", check=paths)
    to: str = option("vqav2, docvqa, ..., jsonl, csv (default: by the task)", default="auto", metavar="FORM")
    output: str | Path | None = option(
        "default: export/ in the run's folder", default=None, metavar="FILE", check=Path
    )
    allow_partial: bool = option("also where answers are missing", default=False)
