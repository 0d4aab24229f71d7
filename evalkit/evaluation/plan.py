"""What a run will do, before anything heavy is imported: samples, identity, what is done already.

Knows tasks, formats and results; never a model (a `Checkpoint` answers for it).
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import uuid
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evalkit import conventions, reading
from evalkit.data import sources
from evalkit.data.packed import Samples
from evalkit.data.sequences import Requests
from evalkit.errors import Damaged, DataError, ResultsError
from evalkit.evaluation.stamps import Shown
from evalkit.runs.journal_lines import Entry
from evalkit.runs.store import RunFolder, State
from evalkit.tasks import calls, loader
from evalkit.tasks.absent import absent
from evalkit.tasks.dataset import Dataset, DatasetCache, Selection
from evalkit.types import Checkpoint, Parser, Preparation, Request, Source, Task


@dataclass(frozen=True, kw_only=True)
class ToScore:
    """A run whose answers are to be scored: what was asked, and of which part of the official samples."""

    task: Task
    parser: Parser
    folder: RunFolder
    wanted: Sequence[str]  # ids
    total: int  # samples of the dataset
    data: str  # the dataset's digest when it was planned
    targets: str  # digest of all targets of the dataset
    official: int | None = None  # the official count, where the disk holds another number
    early: bool = False  # stopped by a sequential test: what is there was chosen by what it showed
    unscored: int = 0  # how many of `wanted` have no target

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
    asked: Selection  # what was asked for
    selection: Selection  # what is done, which may be more
    missing: Sequence[str]  # wanted and not predicted yet
    changed: tuple[str, ...] = ()  # predicted, but from another image than is there now
    aside: tuple[str, ...] = ()  # sentences on what lies in the folder and is not this run's
    lost: str = ""  # why run.json is to be written anew for answers that are there
    state: State = ()  # of the folder's files when it was looked at
    remarks: tuple[str, ...] = ()  # what is odd about the data and was left out or kept
    doubts: tuple[str, ...] | None = None  # what makes its number doubtful; None: not looked for
    widened: int = 0  # how many samples were asked for, where the run has more of them already


def requests(plan: Plan, samples: Samples) -> Sequence[Request]:
    """What the model is asked: the prompt filled in, the image and how to prepare it, the choices if any; of
    a sample with several calls one request each. Each is made when it is asked for."""
    decode, task = plan.task.decode, plan.task
    if plan.protocol == "hf":
        decode = replace(decode, text_length=None)

    def request(at: int) -> Request:
        s = samples[at]
        prompt, choices = loader.prompt(task, s.fields), loader.choices(task, s)
        return Request(s.id, s.images, prompt, plan.preparation, decode, choices)

    if calls.several(task):
        return [each for at in range(len(samples)) for each in calls.each(request(at))]
    return Requests(request, samples.ids)


def again(run: ToScore, datasets: DatasetCache) -> Dataset:
    """The run's dataset as it was planned, read again where it is not kept. Raises DataError if it is another
    one now: answers to old and new prompts, or scores of old and new targets, are never mixed."""
    data = datasets.get(run.task)
    if data.digest != run.data:
        raise DataError(
            f"{run.task.name}: its dataset changed after the run was planned (below {data.source.root}); "
            "run the same command again, it plans anew"
        )
    return data


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
    usual = loader.preparation(task, checkpoint.resolution, named)
    preparation = conventions.preparation(usual, checkpoint.conventions)
    identity = {
        "task": loader.text_identity(task),
        "prompts": data.prompts,
        "preparation": asdict(preparation),
        "protocol": named,
        "model": dict(checkpoint.identity(named)),
    }
    identity, digest, folder = _named(output, task, checkpoint, identity)
    standing, missing = _standing(folder, digest, data, selection, "code" in identity["model"])
    widened = standing["selection"] != selection
    if missing_images == "stop":
        _refuse_missing_images(data, missing)
    chosen = data.chosen(standing["selection"])
    return Plan(
        task=task,
        parser=conventions.parser(data.parser, checkpoint.conventions.bins),
        protocol=named,
        preparation=preparation,
        source=data.source,
        folder=folder,
        identity=identity,
        digest=digest,
        asked=selection,
        total=len(data.samples),
        widened=len(data.chosen(selection)) if widened else 0,
        data=data.digest,
        targets=data.targets,
        official=data.short_of,
        model=checkpoint.name,
        unscored=sum(not there for there in chosen.has_target) if task.metrics else 0,
        **standing,
    )


def fresh(plan: Plan, datasets: DatasetCache) -> Plan:
    """The plan as it is now: another process may have answered some of it since it was made."""
    if plan.folder.state() == plan.state:
        return plan
    own = "code" in plan.identity["model"]
    standing, _ = _standing(plan.folder, plan.digest, again(plan, datasets), plan.asked, own)
    return replace(plan, **standing)


def recorded(folder: RunFolder, digest: str) -> tuple[dict[str, Any] | None, str]:
    """run.json of the run with this digest, and what is wrong with it where it is damaged: it counts as none.

    Raises ResultsError when the folder is another run's.
    """
    try:
        run = folder.read_run()
    except Damaged as error:
        return None, str(error)
    if run is not None and run["digest"] != digest:
        raise ResultsError(
            f"{folder.path}: holds another run, {run['task']}.{run['model']}.{run['digest'][:8]}; rename it "
            "back to that, or use another --output-path"
        )
    return run, ""


def _standing(
    folder: RunFolder, digest: str, data: Dataset, asked: Selection, own_code: bool
) -> tuple[dict[str, Any], Samples]:
    """What of a plan hangs on what its folder holds, and the samples that are missing.

    Without run.json it is not known which files a model of the user's `own_code` had read, so it is asked
    again.
    """
    state = folder.state()  # looked at first: what changes while it is read shows later
    run, damage = recorded(folder, digest)
    answers = folder.answers(digest, run)
    entries = answers.entries
    selection = _widest(run, data, asked, entries)
    wanted = data.chosen(selection)
    missing, changed = _missing(wanted, entries, Shown(data.source.root), own_code and run is None)
    gone = f"{folder.path / 'run.json'}: is gone" if run is None and entries else ""
    standing = {
        "selection": selection,
        "wanted": wanted.ids,
        "missing": missing.ids,
        "changed": changed,
        "early": _stopped_early(run, data, wanted),
        "aside": answers.aside,
        "lost": damage.partition("; ")[0] or gone,
        "state": state,
    }
    return standing, missing


def _missing(
    wanted: Samples, entries: Mapping[str, Entry], shown: Shown, unsure: bool
) -> tuple[Samples, tuple[str, ...]]:
    """The samples without an answer, or whose answer is of another image (all where that is `unsure`), and
    the ids of the latter."""
    if not entries:
        return wanted, ()
    places, changed = array("I"), list[str]()
    for at, name in enumerate(wanted.ids):
        if (entry := entries.get(name)) is None:
            places.append(at)
        elif unsure or not shown.same(wanted[at], entry):
            places.append(at)
            changed.append(name)
    return wanted.take(places), tuple(changed)


def _named(
    output: Path, task: Task, checkpoint: Checkpoint, identity: dict[str, Any]
) -> tuple[dict[str, Any], str, RunFolder]:
    """The identity with its digest, and the folder of that name.

    A model of the user's own may read files that only a run shows. If those of the run that is there have
    changed since, this one is another: their digests as they are now belong to its identity.
    """
    while True:
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        folder = RunFolder(output / f"{task.name}.{checkpoint.name}.{digest[:8]}")
        before = dict((recorded(folder, digest)[0] or {}).get("used", {}))
        if reading.unchanged(before):
            return identity, digest, folder
        now = reading.now(before)
        known = {**identity.get("used", {}), **now}
        if "" in now.values() or known == identity.get("used"):  # never certainly the same again
            known[""] = uuid.uuid4().hex
        identity = {**identity, "used": known}


def _stopped_early(run: Mapping[str, Any] | None, data: Dataset, wanted: Samples) -> bool:
    """Whether these samples are those at which a sequential test stopped the run."""
    if run is None or not run.get("early"):
        return False
    return set(data.chosen(Selection.of_run(run)).ids) == set(wanted.ids)


def _widest(
    run: Mapping[str, Any] | None, data: Dataset, selection: Selection, entries: Mapping[str, Entry]
) -> Selection:
    """A run that is complete for more than is asked now stays what it is: nothing is made smaller."""
    if run is None:
        return selection
    before = Selection.of_run(run)
    if before == selection:
        return selection
    earlier = set(data.chosen(before).ids)
    now = set(data.chosen(selection).ids)
    return before if now < earlier and earlier <= entries.keys() else selection


# --- images --------------------------------------------------------------------------------------


def _refuse_missing_images(data: Dataset, samples: Samples) -> None:
    """Raises DataError when image files are not there: how many, and the first of them."""
    found = absent(samples)
    if found.paths:
        raise DataError(
            f"{data.task.name}: {found}; `{_looked_for(data.task, data.source)}` says where they are looked "
            "for, --on-bad-image skip leaves them out"
        )


def _looked_for(task: Task, source: Source) -> str:
    """The command that says where a task's data is looked for; it names the root if nothing else does, and
    the data itself where the task has no file yet."""
    known = task.name if task.name in loader.names() else task.path
    if known == task.path and not os.path.exists(known):
        file = source.root / str(source.entry.get("path", ""))
        return f"evalkit data {_from_here(file if file.is_file() else source.root)} --check"
    usual = "hub" in source.entry or source.root == Path() or source.root in sources.roots()
    return " ".join(
        ["evalkit data", shlex.quote(known), *([] if usual else ["--data-root", _from_here(source.root)])]
    )


def _from_here(path: Path) -> str:
    """A path as a shell takes it, relative where it is below the current folder."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
