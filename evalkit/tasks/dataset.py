"""A task's samples: found on disk, read, digested, and selected."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evalkit import collecting, demo, door, own_code, registry
from evalkit.data import sources
from evalkit.data.readers import read_text
from evalkit.errors import DataError, UserError, nearest
from evalkit.files import file_digest
from evalkit.tasks import contract, loader
from evalkit.types import Format, ImageRef, Parser, Sample, Source, Task


@dataclass(frozen=True)
class Selection:
    """Which samples of a task are wanted. Coverage, not identity: limits nest and parts merge."""

    limit: int | None = None  # clusters (images), the first of a seeded permutation
    seed: int = 0
    ids: tuple[str, ...] | None = None

    @classmethod
    def of_run(cls, run: Mapping[str, Any]) -> Selection:
        """The selection that run.json records."""
        recorded = run["asked"]
        return cls(recorded["limit"], recorded["seed"], tuple(recorded["ids"]) if recorded["ids"] else None)


@dataclass(frozen=True)
class Dataset:
    """A task's samples as found on disk, with digests of what decides texts and scores."""

    task: Task
    source: Source
    samples: tuple[Sample, ...]
    prompts: str  # digest of all prompts
    targets: str  # digest of all targets
    facts: str  # digest of what else decides a score: sizes of images, groups, clusters
    parser: Parser  # the task's, with its files found
    unscored: str = ""  # where some samples have no target: how many, and what they have instead
    placeholders: str = ""  # where prompts have `<image>`: how many, and how that is read
    remarks: tuple[str, ...] = ()  # what its format found odd and left out or kept, a sentence each

    @property
    def digest(self) -> str:
        """sha256 of all that decides a text or a score, but for the images' content."""
        return hashlib.sha256("".join((self.prompts, self.targets, self.facts)).encode()).hexdigest()

    @property
    def short_of(self) -> int | None:
        """The official count if the disk holds another number of samples, else None.

        The number in the papers' own copy is accepted too: it is compared with the published score.
        """
        official, published = self.task.data.count, self.task.data.published_count
        return official if official is not None and len(self.samples) not in (official, published) else None

    def limit(self, wanted: float | None) -> int | None:
        """`--limit` as a number of images: a share below 1 is of this dataset's, at least one."""
        if wanted is None or wanted >= 1:
            return None if wanted is None else int(wanted)
        return math.ceil(wanted * len({s.cluster or s.id for s in self.samples}))


# --- data ----------------------------------------------------------------------------------------


def roots(given: Sequence[Path], wanted: Sequence[Task]) -> list[Path]:
    """The data roots; the generated benchmark is written into the cache the first time it is needed."""
    found = sources.roots(given)
    named = (place for task in wanted for entry in task.data.sources for place in entry.values())
    if any(str(place).startswith(f"{demo.SCENES}/") for place in named):
        from evalkit.demo.benchmark import benchmark

        found.append(benchmark())
    return found


class DatasetCache:
    """Reads datasets and keeps only the last one: a suite of a million samples then needs little memory. In a
    list `kept` it keeps all, for whoever comes again."""

    def __init__(self, roots: Sequence[Path], kept: list[Dataset] | None = None) -> None:
        self.roots = tuple(roots)
        self._all, self._kept = kept is not None, [] if kept is None else kept

    def get(self, task: Task) -> Dataset:
        found = next((data for data in self._kept if data.task == task), None)
        if found is None:
            found = dataset(task, self.roots)
            if not self._all:
                self._kept.clear()
            self._kept.append(found)
        return found


def dataset(task: Task, roots: Sequence[Path]) -> Dataset:
    """Finds and reads a task's samples. Raises DataError for missing or damaged files and repeated ids, and
    UserError where the task's metrics cannot score the targets."""
    with collecting.paused():
        return _dataset(task, roots)


def each(task: Task, roots: Sequence[Path], take: Callable[[Sample], None]) -> None:
    """Gives `take` a task's samples one after the other, as its format reads them: for who looks at them and
    scores nothing. Raises as `dataset` does, but for what that checks of all samples together."""
    source = replace(sources.locate(task, roots), used=contract.used(task))
    with door.within(sources.places(source, roots)), _reading(task, source):
        for sample in _read(task, source):
            take(sample)


def _dataset(task: Task, roots: Sequence[Path]) -> Dataset:
    source = replace(sources.locate(task, roots), used=contract.used(task))
    fmt, allowed = _format(task, source), sources.places(source, roots)
    with door.within(allowed), _reading(task, source):
        samples = tuple(map(_Sharing(allowed).sample, _read(task, source)))
    if not samples:
        raise DataError(f"{task.path}: data: split: '{task.data.split}' of {source.root} holds no samples")
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise DataError(
                f"{task.name}: sample id {sample.id} is there twice in {source.root}; ids must be unique"
            )
        seen.add(sample.id)
    prompts = (
        (s.id, f"{loader.prompt(task, s.fields)}\0{len(s.images)}{_marks(s)}{_offered(task, s)}")
        for s in samples
    )
    targets = ((s.id, json.dumps(s.target, sort_keys=True, default=str)) for s in samples)
    contract.check_samples(task, fmt, samples)
    unscored = _unscored(task, source, fmt, samples)
    facts = ((s.id, json.dumps([s.size, s.group, s.cluster])) for s in samples)
    parser: Parser = registry.make("parsers", task.parser).within((source.root, *roots))
    return Dataset(
        task, source, samples, _digest(prompts), _digest(targets), _digest(facts), parser, unscored,
        _placeholders(task, samples), source.remarks.said(),
    )  # fmt: skip


def _placeholders(task: Task, samples: Sequence[Sample]) -> str:
    """How many prompts have `<image>` at their beginning, and how many elsewhere."""
    before, inside = 0, list[str]()
    for sample in samples:
        prompt = loader.written(task, sample.fields)
        if loader.IMAGE in prompt:
            before += prompt.startswith(loader.IMAGE)
            inside += [sample.id] if loader.IMAGE in loader.without_image(prompt) else []
    of, said = f"of {len(samples):,} prompts", []
    if before:
        said.append(f"{before:,} {of} begin with {loader.IMAGE}, which stands for the image and is left out")
    if inside:
        first = f"{len(inside):,} {of} have {loader.IMAGE} inside, first {inside[0]}'s"
        said.append(f"{first}; it is read as text, since images come first")
    return "; ".join(said)


def _unscored(task: Task, source: Source, fmt: Format, samples: Sequence[Sample]) -> str:
    """How many samples cannot be scored because they have no target, and why; '' where all have one.

    Raises UserError where none has.
    """
    lacking = [s for s in samples if not has_target(s)] if task.metrics else []
    if not lacking:
        return ""
    why = fmt.without_target(source, task.data.split)
    why = f": {why}" if why else ""
    if len(lacking) == len(samples):
        raise UserError(
            f"{task.path}: metrics: no sample has a target, so nothing can be scored{why}; to run it "
            "without a score, give the task `not_scored: why` in place of metrics"
        )
    are = "has no target and is" if len(lacking) == 1 else "have no target and are"
    first = lacking[0].id
    return f"{len(lacking):,} of {len(samples):,} samples {are} not scored, the first is {first}{why}"


def has_target(sample: Sample) -> bool:
    """Whether a sample can be scored."""
    return sample.target is not None and sample.target != ()


def _format(task: Task, source: Source) -> Format:
    """The source's own format, or else the task's."""
    made: Format = registry.make("formats", source.entry.get("format", task.data.format))
    return made


def _read(task: Task, source: Source) -> Iterator[Sample]:
    """The samples, read by the source's format; only those that its file `only` lists."""
    found = _format(task, source).samples(source, task.data.split)
    if "only" not in source.entry:
        return found
    path = source.path("only")
    wanted = set(read_text(path, "it must list one sample id per line").split())
    return (sample for sample in found if sample.id in wanted)


@contextlib.contextmanager
def _reading(task: Task, source: Source) -> Iterator[None]:
    """Says which format failed where its code raised what nobody foresaw."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        spelling = source.entry.get("format", task.data.format)
        raised = f"{own_code.said(error)[:300]} ({own_code.where(error)})"
        raise DataError(f"{task.path}: data: format: {spelling} raised {raised}") from error


class _Sharing:
    """Samples whose images are opened in these places only, also later and by other threads and processes.
    What samples have in common (answers, images, names of fields) is one object: of a million that is half
    of the memory."""

    def __init__(self, allowed: door.Places) -> None:
        self._allowed = allowed
        self._texts: dict[str, str] = {}
        self._images: tuple[ImageRef, ...] = ()

    def sample(self, given: Sample) -> Sample:
        share = self._texts.setdefault
        return Sample(
            given.id,
            self._bounded(given.images),
            {share(name, name): text for name, text in given.fields.items()},
            self._shared(given.target),
            given.size,
            share(given.group, given.group),
            share(given.cluster, given.cluster),
            given.choices,
        )

    def _bounded(self, images: tuple[ImageRef, ...]) -> tuple[ImageRef, ...]:
        """The images; those of the sample before where they are the same, as questions of an image are."""
        if any(image.within for image in images):
            return tuple(i if i.within else replace(i, within=self._allowed) for i in images)
        if images != self._images:
            self._images = tuple(ImageRef(i.path, i.member, i.marks, i.turn, self._allowed) for i in images)
        return self._images

    def _shared(self, target: Any) -> Any:
        """A target of texts, of shared ones."""
        share = self._texts.setdefault
        if type(target) is tuple and all(type(text) is str for text in target):
            return tuple([share(text, text) for text in target])
        return target


def _marks(sample: Sample) -> str:
    """What is drawn on the images and how they are turned, '' for nothing; a font counts by its content."""
    if not any(image.marks or image.turn for image in sample.images):
        return ""
    done = [[image.turn, *(_named(asdict(m)) for m in image.marks)] for image in sample.images]
    return json.dumps(done, sort_keys=True)


def _offered(task: Task, sample: Sample) -> str:
    """The choices if they are scored by likelihood, '' if text is generated."""
    found = loader.choices(task, sample)
    return "\0" + json.dumps(found) if found else ""


def _named(mark: dict[str, Any]) -> dict[str, Any]:
    return {**mark, "font": file_digest(Path(mark["font"])) if mark["font"] else ""}


def _digest(pairs: Iterable[tuple[str, str]]) -> str:
    """sha256 of (id, content) pairs, independent of their order."""
    each = sorted(hashlib.sha256(f"{name}\0{content}".encode()).digest() for name, content in pairs)
    return hashlib.sha256(b"".join(each)).hexdigest()


def choose(samples: Sequence[Sample], selection: Selection) -> list[Sample]:
    """The wanted samples in file order.

    `limit` N keeps the first N clusters of a seeded permutation, which depends only on sample ids,
    not on paths, file order or N, so limits nest.
    """
    if selection.ids is not None:
        known = {s.id for s in samples}
        for name in selection.ids:
            if name not in known:
                raise UserError(
                    f"--ids: no sample '{name}'{nearest(name, known) if len(known) < 5000 else ''}"
                )
        wanted = set(selection.ids)
        return [s for s in samples if s.id in wanted]
    if selection.limit is None:
        return list(samples)
    first: dict[str, str] = {}
    for sample in samples:
        cluster = sample.cluster or sample.id
        first[cluster] = min(first.get(cluster, sample.id), sample.id)
    order = sorted(first, key=lambda c: hashlib.sha256(f"{selection.seed}\0{first[c]}".encode()).digest())
    kept = set(order[: selection.limit])
    return [s for s in samples if (s.cluster or s.id) in kept]
