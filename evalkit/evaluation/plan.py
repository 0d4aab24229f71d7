"""What a run will do, before anything heavy is imported: samples, identity, what is done already.

Knows tasks, formats and results; never a model (a `Checkpoint` answers for it).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evalkit.data import sources
from evalkit.errors import DataError
from evalkit.runs.store import Entry, ImageStamp, RunFolder
from evalkit.tasks import loader
from evalkit.tasks.dataset import Dataset, Selection, choose
from evalkit.types import Checkpoint, Parser, Preparation, Request, Sample, Source, Task


@dataclass(frozen=True, kw_only=True)
class ToScore:
    """A run whose answers are to be scored: what was asked, and of which part of the official samples."""

    task: Task
    parser: Parser
    folder: RunFolder
    wanted: tuple[str, ...]  # ids
    total: int  # samples of the dataset
    targets: str  # digest of all targets of the dataset
    official: int | None = None  # the official count, where the disk holds another number
    early: bool = False  # stopped by a sequential test: what is there was chosen by what it showed

    def coverage(self, have: int) -> str:
        """`all` of the official samples (or of as many as the papers had), `limited` on purpose, `early`
        where a sequential test stopped it, or `incomplete`: some wanted are missing."""
        if have < len(self.wanted) or self.official is not None:
            return "incomplete"
        return "early" if self.early else "all" if len(self.wanted) == self.total else "limited"


@dataclass(frozen=True, kw_only=True)
class Plan(ToScore):
    """One run to be: a task, a checkpoint, and one way of running it."""

    model: str
    protocol: str
    preparation: Preparation
    source: Source
    identity: Mapping[str, Any]
    digest: str
    selection: Selection
    missing: tuple[str, ...]  # wanted and not predicted yet
    changed: tuple[str, ...] = ()  # predicted, but the image on disk has changed since


def requests(plan: Plan, samples: Sequence[Sample]) -> list[Request]:
    """What the model is asked: the prompt filled in, the image and how to prepare it, the choices if any."""
    decode = plan.task.decode
    if plan.protocol == "hf":
        decode = replace(decode, text_length=None)
    return [
        Request(
            s.id,
            s.images,
            loader.prompt(plan.task, s.fields),
            plan.preparation,
            decode,
            loader.choices(plan.task, s),
        )
        for s in samples
    ]


# --- plans ---------------------------------------------------------------------------------------


def plan(
    data: Dataset,
    checkpoint: Checkpoint,
    output: Path,
    selection: Selection,
    protocol: str | None = None,
    missing_images: str = "stop",
) -> Plan:
    """What is to be done for one task and one checkpoint, given what the output folder holds.

    Image files that are not there are an error now, or left for later with `missing_images="skip"`.
    """
    task = data.task
    named = protocol or checkpoint.protocol or task.protocol
    preparation = loader.preparation(task, checkpoint.resolution, named)
    identity = {
        "task": loader.text_identity(task),
        "prompts": data.prompts,
        "preparation": asdict(preparation),
        "protocol": named,
        "model": dict(checkpoint.identity(named)),
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    folder = RunFolder(output / f"{task.name}.{checkpoint.name}.{digest[:8]}")
    entries = folder.entries()
    selection = _widest(folder, data, selection, entries)
    wanted = choose(data.samples, selection)
    if missing_images == "stop":
        _refuse_missing_images(task, [s for s in wanted if s.id not in entries])
    changed = tuple(s.id for s in wanted if s.id in entries and not _same_images(s, entries[s.id]))
    redo = set(changed)
    return Plan(
        task=task,
        parser=data.parser,
        protocol=named,
        preparation=preparation,
        source=data.source,
        folder=folder,
        identity=identity,
        digest=digest,
        selection=selection,
        total=len(data.samples),
        wanted=tuple(s.id for s in wanted),
        missing=tuple(s.id for s in wanted if s.id not in entries or s.id in redo),
        changed=changed,
        targets=data.targets,
        official=data.short_of,
        model=checkpoint.name,
        early=_stopped_early(folder, data, wanted),
    )


def _stopped_early(folder: RunFolder, data: Dataset, wanted: Sequence[Sample]) -> bool:
    """Whether these samples are those at which a sequential test stopped the run."""
    run = folder.read_run()
    if run is None or not run.get("early"):
        return False
    return {s.id for s in choose(data.samples, Selection.of_run(run))} == {s.id for s in wanted}


def _widest(
    folder: RunFolder, data: Dataset, selection: Selection, entries: Mapping[str, Entry]
) -> Selection:
    """A run that is complete for more than is asked now stays what it is: nothing is made smaller."""
    run = folder.read_run()
    if run is None:
        return selection
    before = Selection.of_run(run)
    earlier = {s.id for s in choose(data.samples, before)}
    now = {s.id for s in choose(data.samples, selection)}
    return before if now < earlier and earlier <= entries.keys() else selection


# --- images --------------------------------------------------------------------------------------


def _refuse_missing_images(task: Task, samples: Sequence[Sample]) -> None:
    """Raises DataError when image files are not there: how many, and the first of them."""
    paths = dict.fromkeys(image.path for sample in samples for image in sample.images)
    absent = [p for p in paths if not os.path.exists(p)]
    if absent:
        more = f" (and {len(absent) - 1:,} more of {len(paths):,})" if len(absent) > 1 else ""
        raise DataError(
            f"{task.name}: image {absent[0]} is missing{more}; "
            f"`evalkit data {task.name}` says where to get it, --on-bad-image skip leaves them out"
        )


def stamps(images: Iterable[Any]) -> tuple[ImageStamp, ...]:
    """(bytes, mtime) of the files that hold the images; () when one cannot be looked at."""
    try:
        found = [os.stat(image.path) for image in images]
    except OSError:
        return ()
    return tuple((s.st_size, s.st_mtime_ns) for s in found)


def _same_images(sample: Sample, entry: Entry) -> bool:
    """Whether the images are those that the prediction was made from: by stamp, else by content."""
    now = stamps(sample.images)
    if not now or now == entry.stamps or not entry.prediction.image_digests:
        return True
    found = tuple(hashlib.sha256(sources.read_bytes(image)).hexdigest() for image in sample.images)
    return found == entry.prediction.image_digests
