"""What a backend asks of an engine: padded or not, fast or plain, it answers prepared prompts.
Knows no tokenizer, no file and no task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from evalkit.models.paligemma.prompt import Rules
from evalkit.types import Decode

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
