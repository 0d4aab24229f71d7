"""Tasks made of a folder or file of somebody's own: recognised, said, written down and loaded."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evalkit.errors import UserError
from evalkit.evaluation import progress
from evalkit.files import atomic_write
from evalkit.options.groups import LayoutOptions
from evalkit.runs.store import RunFolder, forget_tasks, keep_task, task_file
from evalkit.tasks import loader
from evalkit.tasks.layouts.reading import Draft, Reading, dumped
from evalkit.tasks.layouts.recognise import recognise
from evalkit.types import Task


@dataclass(frozen=True)
class Made:
    """The tasks of what lies somewhere, one a verb, and the data root that they name their files below."""

    tasks: Sequence[Task] = ()
    root: tuple[Path, ...] = ()
    doubts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by task
    files: Mapping[Path, str] = field(default_factory=dict)  # that are to be kept beside the runs

    @contextlib.contextmanager
    def kept(self, runs: Iterable[RunFolder]) -> Iterator[None]:
        """Keeps the tasks' files in the output folder, so that scores can be computed again. What is new is
        taken away again where none of the runs came to anything."""
        new = [path for path in self.files if not path.exists()]
        folders = dict.fromkeys(f for path in new for f in path.parents[:2] if not f.exists())
        for path, text in self.files.items():
            keep_task(path, text)
        try:
            yield
        finally:
            if new and not any(run.path.exists() for run in runs):
                forget_tasks(new, folders)


def tasks(place: Path, options: LayoutOptions, output: Path, overrides: Mapping[str, str]) -> Made:
    """What is made of what lies at `place`, said: the lines, and each task as YAML. Its file is written by
    `kept`, or now where `save_task` says."""
    found = look(place, options)
    progress.say("\n".join(f"  {line}" for line in found.lines()))
    made, files = [], dict[Path, str]()
    for draft, path in zip(found.drafts, saved(found, options), strict=True):
        text = dumped(draft.content)
        if path is None:
            path = task_file(output, found.name(draft))
            files[path] = text
        progress.say(f"  task     {path}\n{textwrap.indent(text.rstrip(), ' ' * 11)}")
        made.append(loader.holding(draft.content, path, overrides))
    return Made(made, (found.root.absolute(),), {task.name: tuple(found.doubts) for task in made}, files)


def look(place: Path, options: LayoutOptions) -> Reading:
    """What lies at `place`."""
    return recognise(place, options.split, options.verb or "", options.box_order or "")


def read(found: Reading, draft: Draft, overrides: Mapping[str, str]) -> Task:
    """The task of a draft, without a file."""
    return loader.holding(draft.content, Path(f"{found.name(draft)}.yaml"), overrides)


def saved(found: Reading, options: LayoutOptions) -> list[Path | None]:
    """Writes every draft where `save_task` says, of several with their verbs; None for each without it.
    Raises UserError for a file that holds something else."""
    if options.save_task is None:
        return [None for _ in found.drafts]
    return [_write(_file(Path(options.save_task), draft, len(found.drafts)), draft) for draft in found.drafts]


def _file(path: Path, draft: Draft, count: int) -> Path:
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"--save-task {path}: a task is a .yaml file")
    return path if count == 1 else path.with_name(f"{path.stem}_{draft.verb}{path.suffix}")


def _write(path: Path, draft: Draft) -> Path:
    text = dumped(draft.content)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UserError(f"--save-task {path}: is there already and holds something else; name another file")
    atomic_write(path, text)
    return path
