"""The vocabulary as types: task, sample, request, prediction, answer, metric, score and the rest.

Boxes are always (y0, x0, y1, x1), the order of
PaliGemma's `<loc>` tokens; sizes are always (height, width).
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import numpy.typing as npt

from evalkit.errors import ImageError

CUT = "cut at max_new_tokens"  # the remark on an answer that was not ended by the model
UNREADABLE = "unreadable: "  # how the remark on an unreadable answer begins
SUBMISSION = "submission only"  # how a task's `not_scored` begins where the answers are not public


def why_not_scored(why: str) -> str:
    """A task's `not_scored` as a sentence."""
    return why if why.startswith(SUBMISSION) else f"not scored, because {why}"


Size = tuple[int, int]
"""(height, width) in pixels."""


# --- tasks and samples -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Preparation:
    """How image bytes become the model's square uint8 input. Part of a run's identity."""

    resolution: int
    resize: str = "bilinear"  # bilinear | bicubic (the transformers processor's, always antialiased)
    antialias: bool = False  # bilinear only
    jpeg: str = "fast"  # fast (TensorFlow's default inverse DCT) | precise (Pillow's)
    exif: str = "ignore"  # ignore (as big_vision) | apply (rotate upright first)
    pad: str = ""  # white: to a square first, to the right and below, so that the aspect ratio is kept
    floats: bool = False  # keep what resizing gives (big_vision's video path) instead of cutting to uint8


@dataclass(frozen=True, slots=True)
class Decode:
    """How text is decoded. `text_length` cuts the prompt (BOS and newline count too); None: never.

    `mode` likelihood generates nothing: the answer is the most likely of the given choices, which
    `max_new_tokens` does not cut. A `temperature` above 0 samples from the smallest set of tokens that holds
    `top_p` of the probability, with random numbers that depend only on `seed` and the sample's id. `forbid`
    lists texts that an answer may not contain: the token that would complete one is never chosen, and
    `<eos>` stands for every end token; log-probabilities are those of the model without this rule.
    """

    max_new_tokens: int = 32
    text_length: int | None = 32
    beams: int = 1
    logprobs: bool = False  # keep each new token's log-probability in the prediction
    temperature: float = 0.0  # 0: greedy, or beam search
    top_p: float = 1.0
    seed: int = 0
    mode: str = "generate"  # generate | likelihood
    forbid: tuple[str, ...] = ()

    @property
    def samples(self) -> bool:
        """Whether text is sampled; otherwise `top_p` and `seed` have no effect."""
        return self.temperature > 0


@dataclass(frozen=True, slots=True)
class Data:
    """Where a task's samples come from: a format's spelling, a split, and sources tried in order."""

    format: str
    split: str
    sources: tuple[Mapping[str, Any], ...]
    count: int | None = None  # the official number of samples
    published_count: int | None = None  # of the papers' own copy, where it differs


@dataclass(frozen=True, slots=True)
class Task:
    """One task as data; read from one YAML file (`evalkit/tasks/loader.py`)."""

    name: str
    version: int
    about: str
    license: str
    data: Data
    prompt: str
    image: Mapping[str, Any]
    decode: Decode
    parser: str
    metrics: tuple[str, ...]
    group_mean: tuple[str, ...] | None = None  # score = mean over groups except these; None: over samples
    not_scored: str = ""  # why there are no metrics; the run can be exported
    protocol: str = "paper"
    choices: tuple[str, ...] = ()  # likelihood only; `{choice}` stands for each of the sample's own
    classes_per_call: int | None = None  # at most so many classes in a prompt, in several calls; None: all
    class_order: str = "listed"  # listed | alphabet | reversed | shuffled
    nms_across_calls: float | None = None  # IoU above which boxes of two calls are one; None: all are kept
    prompt_source: str = ""
    homepage: str = ""
    path: str = ""  # the YAML file, for error messages
    digest: str = ""  # sha256 of the task's content as used, overrides included
    overrides: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mark:
    """Something drawn on an image before a model sees it; part of the prompts' digest.

    `outline`: an edge of one pixel, drawn after resizing. `label`: a white box with `text`, drawn at
    the original size. `box` is (y0, x0, y1, x1) in `unit`: fractions of the sides, pixels of the
    original, or pixels of a canvas that is `canvas` high and is scaled to the image's height.
    """

    kind: Literal["outline", "label"]
    box: tuple[float, float, float, float]
    unit: Literal["fractions", "pixels", "canvas"] = "fractions"
    canvas: float = 0.0
    colour: tuple[int, int, int] = (255, 0, 0)
    text: str = ""
    font: str = ""  # a TrueType file; "" is Pillow's own font


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where one image is, without its pixels: a file, or a member of an archive, table or video."""

    path: str
    member: str = ""
    marks: tuple[Mark, ...] = ()
    turn: int = 0  # quarter turns counter-clockwise that make it upright, where the dataset states them
    within: tuple[str, ...] = field(default=(), repr=False, compare=False)  # places that it may not leave

    def __str__(self) -> str:
        return f"{self.path}::{self.member}" if self.member else self.path


class Remarks:
    """What is odd about a dataset and costs only itself: of each kind the first, and how many there are."""

    __slots__ = ("_found", "_usual")

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, int]] = {}
        self._usual = set[str]()

    def add(self, kind: str, text: str, usual: bool = False) -> None:
        """`text`: `file: line: what is odd; what is done`. Only the first of a `kind` is kept. `usual`:
        nothing is left out, and it is seldom a mistake."""
        first, n = self._found.get(kind, (text, 0))
        self._found[kind] = first, n + 1
        if usual:
            self._usual.add(kind)

    def said(self) -> tuple[str, ...]:
        """A sentence for each kind."""
        return tuple(map(self._sentence, self._found))

    def notes(self) -> frozenset[str]:
        """Those of the sentences that say what is usual."""
        return frozenset(map(self._sentence, self._usual))

    def _sentence(self, kind: str) -> str:
        text, n = self._found[kind]
        return text + (f" (the first of {n:,} such)" if n > 1 else "")


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset found on disk: one entry of a task's `sources` with the root it was found under."""

    root: Path
    entry: Mapping[str, Any]
    task: str = ""
    used: frozenset[str] | None = None  # kinds of target that the task's metrics take; None: not known
    remarks: Remarks = field(default_factory=Remarks, compare=False)  # filled by a format while it reads

    def uses(self, *kinds: str) -> bool:
        """Whether a target of one of these kinds may be scored. What is not used is not validated."""
        return self.used is None or not self.used.isdisjoint(kinds)

    def path(self, key: str) -> Path:
        """The file or folder that the entry's `key` names (KeyError when the entry lacks it)."""
        return self.root / str(self.entry[key])


@dataclass(frozen=True, slots=True)
class Sample:
    """One question to the model, with its target.

    `fields` are what a prompt may name; `target` is plain data (strings, numbers, tuples, lists,
    dicts) in the shape that the format documents and the metric reads; `group` is what scores are
    broken down by; samples with the same `cluster` are resampled together (the image's path, until
    the image is read); `choices` are the answers offered, where there are any, spelled like the target.
    """

    id: str
    images: tuple[ImageRef, ...]
    fields: Mapping[str, str]
    target: Any
    size: Size | None = None  # of the original image, where the annotations have it
    group: str = ""
    cluster: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """What a model gets of a sample: no target, so a backend cannot cheat."""

    id: str
    images: tuple[ImageRef, ...]
    prompt: str
    preparation: Preparation
    decode: Decode
    choices: tuple[str, ...] = ()
    whole: str = ""  # of a sample with several calls: all prompts, a line each
    call: int = 0  # its number among the calls of its sample

    @property
    def further(self) -> bool:
        """Whether it is a call after the sample's first; what is recorded of a sample answers that."""
        return self.call > 0

    @property
    def seed(self) -> int:
        """The 64-bit seed of this sample's random numbers, from `decode.seed` and the id: batch, order,
        shard and resume do not change what is sampled."""
        digest = hashlib.sha256(f"{self.decode.seed}\0{self.id}".encode()).digest()
        return int.from_bytes(digest[:8], "big")


TARGETS: Mapping[str, str] = {
    "texts": "accepted answers or references",
    "pair": "answers with the name of a pair",
    "type": "answers with the type of the question",
    "question": "answers with the id of the question",
    "box": "one box",
    "mask": "one mask",
    "objects": "all objects of an image, as boxes",
    "object masks": "all objects of an image, as masks",
    "words": "the words in an image with their outlines",
}
"""The kinds of target: a format says which it `gives`, a metric which it `takes`."""


def target_kinds(target: Any) -> frozenset[str]:
    """Which kinds a target is; none for a sample without target (None, or an empty tuple).

    A tuple holds accepted texts. A mapping is `texts` where it has `answers`, and then also what its keys
    `pair`, `type` and `id` say; `box`, `mask` (`segmentation`), `objects` and `words` by the keys of these
    names; `object masks` where every object has a `segmentation`.
    """
    if isinstance(target, Mapping):
        found = {name for name in ("box", "objects", "words") if name in target}
        if "answers" in target:
            found |= {"texts"} | {name for name in ("pair", "type") if name in target}
            found |= {"question"} if "id" in target else set()
        if "segmentation" in target:
            found.add("mask")
        if "objects" in target and all("segmentation" in each for each in target["objects"]):
            found.add("object masks")
        return frozenset(found)
    return frozenset({"texts"} if target else ())


# --- predictions and answers ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model answered; never edited afterwards.

    `text` keeps special tokens (`<loc..>`, `<seg..>`) and leaves out the end token; `margin` is
    the smallest difference between the best and second best logit along the greedy path, or between
    the log-likelihoods of the best two choices;
    `image_digests` are sha256 of the bytes read, `sizes` the (height, width) they decoded to.
    `logprobs` has one for each of `tokens`; `end_logprob` is that of the end token, which is none of these.
    """

    id: str
    prompt: str
    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] | None = None
    stop: str = ""  # eos | length | "" when made elsewhere
    margin: float | None = None
    image_digests: tuple[str, ...] = ()
    sizes: tuple[Size, ...] = ()
    end_logprob: float | None = None
    calls: tuple[tuple[int, int], ...] = ()  # of several calls: how many letters and tokens each gave


@dataclass(frozen=True, slots=True)
class Confident:
    """An answer with the log-probabilities of its text, for a metric that is `confident`."""

    answer: Any | None
    logprobs: tuple[float, ...] | None  # of every token, the end token's too where known; None: not kept

    @classmethod
    def of(cls, answer: Any | None, prediction: Prediction) -> Confident:
        """An answer as the prediction's log-probabilities make it likely."""
        ends = max(1, len(prediction.calls))  # whose sum is kept
        end = () if prediction.end_logprob is None else (prediction.end_logprob / ends,) * ends
        return cls(answer, None if prediction.logprobs is None else (*prediction.logprobs, *end))

    def probability(self, per: Literal["sequence", "token"] = "sequence") -> float | None:
        """Of the whole text (the product over its tokens), or its geometric mean per token; in [0, 1]."""
        if self.logprobs is None:
            return None
        total = math.fsum(self.logprobs)
        return math.exp(min(total / max(1, len(self.logprobs)) if per == "token" else total, 0.0))


@dataclass(frozen=True, slots=True)
class Box:
    """A box as fractions of the image, with the label that followed it and its scores for ranking.

    `of_pixels` makes one of pixels; these are kept as given, since a quotient loses the last digit, and with
    it boxes whose overlap is a threshold exactly.
    """

    y0: float
    x0: float
    y1: float
    x1: float
    label: str = ""
    score: float = 1.0
    class_score: float | None = None  # mean probability of the label's tokens, where known
    pixels: tuple[float, float, float, float] | None = None  # (x, y, width, height), where it was given so

    @classmethod
    def of_pixels(
        cls, box: Sequence[float], size: Size, label: str = "", score: float = 1.0,
        class_score: float | None = None,
    ) -> Box:  # fmt: skip
        """A box as COCO gives it, (x, y, width, height) in pixels, of an image of `size` (height, width)."""
        x, y, width, height = (float(side) for side in box)
        tall, wide = size
        corners = (y / tall, x / wide, (y + height) / tall, (x + width) / wide)
        return cls(*corners, label, score, class_score, (x, y, width, height))

    @property
    def coordinates(self) -> tuple[float, float, float, float]:
        return (self.y0, self.x0, self.y1, self.x1)


@dataclass(frozen=True, slots=True)
class Mask:
    """A mask at the original image's size, run-length coded as pycocotools does (`counts` ASCII)."""

    size: Size
    counts: str
    box: Box
    label: str = ""


class Parser(ABC):
    """Model text to an answer. One frozen dataclass per file in `parsers/`; its fields are parameters."""

    kind: ClassVar[str]  # text | boxes | masks; must be in the `wants` of the task's metrics

    @abstractmethod
    def read(self, prediction: Prediction, size: Size | None) -> Any | None:
        """The answer, or None when the text is unreadable. Never raises on any text."""

    def answers(self, predictions: Sequence[Prediction], sizes: Sequence[Size | None]) -> list[Any | None]:
        """The answers of many predictions, in order; override it where a batch is cheaper."""
        return [self.read(p, s) for p, s in zip(predictions, sizes, strict=True)]

    def invalid(self, answer: Any | None) -> bool:
        """Whether the answer counts as invalid; a parser may count more than None."""
        return answer is None

    def remark(self, prediction: Prediction, size: Size | None) -> str:
        """What is odd about a text, in a few words that fit many texts (they are counted), or ''; of an
        unreadable one why it is."""
        return ""

    def identity(self) -> str:
        """What decides the answer in addition to the parameters (the mask decoder's digest), or ''."""
        return ""

    def within(self, folders: Sequence[Path]) -> Parser:
        """A parser that looks for its files below `folders` (data roots) first.

        Raises UserError when a file is missing, so that the user learns it before hours of predicting.
        """
        return self


Rows = npt.NDArray[np.float64] | list[Any]
"""One row per sample: a float array (n, columns), or a list of plain objects where sums are not enough."""


Breakdowns = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Tables of a score's parts: by the table's name, the row's and the figure's."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """A part of a score that is a weighted mean: `rows` (m, columns) of the samples at `places` (m,), scored
    by `metric`."""

    weight: float
    metric: Metric
    rows: npt.NDArray[np.float64]
    places: npt.NDArray[np.intp]


class Metric(ABC):
    """From answers and targets to rows, from rows to a score. One frozen dataclass per file in `metrics/`.

    The default score is a ratio of column sums: first column over second. A metric that uses the sums
    differently overrides `value`; one that needs more than sums (AP) overrides `reduce`.
    """

    wants: ClassVar[tuple[str, ...]] = ("text",)  # kinds of answers that it can read
    takes: ClassVar[tuple[str, ...]] = ()  # kinds of targets (TARGETS) that it can score; (): not checked
    columns: ClassVar[tuple[str, ...]] = ("correct", "n")
    maximum: ClassVar[float | None] = 1.0  # None: unbounded
    minimum: ClassVar[float] = 0.0
    lower_is_better: ClassVar[bool] = False
    corpus: ClassVar[bool] = False  # whether a row depends on the other samples (CIDEr's idf)
    confident: ClassVar[bool] = False  # whether `rows` gets every answer as `Confident`
    undefined: ClassVar[str] = "no sample has a target that counts"  # why there is no score, where it is NaN
    package: ClassVar[str] = ""  # without this package, only the task's other metrics are scored

    @abstractmethod
    def rows(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Rows:
        """One row per sample; an answer of None (unreadable) is scored as wrong, never dropped."""

    def value(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Column sums (..., columns) to scores (...); vectorised for resampling. NaN where undefined."""
        with np.errstate(divide="ignore", invalid="ignore"):
            result: npt.NDArray[np.float64] = sums[..., 0] / sums[..., 1]
        return result

    def reduce(self, rows: Rows, counts: npt.NDArray[Any] | None = None) -> float:
        """The score of the rows; `counts` (n,) says how often each row is drawn in a resample."""
        array = np.asarray(rows, dtype=np.float64)
        sums = array.sum(axis=0) if counts is None else np.asarray(counts, dtype=np.float64) @ array
        return float(self.value(sums))

    def details(self, rows: Rows) -> dict[str, float]:
        """Further figures by name (accuracy per question type, AP at .75...)."""
        return {}

    def why_undefined(self, rows: Rows) -> str:
        """Why these rows give no score, where `reduce` gives NaN."""
        return self.undefined

    def strata(self, rows: Rows) -> Sequence[Stratum]:
        """The parts that the score is a weighted mean of, for its interval; none where it is no such mean."""
        return ()

    def breakdowns(self, rows: Rows) -> Breakdowns:
        """The score's parts: `{"class": {"cat": {"AP": 0.5, "objects": 12}}}`, also counts. `confusion` has a
        row a true class, `error` one a kind of error; each is shown by `evalkit table --per NAME`."""
        return {}

    def part_intervals(self, rows: Rows, index: npt.NDArray[np.intp]) -> Breakdowns:
        """What is added to `breakdowns` for their 95 % intervals: `{"class": {"cat": {"AP low": 0.4,
        "AP high": 0.6, "images": 12}}}`. `index` (n,) are the samples' clusters, `images` how many of them
        show the part."""
        return {}

    def offsets(self, rows: Rows) -> npt.NDArray[np.float64] | None:
        """How far boxes are from the targets that they overlap: (n, 3), the summed distances down and right,
        in 1/1024 of the image, and the number of boxes. None for a metric without boxes."""
        return None

    def judged(self, rows: Rows) -> Sequence[Sequence[tuple[float, float]]] | None:
        """Of every sample each of its boxes as (confidence, 1 if right else 0), both in [0, 1]; None for a
        metric whose rows judge an answer as a whole."""
        return None

    def bounds(
        self, rows: Rows, index: npt.NDArray[np.intp]
    ) -> tuple[float | None, float | None, str] | None:
        """(low, high, method) of a score whose resamples are not scattered around it; None: as of others.
        `index` (n,) are the samples' clusters."""
        return None

    def remarks(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Mapping[str, int]:
        """What is odd about answers that were read, and how many are so: labels of no category, say."""
        return {}

    def unfit(self, target: Any) -> str:
        """What is wrong with a target of a kind that the metric takes ("is ...; it must be ..."), or ''."""
        return ""

    def no_interval(self) -> str:
        """Why rows cannot be resampled one by one (then there is no interval), or ''."""
        return ""

    def tools(self) -> str:
        """Versions of the external tools that compute (`pycocotools 2.0.11`), for the signature."""
        return ""


@dataclass(frozen=True)
class Share(Metric):
    """The share of answers that equal their targets; scores strata of right and wrong answers, too."""

    def rows(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Rows:
        return np.array([[float(a == t), 1.0] for a, t in zip(answers, targets, strict=True)]).reshape(-1, 2)


class Format(ABC):
    """How a dataset is stored on disk, and its reader. One frozen dataclass per file in `formats/`."""

    fields: ClassVar[tuple[str, ...]] = ()  # what a prompt may name; (): depends on the sample
    keys: ClassVar[tuple[str, ...]] = ("path", "images")  # keys that a source entry must have
    hub: ClassVar[bool] = False  # whether it also reads datasets of the hub
    gives: ClassVar[tuple[str, ...]] = ()  # kinds of targets (TARGETS) that it may give; (): not checked

    @abstractmethod
    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        """The samples in file order. Raises DataError naming file, key and what would be right.

        What is odd, but leaves the rest usable, is added to `source.remarks`.
        """

    def without_target(self, source: Source, split: str) -> str:
        """What the samples without a target have instead (keys, how often, the nearest right one), or ''."""
        return ""


@dataclass(frozen=True, slots=True)
class Opening:
    """What `--model BACKEND:SPEC` and the options of a model ask of a backend."""

    spec: str
    flags: Mapping[str, Any]  # options of their own (`evalkit/options/model.py`)
    args: Mapping[str, Any]  # those of --model_args, as texts; they count more
    name: str = ""  # what the checkpoint is called, where the backend is not to choose
    say: Callable[[str], None] = lambda text: None  # gets a line about long work

    @property
    def options(self) -> dict[str, Any]:
        """Every option that was given, unchecked."""
        return {**self.flags, **self.args}


class Model(ABC):
    """A backend with one checkpoint. One class per file (or folder) in `models/`, or the user's own."""

    uses: ClassVar[frozenset[str] | None] = None  # the model options that it accepts; None: all
    takes_more: ClassVar[bool] = False  # whether --model_args may also have names that are not options

    @classmethod
    def open(cls, asked: Opening) -> Checkpoint:
        """The checkpoint of `--model BACKEND:SPEC`, inspected but not loaded.

        This default makes the class with the spec and passes every option that was given by name.
        """
        model: Model = cast(Any, cls)(asked.spec, **asked.options)
        return Checkpoint(
            name=asked.name or f"{cls.__name__}-{Path(asked.spec).name}".strip("-"),
            about=f"{cls.__name__} {asked.spec}".strip(),
            resolution=int(asked.options.get("resolution", 224)),
            identity=lambda protocol: model.identity(),
            load=lambda protocol: model,
        )

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """What decides the text: weights, processor, precision, backend and its TEXT_VERSION."""

    @abstractmethod
    def predict(
        self,
        requests: Sequence[Request],
        on_bad_image: Callable[[Request, ImageError], None] | None = None,
    ) -> Iterator[Prediction]:
        """The predictions in any order, each as soon as it is made.

        A bad image is passed to `on_bad_image` and its request is left out; without `on_bad_image`,
        ImageError is raised after the good predictions of its batch.
        """

    def used(self) -> Mapping[str, str]:
        """Files that have decided texts so far without being named in `identity`, each with its sha256, or
        '' where that cannot be told. A run is gone on with only while all of them are the same."""
        return {}

    def provenance(self) -> Mapping[str, Any]:
        """What is recorded but does not decide the text: device, versions, batch size."""
        return {}


@dataclass(frozen=True, slots=True)
class Conventions:
    """What a checkpoint was trained with where trainers differ; None: as the protocol, or the task, has it.

    `evalkit.yaml` beside a checkpoint says it under these names; `conventions.CHOICES` has what each may be.
    """

    prompt_mask: str | None = None  # bidirectional | causal (the text) | causal_image (image tokens too)
    newline: bool | None = None  # after the prompt
    bos: str | None = None  # prompt (between image and prompt) | image (before the image) | none
    prompt_case: str | None = None  # kept | lower | capital (its first letter)
    question: str | None = None  # kept | answer_en ("answer en " before questions) | bare (without it)
    class_order: str | None = None  # of `detect` and `segment`: kept | alphabetical
    class_separator: str | None = None  # between these classes, blanks included; "kept"
    resize: str | None = None  # bilinear | antialiased | bicubic
    pad: str | None = None  # none | white
    bins: int | None = None  # 1023 | 1024: what a location token's number is divided by
    eos: bool | None = None  # whether answers ended with the end token

    @property
    def said(self) -> dict[str, Any]:
        """Those that are stated, by name."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}

    def __str__(self) -> str:
        return as_trained(self.said)


def as_trained(said: Mapping[str, Any]) -> str:
    """`prompt_mask causal, newline no`: conventions, as a run's identity has them, for people."""
    return ", ".join(f"{name} {_word(value)}" for name, value in said.items())


def _word(value: Any) -> str:
    """A convention's value for people: `no`, or a text with blanks in quotes."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if str(value).isidentifier() or isinstance(value, int) else repr(value)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint before it is loaded: what a plan needs. `identity` and `load` take a protocol."""

    name: str
    about: str  # one line for people: family, size, precision
    resolution: int
    identity: Callable[[str], Mapping[str, Any]]  # what decides the text (hashes files when new)
    load: Callable[[str], Model]
    protocol: str = ""  # as stated in the checkpoint's `evalkit.yaml`; "" where it states none
    conventions: Conventions = field(default_factory=Conventions)  # stated there, too
    flops: Callable[[int, int, int], float] | None = None  # of (images, prompt tokens, new tokens)


# --- scores --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of one run; values in the metric's own unit (0 to 1; CIDEr unscaled)."""

    task: str
    metric: str  # as spelled in the YAML
    signature: str
    value: float
    low: float | None  # 95 % interval
    high: float | None
    n: int
    clusters: int
    coverage: str  # all | limited | early | incomplete
    invalid: int
    groups: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)  # value None: not scored
    details: Mapping[str, float] = field(default_factory=dict)
    lower_is_better: bool = False
    remarks: Mapping[str, int] = field(default_factory=dict)  # what is odd about the answers -> how many
    breakdowns: Breakdowns = field(default_factory=dict)


def remarked(remarks: Mapping[str, int]) -> str:
    """`12 cut at max_new_tokens; 5 end with <eos>`: a score's remarks as a sentence."""
    return "; ".join(f"{n:,} {what}" for what, n in remarks.items())
