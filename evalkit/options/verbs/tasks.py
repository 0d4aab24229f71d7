"""What the verbs take that show and check tasks, their data, and the runs that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from evalkit.options.fields import Names, Options, Paths, names, option, options, paths
from evalkit.options.groups import TASKS, CodeOptions, LayoutOptions, SetOptions
from evalkit.options.model import DataOptions


@options
class ListOptions(Options):
    """What there is."""

    what: Literal["tasks", "suites", "metrics", "parsers", "models", "formats", "forms", "runs"] = option(
        "what to list", kw_only=False, place="1"
    )
    words: Names = option(
        "only tasks with all of these in name, suite or description",
        default=(),
        kw_only=False,
        metavar="WORD",
        check=names,
        place="*",
    )
    include_path: Paths = option(
        "more task files", default=(), metavar="DIR", check=paths, repeat=True, exists="folder"
    )
    output_path: str | Path = option(
        "default: results", default=Path("results"), metavar="DIR", check=Path, exists="folder"
    )


@options
class ShowOptions(DataOptions, SetOptions, CodeOptions):
    """A task: exact prompt on a sample, preparation, metrics, what is missing."""

    task: str | Path = option("a task's name or file", kw_only=False, place="1", check=str)
    yaml: bool = option("the task file alone, to copy and change", default=False)


@options
class FindDataOptions(DataOptions, SetOptions, LayoutOptions, CodeOptions):
    """Where a task's data is looked for; or what a folder or file of one's own holds."""

    tasks: Names = option(
        f"{TASKS}; or a folder or file of your own", kw_only=False, metavar="TASK", place="+", check=names
    )
    check: bool = option("read it: counts against the official, targets, images", default=False)
    all_images: bool = option("with --check: decode every image, not a sample", default=False)


@options
class ValidateOptions(CodeOptions):
    """Check task files without running them."""

    files: Paths = option(
        "task files", default=(), kw_only=False, metavar="FILE.yaml", place="*", check=paths
    )
    include_path: Paths = option(
        "where task files' own code is looked for",
        default=(),
        metavar="DIR",
        check=paths,
        repeat=True,
        exists="folder",
    )
    data: bool = option("read their data too: whether the metrics can score it", default=False)
    data_root: Paths = option(
        "with --data: where datasets are",
        default=(),
        metavar="DIR",
        check=paths,
        repeat=True,
        exists="folder",
    )
    schema: bool = option("print the JSON schema of a task file, for editors", default=False)


@options
class RunsOptions(Options):
    """List, keep or remove runs."""

    what: Literal["list", "keep", "rm", "gc"] = option(
        "default: list", default="list", kw_only=False, place="?"
    )
    runs: Paths = option(
        "with keep and rm: run folders", default=(), kw_only=False, metavar="RUN", place="*", check=paths
    )
    yes: bool = option("remove; without it gc and rm only say what they would", default=False)
    output_path: str | Path = option(
        "default: results", default=Path("results"), metavar="DIR", check=Path, exists="folder"
    )
