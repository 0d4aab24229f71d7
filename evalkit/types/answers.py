"""What a model answered, and what is read of it: boxes, masks, an answer with its log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evalkit.types.samples import Size

CUT = "cut at max_new_tokens"  # the remark on an answer that was not ended by the model
UNREADABLE = "unreadable: "  # how the remark on an unreadable answer begins


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
