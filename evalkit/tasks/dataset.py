"""A task's samples: found on disk, read, digested, and selected."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evalkit import collecting, demo, door, own_code, registry
from evalkit.data import packed, sources
from evalkit.data.faults import Faulty
from evalkit.data.packed import Samples
from evalkit.data.readers import read_text
from evalkit.errors import DataError, UserError, nearest
from evalkit.files import file_digest
from evalkit.tasks import calls, contract, loader
from evalkit.tasks.absent import absent
from evalkit.tasks.layouts.reading import LICENSE
from evalkit.tasks.layouts.recognise import doubts_of
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
    samples: Samples
    prompts: str  # digest of all prompts
    targets: str  # digest of all targets
    facts: str  # digest of what else decides a score: sizes of images, groups, clusters
    parser: Parser  # the task's, with its files found
    unscored: str = ""  # where some samples have no target: how many, and what they have instead
    placeholders: str = ""  # where prompts have `<image>`: how many, and how that is read
    remarks: tuple[str, ...] = ()  # what its format found odd and left out or kept, a sentence each
    _looked: list[tuple[str, ...] | None] = field(default_factory=list, init=False, repr=False, compare=False)
    _chosen: dict[Selection, Samples] = field(default_factory=dict, init=False, repr=False, compare=False)

    def chosen(self, selection: Selection) -> Samples:
        """As `choose`; the last selection is remembered: plans ask several times, and a training at each
        evaluation."""
        if (known := self._chosen.get(selection)) is not None:
            return known
        self._chosen.clear()
        found = self._chosen[selection] = choose(self.samples, selection)
        return found

    @property
    def told(self) -> list[tuple[str, str]]:
        """What is odd, as (`warning` or `note`, sentence): a note where nothing is left out or probably
        wrong."""
        notes = self.source.remarks.notes()
        told = [("warning", self.unscored), ("note", self.placeholders)]
        told += [("note" if said in notes else "warning", said) for said in self.remarks]
        return [(word, said) for word, said in told if said]

    @property
    def doubts(self) -> tuple[str, ...] | None:
        """What makes numbers doubtful, looked for once, as `--data` does; None where it would not read these
        files so, and of tasks that it did not make: below their roots may lie every dataset there is."""
        if not self._looked:
            own = self.task.license == LICENSE
            self._looked.append(doubts_of(self.task.data, self.source.root) if own else None)
        return self._looked[0]

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
        named = zip(self.samples.clusters, self.samples.ids, strict=True)
        return math.ceil(wanted * len({cluster or name for cluster, name in named}))


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
    packer, digests, checks = packed.Packer(allowed), _Digests(task), contract.Checks(task, fmt)
    with door.within(allowed), _reading(task, source):
        try:
            for sample in _read(task, source):
                packer.add(sample)
                digests.add(sample)
                checks.add(sample)
        except Faulty as error:  # what else is wrong is said with it
            known = error.samples or packer.samples()
            lost = absent(known)
            raise Faulty([*error.said, *([str(lost)] if lost.paths else [])], known) from None
    samples = packer.samples()
    if not samples:
        raise DataError(f"{task.path}: data: split: '{task.data.split}' of {source.root} holds no samples")
    if again := samples.by_id().repeated:
        raise DataError(f"{task.name}: sample id {again} is there twice in {source.root}; ids must be unique")
    checks.done(samples)
    unscored = _unscored(task, source, fmt, samples)
    parser: Parser = registry.make("parsers", task.parser).within((source.root, *roots))
    return Dataset(
        task,
        source,
        samples,
        *digests.done(),
        parser,
        unscored,
        digests.placeholders(),
        source.remarks.said(),
    )


class _Digests:
    """The digests of prompts, targets and facts, made while samples are read; what cannot be digested is
    raised in the end, since what is wrong with the files is said first."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._parts = tuple((bytearray(), text) for text in (self._prompt, _target_text, _fact_text))
        self._wrong: dict[str, Exception] = {}
        self._n = self._before = self._inside = 0
        self._first = ""

    def add(self, sample: Sample) -> None:
        self._n += 1
        for found, text in self._parts:
            try:
                found += hashlib.sha256(f"{sample.id}\0{text(sample)}".encode()).digest()
            except Exception as error:
                self._wrong.setdefault(text.__name__, error)

    def _prompt(self, sample: Sample) -> str:
        task = self._task
        written = loader.written(task, sample.fields)
        prompt = loader.without_image(written)
        if loader.IMAGE in written:
            self._before += prompt is not written
            if loader.IMAGE in prompt:
                self._inside += 1
                self._first = self._first or sample.id
        asked = "\n".join(calls.prompts(task, prompt))
        return f"{asked}\0{len(sample.images)}{_marks(sample)}{_offered(task, sample)}"

    def done(self) -> tuple[str, str, str]:
        """The digests of prompts, targets and facts, independent of the samples' order."""
        for _, text in self._parts:
            if text.__name__ in self._wrong:
                raise self._wrong[text.__name__]
        prompts, targets, facts = (_digest(found) for found, _ in self._parts)
        return prompts, targets, facts

    def placeholders(self) -> str:
        """How many prompts have `<image>` at their beginning, and how many elsewhere."""
        of, said = f"of {self._n:,} prompts", []
        if self._before:
            begin = f"{self._before:,} {of} begin with {loader.IMAGE}"
            said.append(f"{begin}, which stands for the image and is left out")
        if self._inside:
            first = f"{self._inside:,} {of} have {loader.IMAGE} inside, first {self._first}'s"
            said.append(f"{first}; it is read as text, since images come first")
        return "; ".join(said)


_escaped = json.encoder.encode_basestring_ascii
_TARGETS = json.JSONEncoder(sort_keys=True, default=str)


def _target_text(sample: Sample) -> str:
    """The target as JSON; of texts, which most targets are, put together at half the cost."""
    target = sample.target
    if type(target) is tuple and set(map(type, target)) == {str}:
        return f"[{', '.join(map(_escaped, target))}]"
    return _TARGETS.encode(target)


def _fact_text(sample: Sample) -> str:
    """Size, group and cluster as JSON."""
    if sample.size is None and type(sample.group) is type(sample.cluster) is str:
        return f"[null, {_escaped(sample.group)}, {_escaped(sample.cluster)}]"
    return json.dumps([sample.size, sample.group, sample.cluster])


def _unscored(task: Task, source: Source, fmt: Format, samples: Samples) -> str:
    """How many samples cannot be scored because they have no target, and why; '' where all have one.

    Raises UserError where none has.
    """
    lacking = [at for at, there in enumerate(samples.has_target) if not there] if task.metrics else []
    if not lacking:
        return ""
    why = fmt.without_target(source, task.data.split)
    why = f": {why}" if why else ""
    gone = sum(not all(map(_is_there, samples.images[at])) for at in lacking)
    if gone == len(samples):
        first = samples.images[0][0].path
        raise DataError(
            f"{task.name}: no image is there, the first is {first[:300]}{sources.missing_image(first)}"
        )
    if len(lacking) == len(samples):
        raise UserError(
            f"{task.path}: metrics: no sample has a target, so nothing can be scored{why}; to run it "
            "without a score, give the task `not_scored: why` in place of metrics"
        )
    what = "image" if gone == len(lacking) else "target"
    why = f"; {gone:,} of these have no image{why}" if 0 < gone < len(lacking) else "" if gone else why
    are = f"has no {what} and is" if len(lacking) == 1 else f"have no {what} and are"
    first = samples.ids[lacking[0]]
    return f"{len(lacking):,} of {len(samples):,} samples {are} not scored, the first is {first}{why}"


def _is_there(image: ImageRef) -> bool:
    return door.is_there(image.path)


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


def _digest(each: bytearray) -> str:
    """sha256 of the samples' digests, 32 bytes each, independent of their order."""
    ordered = np.frombuffer(each, "S32").copy()
    ordered.sort()
    return hashlib.sha256(ordered.tobytes()).hexdigest()


def choose(samples: Sequence[Sample], selection: Selection) -> Samples:
    """The wanted samples in file order.

    `limit` N keeps the first N clusters of a seeded permutation, which depends only on sample ids,
    not on paths, file order or N, so limits nest.
    """
    every = Samples.of(samples)
    if selection.ids is not None:
        known = every.by_id()
        for name in selection.ids:
            if name not in known:
                raise UserError(
                    f"--ids: no sample '{name}'{nearest(name, known, most=5) if len(known) < 5000 else ''}"
                )
        return every.take(sorted(at for name in set(selection.ids) if (at := known.get(name)) is not None))
    if selection.limit is None:
        return every
    first: dict[str, str] = {}
    for name, stated in zip(every.ids, every.clusters, strict=True):
        cluster = stated or name
        first[cluster] = min(first.get(cluster, name), name)
    order = sorted(first, key=lambda c: hashlib.sha256(f"{selection.seed}\0{first[c]}".encode()).digest())
    kept = set(order[: selection.limit])
    clusters = enumerate(zip(every.ids, every.clusters, strict=True))
    return every.take(at for at, (name, stated) in clusters if (stated or name) in kept)
