"""A line of rows.jsonl as what is drawn and read: texts, boxes in pixels, masks as outlines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.files import json_text
from evalkit.printing import cut
from evalkit.types import Size
from evalkit.viewer import outlines
from evalkit.viewer.stream import Line

LONGEST = 100_000  # characters of an answer that a report keeps; a page shows the first 2,000 of them
SHORT = 2000  # characters of what stands beside it
MOST = 400  # boxes of one answer that are drawn
_SHOWN = {"boxes", "labels", "iscrowd", "size", "answers"}  # keys of a target that are shown as what they are

PixelBox = tuple[float, float, float, float]  # x0, y0, x1, y1


@dataclass(frozen=True)
class Target:
    """What is right. `labels` is None where boxes have none: then one box is asked for."""

    texts: tuple[str, ...] = ()
    boxes: tuple[PixelBox, ...] = ()
    labels: tuple[str, ...] | None = None
    crowd: tuple[bool, ...] = ()
    size: Size | None = None
    other: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Answer:
    """What was answered: a text, or boxes with labels and, of masks, their run lengths."""

    text: str | None = None
    boxes: tuple[PixelBox, ...] = ()
    labels: tuple[str, ...] = ()
    masks: tuple[Any, ...] = ()
    sure: tuple[float | None, ...] = ()  # the probability of each box's tokens, where it was kept
    read: bool = False  # whether anything was


def target_of(line: Line) -> Target:
    """The target as rows.jsonl has it; what is of no known shape is shown as JSON."""
    target = line.get("target")
    if isinstance(target, str):
        return Target((target,))
    if isinstance(target, (list, tuple)):
        return Target(tuple(_text(one) for one in target))
    if not isinstance(target, Mapping):
        return Target() if target is None else Target((_text(target),))
    answers = target.get("answers", ())
    several = answers if isinstance(answers, (list, tuple)) else (answers,)
    texts = tuple(_text(one) for one in several if one is not None)
    boxes = tuple(found for box in _list(target.get("boxes")) if (found := box_of(box)) is not None)
    labels = target.get("labels")
    return Target(
        texts,
        boxes,
        tuple(map(str, labels)) if isinstance(labels, list) and len(labels) == len(boxes) else None,
        tuple(bool(flag) for flag in _list(target.get("iscrowd"))),
        size_of(target.get("size")),
        tuple((str(key), cut(_text(value), SHORT)) for key, value in target.items() if key not in _SHOWN),
    )


def answer_of(line: Line) -> Answer:
    """The parsed answer as rows.jsonl has it."""
    answer = line.get("answer")
    if isinstance(answer, str):
        return Answer(answer, read=True)
    if not isinstance(answer, list):
        return Answer() if answer is None else Answer(_text(answer), read=True)
    things = [thing for thing in answer if isinstance(thing, Mapping) and "box" in thing]
    if answer and not things:
        return Answer(_text(answer), read=True)
    boxes = [box_of(box) for box in _list(line.get("boxes"))]
    if len(boxes) != len(things):
        boxes = [None] * len(things)
    kept = [(thing, box) for thing, box in zip(things, boxes, strict=True) if box is not None][:MOST]
    return Answer(
        None,
        tuple(box for _, box in kept if box is not None),
        tuple(str(thing.get("label", "")) for thing, _ in kept),
        tuple(thing.get("rle") for thing, _ in kept),
        tuple(_probability(thing) for thing, _ in kept),
        True,
    )


def _probability(thing: Mapping[str, Any]) -> float | None:
    value: Any = thing.get("probability")
    return float(value) if type(value) in (int, float) and 0 <= value <= 1 else None


def box_of(value: Any) -> PixelBox | None:
    """Four finite numbers as a box, else None."""
    if not isinstance(value, (list, tuple)) or len(value) != 4:
        return None
    if not all(type(side) in (int, float) and math.isfinite(side) for side in value):
        return None
    x0, y0, x1, y1 = value
    return x0, y0, x1, y1


def size_of(value: Any) -> Size | None:
    """(height, width), or None for what is none."""
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(type(s) is int and s > 0 for s in value):
        return value[0], value[1]
    return None


def outlines_of(answer: Answer) -> list[dict[str, str]]:
    """The answer's masks as the page draws them."""
    found = [
        (outlines.path(rle), label) for rle, label in zip(answer.masks, answer.labels, strict=True) if rle
    ]
    return [{"path": path, "label": label} for path, label in found if path]


def area_share(boxes: Sequence[PixelBox], size: Size | None) -> float:
    """The mean share of the image that a box covers; NaN without a box or size."""
    if not boxes or size is None:
        return math.nan
    each = [max(x1 - x0, 0.0) * max(y1 - y0, 0.0) for x0, y0, x1, y1 in boxes]
    return sum(each) / len(each) / (size[0] * size[1])


def parsed(answer: Answer) -> str:
    """What the parser made of the text, as a text."""
    if answer.text is not None:
        return answer.text
    if not answer.read:
        return ""
    if not answer.boxes:
        return "no object"
    kind = "mask" if any(answer.masks) else "box"
    n = len(answer.boxes)
    count = f"{n} {kind}{'' if n == 1 else 'es' if kind == 'box' else 's'}"
    names = [label for label in answer.labels if label]
    return f"{count}: {', '.join(names)}" if names else count


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value)
