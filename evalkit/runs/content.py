"""What of answers decides scores, as digests. Knows predictions, no file."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable

import numpy as np

from evalkit.types import Prediction

LENGTH = 16  # bytes
_scored = operator.attrgetter(
    "id", "text", "tokens", "logprobs", "image_digests", "sizes", "end_logprob", "calls"
)


def of(prediction: Prediction) -> bytes:
    """The digest of one answer."""
    text = repr(_scored(prediction)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=LENGTH).digest()


def together(digests: Iterable[bytes]) -> str:
    """One digest of many, independent of their order."""
    ordered = np.frombuffer(bytearray().join(digests), f"S{LENGTH}").copy()
    ordered.sort()
    return hashlib.sha256(ordered.tobytes()).hexdigest()
