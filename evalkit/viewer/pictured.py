"""The images of a line of rows.jsonl: where each is, what was drawn on it, and how it was turned."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalkit.files import encoded, json_text
from evalkit.types import Mark

MOST = 2000  # marks of an image that are drawn


@dataclass(frozen=True, slots=True)
class Pictured:
    """An image as a sample shows it. `key` is of all that is seen: of the content (its path where no digest
    was kept), the marks and the turn."""

    key: str
    path: str
    marks: tuple[Mark, ...] = ()
    turn: int = 0  # quarter turns counterclockwise

    @property
    def words(self) -> str:
        """What a model was shown beside the image itself, or ''."""
        letters = sum(mark.kind == "label" for mark in self.marks)
        outlines = len(self.marks) - letters
        parts = [f"{letters} label{'s' * (letters > 1)} drawn in"] if letters else []
        parts += [f"{outlines} box{'es' * (outlines > 1)} drawn in"] if outlines else []
        parts += [f"turned by {90 * (self.turn % 4)}°"] if self.turn % 4 else []
        return ", ".join(parts)


def pictured(line: Mapping[str, Any]) -> list[Pictured]:
    """The images of a sample. Marks that are none are left out: a row may have been edited."""
    paths = line.get("image_path") or []
    paths = [paths] if isinstance(paths, str) else [str(path) for path in paths]
    digests = line["image"].split("+") if line["image"] else []
    keys = digests if len(digests) == len(paths) else paths
    drawn = line.get("drawn")
    if not isinstance(drawn, list) or len(drawn) != len(paths):
        return [Pictured(key, path) for key, path in zip(keys, paths, strict=True)]
    return [_one(*each) for each in zip(keys, paths, drawn, strict=True)]


def _one(key: str, path: str, drawn: Any) -> Pictured:
    if not isinstance(drawn, Mapping) or not drawn:
        return Pictured(key, path)
    several = drawn.get("marks")
    found = [_mark(each) for each in several[:MOST]] if isinstance(several, list) else []
    marks = tuple(mark for mark in found if mark is not None)
    turn = drawn.get("turn", 0)
    seen = hashlib.sha256(encoded(json_text(drawn, compact=True))).hexdigest()[:16]
    return Pictured(f"{key}#{seen}", path, marks, turn if type(turn) is int else 0)


def _mark(given: Any) -> Mark | None:
    if not isinstance(given, Mapping):
        return None
    box, colour = _numbers(given.get("box"), 4), _numbers(given.get("colour", [255, 0, 0]), 3)
    kind: Any = given.get("kind")
    unit, text = given.get("unit", "fractions"), given.get("text", "")
    canvas = _numbers([given.get("canvas", 0.0)], 1)
    known = kind in ("outline", "label") and unit in ("fractions", "pixels", "canvas")
    if not (known and box and colour and canvas and isinstance(text, str)):
        return None
    if not all(0 <= c <= 255 for c in colour) or (unit == "canvas" and canvas[0] <= 0):
        return None
    y0, x0, y1, x1 = box
    red, green, blue = map(int, colour)
    return Mark(kind, (y0, x0, y1, x1), unit, canvas[0], (red, green, blue), text[:40])


def _numbers(value: Any, n: int) -> list[float] | None:
    """A list of n finite numbers that are no larger than any picture, else None."""
    if not isinstance(value, list) or len(value) != n:
        return None
    sound = all(type(one) in (int, float) and math.isfinite(one) and abs(one) < 1e6 for one in value)
    return value if sound else None
