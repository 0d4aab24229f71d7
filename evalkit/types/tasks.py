"""A task as data: where its samples are, how images are prepared, how text is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SUBMISSION = "submission only"  # how a task's `not_scored` begins where the answers are not public


def why_not_scored(why: str) -> str:
    """A task's `not_scored` as a sentence."""
    return why if why.startswith(SUBMISSION) else f"not scored, because {why}"


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
