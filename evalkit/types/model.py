"""What a backend is, and a checkpoint before it is loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, cast

from evalkit.errors import ImageError
from evalkit.types.answers import Prediction
from evalkit.types.samples import Request


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
