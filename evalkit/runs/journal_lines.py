"""A line of a journal: a prediction, its images' stamps, and a checksum over itself and its run's digest.

Knows neither files nor which lines a run has.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import operator
import re
import zlib
from dataclasses import dataclass
from typing import Any

from evalkit.files import encoded, json_text
from evalkit.runs.kinds import Kind, each, every, number, optional, text
from evalkit.types import Prediction

NAMED = 8  # digits of a run's digest that stand in a line, as in the folder's name


@dataclass(frozen=True, slots=True)
class Entry:
    """A journal line: the prediction and a stamp for each of its images, a quick first check on resume.

    Lines of older runs hold (bytes, mtime) of each file instead; that proves nothing and is left out.
    """

    prediction: Prediction
    stamps: tuple[str, ...] = ()


_KEYS = tuple(f.name for f in dataclasses.fields(Prediction))
_USUAL = tuple(f.default for f in dataclasses.fields(Prediction))
_values = operator.attrgetter(*_KEYS)


def encode(entry: Entry, digest: str) -> bytes:
    """One line: the prediction without fields at their defaults, the stamps, the run, and a crc32 of the
    run's whole digest and all that."""
    content = {
        k: v for k, v, usual in zip(_KEYS, _values(entry.prediction), _USUAL, strict=True) if v != usual
    }
    if entry.stamps:
        content["stamps"] = entry.stamps
    content["run"] = digest[:NAMED]
    data = encoded(json_text(content, compact=True)[:-1])
    return data + b',"crc":"%08x"}\n' % _checksum(data, digest)


def decode(line: bytes, digest: str, unsealed: bool) -> Entry | str:
    """The entry of a line. Else whose the line is, or '' where it is cut off or damaged."""
    data, mark, tail = line.rpartition(b',"crc":"')
    if not mark:
        return ""
    if tail != b'%08x"}\n' % _checksum(data, digest):
        if tail == b'%08x"}\n' % zlib.crc32(data):
            return _entry(data) if unsealed else "of an older evalkit, which do not say of which run they are"
        named = re.search(rb',"run":"([0-9a-f]{8})"$', data)
        if named and named[1].decode() != digest[:NAMED]:
            return f"of another run, {named[1].decode()}"
        return ""
    return _entry(data)


def _checksum(data: bytes, digest: str) -> int:
    return zlib.crc32(data, _seed(digest))


@functools.lru_cache(maxsize=16)
def _seed(digest: str) -> int:
    return zlib.crc32(digest.encode())


def _entry(data: bytes) -> Entry | str:
    """A line's content; '' where it is none that `encode` writes, though its checksum is right."""
    try:
        content = json.loads(data + b"}")
        content.pop("run", None)
        stamps = tuple(s for s in content.pop("stamps", ()) if isinstance(s, str))
        if not _KINDS.keys() >= content.keys():
            unknown = content.keys() - _KINDS.keys()
            return f"of another version of evalkit, with {', '.join(sorted(map(repr, unknown)))}"
        given = {key: _KINDS[key](value) for key, value in content.items()}
        return Entry(Prediction(**given), stamps)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return ""


def _size(value: Any) -> tuple[int, int]:
    h, w = _pair(value)
    return h, w


_pair = every(int)
_each_logprob = every(float, int, type(None))


def _logprobs(value: Any) -> tuple[float, ...]:
    """JSON has no infinite number: null is the logarithm of 0."""
    return tuple(-math.inf if v is None else v for v in _each_logprob(value))


_KINDS: dict[str, Kind] = {
    "id": text, "prompt": text, "text": text, "stop": text, "tokens": every(int), "margin": optional(number),
    "logprobs": optional(_logprobs), "image_digests": every(str), "sizes": each(_size),
    "end_logprob": optional(number),
    "calls": each(_size),
}  # fmt: skip
"""What each key of a line must hold."""
