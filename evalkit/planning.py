"""What a run will do, before anything heavy is imported: samples, identity, what is done already.

Knows tasks, formats and results; never a model (a `Checkpoint` answers for it).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evalkit import lookup, masks, sources, tasks
from evalkit.errors import DataError, UserError, nearest
from evalkit.results import Entry, ImageStamp, RunFolder
from evalkit.types import Checkpoint, Format, Preparation, Request, Sample, Source, Task


@dataclass(frozen=True)
class Asked:
    """Which samples of a task are wanted. Coverage, not identity: limits nest and parts merge."""

    limit: int | None = None  # clusters (images), the first of a seeded permutation
    seed: int = 0
    ids: tuple[str, ...] | None = None

    def describe(self) -> str:
        if self.ids is not None:
            return f"{len(self.ids)} ids"
        return "all" if self.limit is None else f"limit {self.limit}"


@dataclass(frozen=True)
class Dataset:
    """A task's samples as found on disk, with the digests that name them."""

    task: Task
    source: Source
    samples: tuple[Sample, ...]
    prompts: str  # digest of all prompts
    targets: str  # digest of all targets

    @property
    def short_of(self) -> int | None:
        """The official count when the disk holds another number of samples, else None.

        As many as the papers' own copy has are as right: they are compared with the published number.
        """
        official, published = self.task.data.count, self.task.data.published_count
        return official if official is not None and len(self.samples) not in (official, published) else None


@dataclass(frozen=True)
class Plan:
    """One run to be: a task, a checkpoint, and one way of running it."""

    task: Task
    protocol: str
    preparation: Preparation
    source: Source
    folder: RunFolder
    identity: Mapping[str, Any]
    digest: str
    asked: Asked
    total: int
    wanted: tuple[str, ...]
    missing: tuple[str, ...]  # wanted and not predicted yet
    changed: tuple[str, ...] = ()  # predicted, but the image on disk has changed since
    targets: str = ""  # digest of all targets of the dataset
    official: int | None = None  # the official count, where the disk holds another number
    model: str = ""
    early: bool = False  # stopped by a sequential test: what is there was chosen by what it showed


# --- data ----------------------------------------------------------------------------------------


class Shelf:
    """Reads datasets and keeps the last one only: a suite of a million samples stays small in memory."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(roots)
        self._last: Dataset | None = None

    def get(self, task: Task) -> Dataset:
        if self._last is None or self._last.task != task:
            self._last = dataset(task, self.roots)
        return self._last


def dataset(task: Task, roots: Sequence[Path]) -> Dataset:
    """Finds and reads a task's samples. Raises DataError for what is missing, damaged or doubled."""
    source = sources.locate(task, roots)
    masks.look_in(source.root, *roots)
    parser = lookup.make("parsers", task.parser)
    if parser.kind == "masks":
        masks.resolve(parser.decoder)  # said now, not after hours of predicting
    samples = tuple(_read(task, source))
    if not samples:
        raise DataError(f"{task.path}: data: split: '{task.data.split}' of {source.root} holds no samples")
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise DataError(
                f"{task.name}: sample id {sample.id} is there twice in {source.root}; ids are unique"
            )
        seen.add(sample.id)
    prompts = (
        (s.id, f"{tasks.prompt(task, s.fields)}\0{len(s.images)}{_marks(s)}{_offered(task, s)}")
        for s in samples
    )
    targets = ((s.id, json.dumps(s.target, sort_keys=True, default=str)) for s in samples)
    return Dataset(task, source, samples, _digest(prompts), _digest(targets))


def _read(task: Task, source: Source) -> Iterator[Sample]:
    """The samples by the source's own format, or the task's; only those that its file `only` lists."""
    fmt: Format = lookup.make("formats", source.entry.get("format", task.data.format))
    found = fmt.samples(source, task.data.split)
    if "only" not in source.entry:
        return found
    path = source.path("only")
    try:
        wanted = set(path.read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); it must list one sample id a line") from None
    return (sample for sample in found if sample.id in wanted)


def _marks(sample: Sample) -> str:
    """What is done to the images before all else, '' where nothing; a font counts by its content."""
    if not any(image.marks or image.turn for image in sample.images):
        return ""
    done = [[image.turn, *(_named(asdict(m)) for m in image.marks)] for image in sample.images]
    return json.dumps(done, sort_keys=True)


def _offered(task: Task, sample: Sample) -> str:
    """The choices where they are scored by likelihood, '' where text is generated."""
    found = tasks.choices(task, sample)
    return "\0" + json.dumps(found) if found else ""


def _named(mark: dict[str, Any]) -> dict[str, Any]:
    return {**mark, "font": sources.file_digest(Path(mark["font"])) if mark["font"] else ""}


def _digest(pairs: Iterable[tuple[str, str]]) -> str:
    """sha256 over (id, content) pairs, whatever their order."""
    each = sorted(hashlib.sha256(f"{name}\0{content}".encode()).digest() for name, content in pairs)
    return hashlib.sha256(b"".join(each)).hexdigest()


def choose(samples: Sequence[Sample], asked: Asked) -> list[Sample]:
    """The wanted samples in file order.

    `limit` N keeps the first N clusters of a seeded permutation, which hangs on sample ids alone:
    not on paths, file order or N, so limits nest.
    """
    if asked.ids is not None:
        known = {s.id for s in samples}
        for name in asked.ids:
            if name not in known:
                raise UserError(
                    f"--ids: no sample '{name}'{nearest(name, known) if len(known) < 5000 else ''}"
                )
        wanted = set(asked.ids)
        return [s for s in samples if s.id in wanted]
    if asked.limit is None:
        return list(samples)
    first: dict[str, str] = {}
    for sample in samples:
        cluster = sample.cluster or sample.id
        first[cluster] = min(first.get(cluster, sample.id), sample.id)
    order = sorted(first, key=lambda c: hashlib.sha256(f"{asked.seed}\0{first[c]}".encode()).digest())
    kept = set(order[: asked.limit])
    return [s for s in samples if (s.cluster or s.id) in kept]


def requests(plan: Plan, samples: Sequence[Sample]) -> list[Request]:
    """What the model is asked: the prompt filled in, the image and how to prepare it, the choices if any."""
    decode = plan.task.decode
    if plan.protocol == "hf":
        decode = replace(decode, text_length=None)
    return [
        Request(
            s.id,
            s.images,
            tasks.prompt(plan.task, s.fields),
            plan.preparation,
            decode,
            tasks.choices(plan.task, s),
        )
        for s in samples
    ]


# --- plans ---------------------------------------------------------------------------------------


def plan(
    data: Dataset,
    checkpoint: Checkpoint,
    output: Path,
    asked: Asked,
    protocol: str | None = None,
    missing_images: str = "stop",
) -> Plan:
    """What is to be done for one task and one checkpoint, given what the output folder holds.

    Image files that are not there are an error now, or left for later with `missing_images="skip"`.
    """
    task = data.task
    named = protocol or checkpoint.protocol or task.protocol
    preparation = tasks.preparation(task, checkpoint.resolution, named)
    identity = {
        "task": tasks.text_identity(task),
        "prompts": data.prompts,
        "preparation": asdict(preparation),
        "protocol": named,
        "model": dict(checkpoint.identity(named)),
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    folder = RunFolder(output / f"{task.name}.{checkpoint.name}.{digest[:8]}")
    entries = folder.entries()
    asked = _widest(folder, data, asked, entries)
    wanted = choose(data.samples, asked)
    if missing_images == "stop":
        _refuse_missing_images(task, [s for s in wanted if s.id not in entries])
    changed = tuple(s.id for s in wanted if s.id in entries and not _same_images(s, entries[s.id]))
    redo = set(changed)
    return Plan(
        task=task,
        protocol=named,
        preparation=preparation,
        source=data.source,
        folder=folder,
        identity=identity,
        digest=digest,
        asked=asked,
        total=len(data.samples),
        wanted=tuple(s.id for s in wanted),
        missing=tuple(s.id for s in wanted if s.id not in entries or s.id in redo),
        changed=changed,
        targets=data.targets,
        official=data.short_of,
        model=checkpoint.name,
        early=_stopped_early(folder, data, wanted),
    )


def coverage(plan: Plan, have: int) -> str:
    """`all` of the official samples (or of as many as the papers had), `limited` on purpose, `early` where a
    sequential test stopped it, or `incomplete`: some wanted are missing."""
    if have < len(plan.wanted) or plan.official is not None:
        return "incomplete"
    return "early" if plan.early else "all" if len(plan.wanted) == plan.total else "limited"


def _stopped_early(folder: RunFolder, data: Dataset, wanted: Sequence[Sample]) -> bool:
    """Whether these samples are those at which a sequential test stopped the run."""
    run = folder.read_run()
    if run is None or not run.get("early"):
        return False
    return {s.id for s in choose(data.samples, _asked_before(run))} == {s.id for s in wanted}


def _asked_before(run: Mapping[str, Any]) -> Asked:
    content = run["asked"]
    return Asked(content["limit"], content["seed"], tuple(content["ids"]) if content["ids"] else None)


def _widest(folder: RunFolder, data: Dataset, asked: Asked, entries: Mapping[str, Entry]) -> Asked:
    """A run that is complete for more than is asked now stays what it is: nothing is made smaller."""
    run = folder.read_run()
    if run is None:
        return asked
    before = _asked_before(run)
    earlier = {s.id for s in choose(data.samples, before)}
    now = {s.id for s in choose(data.samples, asked)}
    return before if now < earlier and earlier <= entries.keys() else asked


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
