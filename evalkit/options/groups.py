"""What several verbs take: own code, a task's overrides, trackers, data of one's own; shared words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from evalkit.errors import nearest
from evalkit.options.fields import Names, Options, names, option, options, settings

MAY_DIFFER = ("prompt", "protocol", "samples")
TRACKERS = ("tensorboard", "mlflow", "wandb", "trackio")
RUNS = "run folders, or folders of runs"
TASKS = "tasks, suites, patterns or YAML files, by comma"
OWN = "a folder or file of your own: what it holds is recognised, and a task made of it"
MODEL = "checkpoint folder, hub id, demo:later, module:FILE.py:CLASS, replay:FILE; may be repeated"


def trackers(value: Names) -> tuple[str, ...]:
    """Experiment trackers; `none` is none. Raises ValueError."""
    found = tuple(name for name in names(value) if name != "none")
    for name in found:
        if name not in TRACKERS:
            raise ValueError(name, f"no such tracker{nearest(name, TRACKERS)}; --on-scores has any other")
    return found


def may_differ(value: Names) -> tuple[str, ...]:
    """What two runs may differ in and still be compared. Raises ValueError."""
    for name in (found := names(value)):
        if name not in MAY_DIFFER:
            raise ValueError(name, f"unknown; there are: {', '.join(MAY_DIFFER)}")
    return found


def report_place(value: str | Path) -> str:
    """Where a report is: a folder, its HTML file, or an address of either. Raises ValueError."""
    scheme = urlsplit(str(value)).scheme
    if len(scheme) > 1 and scheme not in ("http", "https", "file"):  # one letter: a drive of Windows
        raise ValueError(str(value), "is no address of a report; write a folder or https://...")
    return str(value)


@options
class CodeOptions(Options):
    """Whether files that a task or a run names may be executed."""

    allow_code: bool = option("let tasks use metrics, parsers and formats of your own files", default=False)


@options
class SetOptions(Options):
    """Keys of a task that are changed."""

    set: Mapping[str, Any] | Sequence[str] = option(
        "override a key of the task, e.g. decode.max_new_tokens=64; marked in tables",
        default=(),
        metavar="KEY=VALUE",
        check=settings,
        repeat=True,
    )
    confidence: bool = option(
        "also score how well answers' probabilities tell right from wrong; texts stay as they are",
        default=False,
    )

    @property
    def overrides(self) -> dict[str, str]:
        """The keys that `set` and `confidence` change."""
        return {**settings(self.set), **({"confidence": "true"} if self.confidence else {})}


@options
class TrackerOptions(Options):
    """Where scores are told to beside the results."""

    on_scores: str | Callable[..., Any] | None = option(
        "a function that gets every run's name and scores", default=None, metavar="FILE.py:NAME"
    )
    report_to: Names = option(
        f"{', '.join(TRACKERS)}: scores with intervals, and samples with pictures",
        default=(),
        metavar="TRACKER",
        check=trackers,
        repeat=True,
    )


@options
class LayoutOptions(Options):
    """How data of one's own is read that no task describes."""

    split: str | None = option(
        "which split of --data (default: test, else valid, else train)", default=None, metavar="NAME"
    )
    verb: Literal["detect", "segment"] | None = option(
        "what --data with boxes and masks asks for (default: detect)", default=None
    )
    box_order: Literal["xywh", "xyxy"] | None = option(
        "what the four numbers of a box are, where --data has rows that do not show it", default=None
    )
    save_task: Path | None = option(
        "write the task that --data makes to this file",
        default=None,
        metavar="FILE.yaml",
        check=Path,
        writes="file",
    )
