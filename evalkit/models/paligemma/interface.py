"""The interface between backend and engine: an engine answers prepared prompts.
Knows no tokenizer, no file and no task."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from evalkit.types import Conventions, Decode


@dataclass(slots=True)
class Limit:
    """How many rows a batch may have; lowered when the device runs out of memory."""

    rows: int


def pixel_key(pixels: Any) -> str:
    """A digest of one prepared image's pixels and shape, since equal pixels have equal features, whatever
    their file and preparation."""
    shape = "x".join(map(str, pixels.shape))
    return shape + ":" + hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=20).hexdigest()


Pixels = npt.NDArray[np.uint8]
"""The images of one prompt, (images, resolution, resolution, 3) uint8 RGB."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt ready for the model: pixels, and the ids after the image tokens and `before` them. `seed`
    is that of its random numbers when decoding samples; `keys` are digests of the images' pixels if already
    known; `forbid` are token sequences that the answer may not contain."""

    pixels: Pixels
    ids: tuple[int, ...]
    seed: int = 0
    keys: tuple[str, ...] = ()
    forbid: tuple[tuple[int, ...], ...] = ()
    before: tuple[int, ...] = ()

    def free(self, image_tokens: int, mask: str) -> int | None:
        """How many tokens of the prefix, from its beginning, attend to each other, where the others attend
        to what is before them (see `Rules.prompt_mask`); None: all. `image_tokens` is of one image."""
        if mask == "bidirectional":
            return None
        return len(self.before) + len(self.pixels) * image_tokens if mask == "causal" else 0


@dataclass(frozen=True, slots=True)
class Answer:
    """The new tokens of one prompt. `tokens` and `logprobs` (natural log) include the end token if one was
    reached. `margin` is the smallest top-1/top-2 logit difference along the greedy path, the end token's
    step included (None for beam search and sampling); for choices, the log-likelihood of the best minus that
    of the second best (None if there is only one). `logprobs` are the model's own at any temperature; the
    fast engine computes them only when the decode settings ask for them."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop: str  # eos | length
    margin: float | None


class OutOfMemory(Exception):
    """The device has no room for this batch; a smaller one may fit."""


class Engine(Protocol):
    """Loaded weights that answer batches. The plain engine is the one others are compared with."""

    device: str
    home: Any  # the same, as a torch.device

    def answer(self, prompts: Sequence[Prompt], decode: Decode, rules: Rules) -> list[Answer]:
        """Answers in the prompts' order; all prompts have the same number of images.

        Raises OutOfMemory when the batch does not fit, ModelError when the numbers break down.
        """
        ...

    def choose(self, prompt: Prompt, choices: Sequence[Sequence[int]], rules: Rules) -> Answer:
        """The most likely of the choices (token ids with their end token), see `likelihood.choose`; raises
        as `answer`."""
        ...

    def feature_shape(self, resolution: int) -> tuple[int, ...]:
        """Shape of one image's features: (1, tokens, hidden)."""
        ...

    def row_bytes(self, image_tokens: int) -> int:
        """About how many bytes of memory a prompt with one image takes beside the weights; 0 if unknown."""
        ...

    def provenance(self) -> dict[str, Any]:
        """Versions, device and threads: what is recorded but is not identity."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What a protocol fixes about decoding; part of a run's identity."""

    protocol: str  # paper | hf: also how the prompt is tokenised
    eos: tuple[int, ...]  # decoding ends at any of these
    cap_first: bool  # soft-cap the first new token's logits too (Gemma 2; the reference does not)
    first_position: int  # rotary position of a prompt's first token
    # What the prefix attends to. bidirectional: every token to all of it, as big_vision and transformers'
    # processor with a suffix. causal: image tokens to each other, the text to what is before it
    # (LLaMA-Factory's token_type_ids: 0 for the image, 1 for all text). causal_image: image tokens, too, to
    # what is before them (transformers without token_type_ids).
    prompt_mask: str = "bidirectional"
    newline: bool = True  # after the prompt
    bos: str = "prompt"  # prompt (between image and prompt) | image (before the image) | none
    ended: bool = True  # whether choices are scored with their end token


def rules(protocol: str, eos: tuple[int, ...], trained: Conventions | None = None) -> Rules:
    """`paper`: big_vision (ends at id 1 only, positions from 0, first logits not soft-capped);
    `hf`: transformers' `generate` with the checkpoint's own end tokens `eos`. What the checkpoint was
    `trained` with counts more."""
    trained = trained or Conventions()
    stated = {
        "prompt_mask": trained.prompt_mask or "bidirectional",
        "newline": trained.newline is not False,
        "bos": trained.bos or "prompt",
        "ended": trained.eos is not False,
    }
    if protocol == "paper":
        return Rules("paper", (1,), cap_first=False, first_position=0, **stated)  # type: ignore[arg-type]
    return Rules("hf", eos, cap_first=True, first_position=1, **stated)  # type: ignore[arg-type]
