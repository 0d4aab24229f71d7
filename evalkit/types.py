"""The vocabulary as types: what a task, sample, request, prediction, answer, metric and score are.

Knows no file format, no model and no metric. Boxes are always (y0, x0, y1, x1), the order of
PaliGemma's `<loc>` tokens; sizes are always (height, width).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import numpy.typing as npt

from evalkit.errors import ImageError

SUBMISSION = "submission only"  # how a task's `not_scored` begins where the answers are not public


def why_not_scored(why: str) -> str:
    """A task's `not_scored` as a sentence."""
    return why if why.startswith(SUBMISSION) else f"not scored, because {why}"


Size = tuple[int, int]
"""(height, width) in pixels."""


# --- what is asked -----------------------------------------------------------------------------


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
    """How text is decoded. `text_length` cuts the prompt (BOS and newline counted); None: never.

    `mode` likelihood writes nothing: the most likely of given choices is the answer, `max_new_tokens` cuts
    none of them. A `temperature` above 0 samples: from the smallest set of tokens that holds `top_p` of the
    probability, with random numbers that hang on `seed` and the sample's id alone. `forbid` lists texts that
    an answer may not contain: the token that would complete one is never chosen, and `<eos>` is every end
    token; log-probabilities stay the model's own.
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
        """Whether text is drawn at random; without it `top_p` and `seed` decide nothing."""
        return self.temperature > 0


@dataclass(frozen=True, slots=True)
class Data:
    """Where a task's samples come from: a format's spelling, a split, and sources tried in order."""

    format: str
    split: str
    sources: tuple[Mapping[str, Any], ...]
    count: int | None = None  # the official number of samples
    published_count: int | None = None  # of the papers' own copy, where that is another


@dataclass(frozen=True, slots=True)
class Task:
    """One benchmark as data; read from one YAML file (`evalkit/tasks.py`)."""

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
    group_mean: tuple[str, ...] | None = None  # score = mean over groups, without these
    not_scored: str = ""  # why there are no metrics; the run can be exported
    protocol: str = "paper"
    choices: tuple[str, ...] = ()  # likelihood only; `{choice}` stands for each of the sample's own
    prompt_source: str = ""
    homepage: str = ""
    path: str = ""  # the YAML file, for error messages
    digest: str = ""  # sha256 of the task's content as used, overrides included
    overrides: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mark:
    """Something drawn on an image before a model sees it; part of what is asked.

    `outline`: an edge of one pixel, drawn after resizing. `label`: a white box with `text`, drawn at
    the original's size. `box` is (y0, x0, y1, x1) in `unit`: fractions of the sides, pixels of the
    original, or pixels of a canvas that is `canvas` high and was scaled to the image's height.
    """

    kind: Literal["outline", "label"]
    box: tuple[float, float, float, float]
    unit: Literal["fractions", "pixels", "canvas"] = "fractions"
    canvas: float = 0.0
    colour: tuple[int, int, int] = (255, 0, 0)
    text: str = ""
    font: str = ""  # a TrueType file; left out: Pillow's own


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where one image lies, never its pixels: a file, or a member of an archive, table or video."""

    path: str
    member: str = ""
    marks: tuple[Mark, ...] = ()
    turn: int = 0  # quarter turns against the clock that make it upright, where the data set tells

    def __str__(self) -> str:
        return f"{self.path}::{self.member}" if self.member else self.path


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset found on disk: one entry of a task's `sources` with the root it was found under."""

    root: Path
    entry: Mapping[str, Any]
    task: str = ""

    def path(self, key: str) -> Path:
        """The file or folder that the entry's `key` names (KeyError when the entry lacks it)."""
        return self.root / str(self.entry[key])


@dataclass(frozen=True, slots=True)
class Sample:
    """One thing to ask, with its target.

    `fields` is what a prompt may name; `target` is plain data (strings, numbers, tuples, lists,
    dicts) in the shape that the format documents and the metric reads; `group` is what scores are
    broken down by; `cluster` is what is resampled together (before the image is read: its path);
    `choices` are the answers that are offered, where there are any, spelled as the target.
    """

    id: str
    images: tuple[ImageRef, ...]
    fields: Mapping[str, str]
    target: Any
    size: Size | None = None  # of the original image, where the annotations tell
    group: str = ""
    cluster: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """What a model sees of a sample: no target, so a backend cannot cheat."""

    id: str
    images: tuple[ImageRef, ...]
    prompt: str
    preparation: Preparation
    decode: Decode
    choices: tuple[str, ...] = ()

    @property
    def seed(self) -> int:
        """Of this sample's random numbers, 64 bits: from `decode.seed` and the id, so that neither
        batch, order, shard nor resume changes what is drawn."""
        digest = hashlib.sha256(f"{self.decode.seed}\0{self.id}".encode()).digest()
        return int.from_bytes(digest[:8], "big")


# --- what comes back ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model answered; never edited afterwards.

    `text` keeps special tokens (`<loc..>`, `<seg..>`) and leaves out the end token; `margin` is
    the smallest difference between the best and second best logit along the greedy path, or between
    the log-likelihoods of the best two choices;
    `image_digests` are sha256 of the bytes read, `sizes` the (height, width) they decoded to.
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


@dataclass(frozen=True, slots=True)
class Box:
    """A box as fractions of the image, with the label that followed it and what ranks it."""

    y0: float
    x0: float
    y1: float
    x1: float
    label: str = ""
    score: float = 1.0
    class_score: float | None = None  # mean probability of the label's tokens, where known

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
    """Model text to answer. One frozen dataclass a file in `parsers/`; its fields are parameters."""

    kind: ClassVar[str]  # text | boxes | masks: what metrics compare with their `wants`

    @abstractmethod
    def read(self, prediction: Prediction, size: Size | None) -> Any | None:
        """The answer, or None when the text is unreadable. Never raises on any text."""

    def answers(self, predictions: Sequence[Prediction], sizes: Sequence[Size | None]) -> list[Any | None]:
        """Many at once, in order; override where a batch is cheaper."""
        return [self.read(p, s) for p, s in zip(predictions, sizes, strict=True)]

    def invalid(self, answer: Any | None) -> bool:
        """Whether the answer counts as invalid; a parser may say so of more than None."""
        return answer is None

    def identity(self) -> str:
        """What beside the parameters decides the answer (the mask decoder's digest), or ''."""
        return ""

    def within(self, folders: Sequence[Path]) -> Parser:
        """The parser with the files that it reads looked for below `folders` (data roots) first.

        Raises UserError when one is not there, so that it is said before hours of predicting.
        """
        return self


Rows = npt.NDArray[np.float64] | list[Any]
"""One row a sample: a float array (n, columns), or a list of plain objects where sums do not do."""


class Metric(ABC):
    """Answers and targets to rows, rows to a score. One frozen dataclass a file in `metrics/`.

    The default reduction is a ratio of column sums: first column over second. A metric with other
    sums overrides `value`; one that no sums describe (AP) overrides `reduce`.
    """

    wants: ClassVar[tuple[str, ...]] = ("text",)  # kinds of parser it can read
    columns: ClassVar[tuple[str, ...]] = ("correct", "n")
    maximum: ClassVar[float | None] = 1.0  # None: unbounded
    minimum: ClassVar[float] = 0.0
    lower_is_better: ClassVar[bool] = False
    corpus: ClassVar[bool] = False  # whether a row depends on the other samples (CIDEr's idf)
    package: ClassVar[str] = ""  # without this package a task's other metrics are scored alone

    @abstractmethod
    def rows(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Rows:
        """One row a sample; an answer of None (unreadable) is scored as wrong, never dropped."""

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
        """Side figures worth a column of their own (per question type, boxes at .75...)."""
        return {}

    def offsets(self, rows: Rows) -> npt.NDArray[np.float64] | None:
        """How far boxes that found their targets lie from them: (n, 3) of summed distances down and right,
        in 1/1024 of the image, and how many boxes. None for a metric that looks at no boxes."""
        return None

    def no_interval(self) -> str:
        """Why rows cannot be resampled one by one (then there is no interval), or ''."""
        return ""

    def tools(self) -> str:
        """Versions of the outside tools that compute (`pycocotools 2.0.11`), for the signature."""
        return ""


class Format(ABC):
    """A dataset's way of lying on disk. One frozen dataclass a file in `formats/`."""

    fields: ClassVar[tuple[str, ...]] = ()  # what a prompt may name; () means: each sample tells
    keys: ClassVar[tuple[str, ...]] = ("path", "images")  # what a source entry must name
    hub: ClassVar[bool] = False  # whether it reads a dataset of the hub too

    @abstractmethod
    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        """The samples in file order. Raises DataError naming file, key and what would be right."""


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
    """A backend holding one checkpoint. One class a file (or folder) in `models/`, or of your own."""

    uses: ClassVar[frozenset[str] | None] = None  # the options of a model that it knows; None: all
    takes_more: ClassVar[bool] = False  # whether --model_args may hold names that no option has

    @classmethod
    def open(cls, asked: Opening) -> Checkpoint:
        """The checkpoint of `--model BACKEND:SPEC`, inspected but not loaded.

        As written here the class is made with the spec, and with every option that was given by name.
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
        """Answers in any order, each as soon as it is known.

        A bad image goes to `on_bad_image` and its request is left out; without one ImageError is
        raised once the good answers of its batch are out.
        """

    def provenance(self) -> Mapping[str, Any]:
        """What is worth knowing but does not decide the text: device, versions, batch size."""
        return {}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint before it is loaded: what a plan needs to know. Both callables take a protocol."""

    name: str
    about: str  # one line for people: family, size, precision
    resolution: int
    identity: Callable[[str], Mapping[str, Any]]  # what decides the text (hashes files when new)
    load: Callable[[str], Model]
    protocol: str = ""  # what the checkpoint says of itself in `evalkit.yaml`; "" when it says nothing
    flops: Callable[[int, int, int], float] | None = None  # of (images, prompt tokens, new tokens)


# --- what is reported --------------------------------------------------------------------------


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
    groups: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    details: Mapping[str, float] = field(default_factory=dict)
    lower_is_better: bool = False
