"""What a backend asks of an engine: padded or not, fast or plain, it answers prepared prompts.
Knows no tokenizer, no file and no task."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from evalkit.types import Decode


@dataclass(slots=True)
class Limit:
    """How many rows a batch may have; lowered when the device runs out of memory."""

    rows: int


def pixel_key(pixels: Any) -> str:
    """A digest of one prepared image's pixels and shape: equal pixels have equal features, whatever file
    and preparation they come from."""
    shape = "x".join(map(str, pixels.shape))
    return shape + ":" + hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=20).hexdigest()


Pixels = npt.NDArray[np.uint8]
"""The images of one prompt, (images, resolution, resolution, 3) uint8 RGB."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt ready for the model: pixels, and the ids that follow the image tokens; `seed` of its
    own random numbers, where the decoding draws; `keys` name the images' pixels (their digests) where
    somebody knows them already; `forbid` are token sequences that the answer may not contain."""

    pixels: Pixels
    ids: tuple[int, ...]
    seed: int = 0
    keys: tuple[str, ...] = ()
    forbid: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """New tokens of one prompt. `tokens` and `logprobs` (natural log) include the end token where one
    was reached; `margin` is the smallest top-1/top-2 logit difference along the greedy path, the end
    token's step included (None: beam search or sampling), or what the best choice is more likely than the
    second best (None: there is one). `logprobs` are the model's own, whatever the
    temperature; the fast engine computes them where the decoding asks for them."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop: str  # eos | length
    margin: float | None


class OutOfMemory(Exception):
    """The device has no room for this batch; a smaller one may do."""


class Engine(Protocol):
    """Loaded weights that answer batches. The plain engine is the one others are compared with."""

    device: str

    def answer(self, prompts: Sequence[Prompt], decode: Decode, rules: Rules) -> list[Answer]:
        """Answers in the prompts' order; all prompts hold equally many images.

        Raises OutOfMemory when the batch does not fit, ModelError when the numbers break down.
        """
        ...

    def choose(self, prompt: Prompt, choices: Sequence[Sequence[int]], rules: Rules) -> Answer:
        """The most likely of the choices (token ids with their end token), see `choices.choose`; raises as
        `answer`."""
        ...

    def feature_shape(self, resolution: int) -> tuple[int, ...]:
        """Shape of one image's features: (1, tokens, hidden)."""
        ...

    def provenance(self) -> dict[str, Any]:
        """Versions, device and threads: what is recorded but does not name the run."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What a protocol fixes about decoding; part of a run's identity."""

    protocol: str  # paper | hf: also how the prompt is tokenised
    eos: tuple[int, ...]  # decoding ends at any of these
    cap_first: bool  # soft-cap the first new token's logits too (Gemma 2; the reference does not)
    first_position: int  # rotary position of a prompt's first token


def rules(protocol: str, eos: tuple[int, ...]) -> Rules:
    """`paper`: big_vision (ends at id 1 only, positions from 0, first logits not soft-capped);
    `hf`: transformers' `generate` with the checkpoint's own end tokens `eos`."""
    if protocol == "paper":
        return Rules("paper", (1,), cap_first=False, first_position=0)
    return Rules("hf", eos, cap_first=True, first_position=1)
