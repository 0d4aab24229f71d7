"""Tasks made of a folder or file of somebody's own: recognised, said, written down and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from evalkit.errors import UserError
from evalkit.evaluation import progress
from evalkit.files import atomic_write
from evalkit.options.groups import LayoutOptions
from evalkit.runs.store import keep_task
from evalkit.tasks import loader, schema
from evalkit.tasks.layouts.reading import Draft, Reading, dumped
from evalkit.tasks.layouts.recognise import recognise
from evalkit.types import Task


def tasks(
    place: Path, options: LayoutOptions, output: Path, overrides: Mapping[str, str]
) -> tuple[list[Task], Path, dict[str, tuple[str, ...]]]:
    """The tasks of what lies at `place`, one a verb, the data root that they name their files below, and what
    makes each one's number doubtful. Their files are kept in the output folder, so that scores can be
    computed again; or where `save_task` says."""
    found = look(place, options)
    made = []
    for draft, path in zip(found.drafts, saved(found, options), strict=True):
        path = path or keep_task(output, found.name(draft), dumped(draft.content))
        progress.say(f"  task     {path}")
        made.append(loader.load(str(path), dict(overrides)))
    return made, found.root.absolute(), {task.name: tuple(found.doubts) for task in made}


def look(place: Path, options: LayoutOptions) -> Reading:
    """What lies at `place`, said in a few lines."""
    found = recognise(place, options.split, options.verb or "", options.box_order or "")
    for line in found.lines():
        progress.say(f"  {line}")
    return found


def read(found: Reading, draft: Draft, overrides: Mapping[str, str]) -> Task:
    """The task of a draft, without a file."""
    name = found.name(draft)
    return schema.read(f"{name}.yaml", name, dict(draft.content), dict(overrides))


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
