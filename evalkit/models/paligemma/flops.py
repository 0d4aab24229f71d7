"""How much work a sample is: floating point operations, from the shapes of the weights alone."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from evalkit.models.paligemma.checkpoint.info import CheckpointInfo


def counter(info: CheckpointInfo) -> Callable[[int, int, int], float]:
    """Counts, for (images, prompt tokens, new tokens), the operations (two per multiply-add) to read images
    and a prompt and to write new tokens greedily.

    Every weight of a layer is used once per token; attention grows with the square of the length. The output
    table is used once per new token. Counts every sample in full: no reuse of image features.
    """
    patches = info.image_tokens
    tower, tower_width, tower_layers = _part(info, "vision_tower")
    decoder, width, layers = _part(info, "language_model")
    head = 2 * info.vocabulary * _hidden(info)

    def count(images: int, prompt_tokens: int, new_tokens: int) -> float:
        length = images * patches + prompt_tokens
        vision = images * (2 * tower * patches + 4 * tower_layers * tower_width * patches**2)
        prefill = 2 * decoder * length + 4 * layers * width * length**2
        decode = new_tokens * (2 * decoder + 4 * layers * width * (length + new_tokens / 2) + head)
        return float(vision + prefill + head + decode)

    return count


def flops(info: CheckpointInfo, images: int, prompt_tokens: int, new_tokens: int) -> float:
    """What `counter` counts for one sample."""
    return counter(info)(images, prompt_tokens, new_tokens)


def _part(info: CheckpointInfo, name: str) -> tuple[int, int, int]:
    """(weights in layers, width of all query heads, number of layers) of the tower or the decoder."""
    weights, width, layers = 0, 0, set()
    for key, shape in info.shapes.items():
        number = re.search(r"\blayers\.(\d+)\.", key)
        if name in key and number:
            weights += math.prod(shape)
            layers.add(number.group(1))
            if key.endswith("q_proj.weight"):
                width = shape[0]
    return weights, width, len(layers)


def _hidden(info: CheckpointInfo) -> int:
    return next((s[1] for k, s in info.shapes.items() if k.endswith("embed_tokens.weight")), 0)
