"""The samples a second that a device could reach at most, from the operations and bytes of one sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.gpu.device import Speed
from evalkit.models.paligemma import flops
from evalkit.models.paligemma.checkpoint.info import CheckpointInfo


@dataclass(frozen=True)
class Sample:
    """The mean sample of some work: tokens of its prompt and of its answer, questions about one image, and
    rows of the batch in which it is decoded."""

    prompt: float
    new: float
    questions: float = 1.0
    rows: int = 32


def samples_a_second(info: CheckpointInfo, sample: Sample, speed: Speed, savings: bool) -> float:
    """The ceiling: reading a prompt takes as long as its products at the device's speed, a decode step as
    long as its products or as reading all weights of the decoder once for `rows` rows, whichever is more.

    With `savings`, what can be left out without changing an answer is: an image's features are computed once
    for all its questions, and the last layer computes queries and what follows at the last position only.
    """
    prompt, new = round(sample.prompt), round(sample.new)
    read = flops.flops(info, 1, prompt, 0)
    step = (flops.flops(info, 1, prompt, new) - read) / max(1, new)
    if savings:
        vision = read - flops.flops(info, 0, prompt + info.image_tokens, 0)
        read -= vision * (1 - 1 / sample.questions) + last_layer(info, prompt + info.image_tokens)
    weights = 2.0 * sum(math.prod(s) for k, s in info.shapes.items() if "language_model" in k)
    decode = max(step / speed.flops, weights / speed.bytes / sample.rows)
    return 1 / (read / speed.flops + new * decode)


def last_layer(info: CheckpointInfo, length: int) -> float:
    """Operations of the last decoder layer that only earlier positions' unused output needs."""
    last = max(int(k.split(".layers.")[1].split(".")[0]) for k in info.shapes if _decoder(k))
    own = {k: s for k, s in info.shapes.items() if _decoder(k) and f".layers.{last}." in k}
    unused = sum(math.prod(s) for k, s in own.items() if not k.endswith(("k_proj.weight", "v_proj.weight")))
    width = next(s[0] for k, s in own.items() if k.endswith("q_proj.weight"))
    return (length - 1) * (2.0 * unused + 4.0 * width * length)


def _decoder(name: str) -> bool:
    return "language_model" in name and ".layers." in name
