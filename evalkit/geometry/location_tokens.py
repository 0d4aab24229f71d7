"""The grammar of `<loc>` and `<seg>` text: objects with box, mask indices, label and probability.

Knows no image. A box is four `<loc0000>`..`<loc1023>` in the order y0, x0, y1, x1; a mask is sixteen
`<seg000>`..`<seg127>` right after it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evalkit.types import Box, Prediction

LOCATIONS = 1024
SWAPPED = "a box whose corners are in the wrong order"
_LOC = r"<loc((?:0[0-9]{3}|10[01][0-9]|102[0-3]))>"
_SEG = r"<seg((?:0[0-9]{2}|1[01][0-9]|12[0-7]))>"
_BOX = re.compile(_LOC * 4)
_BOX_AND_MASK = re.compile(_LOC * 4 + _SEG * 16)
OBJECT = re.compile(rf"{_LOC * 4}\s*(?:{_SEG * 16})?([^<;]*)")
_SPECIAL = re.compile(f"{_LOC}|{_SEG}")
# As in the published demo: any decimal digits, text before them on one line, a label up to ; < or >.
_DEMO = re.compile(
    r"[^\n]*?" + r"<loc(\d{4})>" * 4 + r"\s*(?:" + r"<seg(\d{3})>" * 16 + r")?\s*([^;<>]+)? ?(?:; )?"
)


@dataclass(frozen=True, slots=True)
class Found:
    """One parsed object: four location numbers, no or sixteen mask indices, its label and position."""

    corners: tuple[int, ...]
    indices: tuple[int, ...] = ()
    label: str = ""
    start: int = 0  # of its first character in the text

    @property
    def sound(self) -> bool:
        """Whether the box has an area."""
        y0, x0, y1, x1 = self.corners
        return y1 > y0 and x1 > x0

    @property
    def swapped(self) -> bool:
        """Whether it would have an area with its corners in the other order."""
        y0, x0, y1, x1 = self.corners
        return not self.sound and y0 != y1 and x0 != x1

    def box(self, divisor: int) -> Box:
        """The box as fractions of the image: location numbers over `divisor` (1023 or 1024)."""
        y0, x0, y1, x1 = (corner / divisor for corner in self.corners)
        return Box(y0, x0, y1, x1, label=self.label)


def first_box(text: str) -> Found | None:
    """The box of the four location tokens that the text begins with."""
    match = _BOX.match(text)
    return Found(tuple(map(int, match.groups()))) if match else None


def first_mask(text: str) -> Found | None:
    """Box and mask of the twenty tokens that the text begins with; what follows is ignored."""
    match = _BOX_AND_MASK.match(text)
    if not match:
        return None
    numbers = tuple(map(int, match.groups()))
    return Found(numbers[:4], numbers[4:])


def lacking(text: str, form: str = "objects", mask: bool = False) -> str:
    """Why no box (or no `mask`) is read from a text, in a few words; '' where one is. `form`: objects, first
    (the first box alone) or start (the text begins with it, without a blank before its mask)."""
    if not text.strip():
        return "an empty text"
    found = objects(text)
    if not found:
        return "no four location tokens in a row" if re.search(_LOC, text) else "no location token"
    if form == "start" and not _BOX.match(text):
        return "something before the box"
    counted = found if form == "objects" else found[:1]
    if mask:
        counted = [each for each in counted if each.indices]
        if not counted:
            return "no sixteen mask tokens after the box" if re.search(_SEG, text) else "no mask tokens"
        if form == "start" and not _BOX_AND_MASK.match(text):
            return "a blank between box and mask"
    if any(each.sound for each in counted):
        return ""
    return SWAPPED if any(each.swapped for each in counted) else "a box without area"


def skipped(text: str) -> str:
    """Which boxes of a text are left out though others are read, in a few words, or ''."""
    left = [each for each in objects(text) if not each.sound]
    if not left:
        return ""
    return f"have {SWAPPED}" if any(each.swapped for each in left) else "have a box without area"


def objects(text: str) -> list[Found]:
    """All `<loc>x4[<seg>x16] label` in the text, including boxes without area; labels stripped."""
    return [_found(match, match.group(21).strip()) for match in OBJECT.finditer(text)]


def labels(text: str) -> list[str]:
    """The labels of `objects`, which are made three times as fast."""
    return [match.group(21).strip() for match in OBJECT.finditer(text)]


def demo_objects(text: str) -> list[Found]:
    """The objects that the published demo finds (Hugging Face Space big-vision/paligemma-hf, extract_objs).

    Its oddities are kept: labels keep a blank before the separator, numbers may exceed 1023, and a line
    break before an object ends the parsing.
    """
    result, place = [], 0
    while match := _DEMO.match(text, place):
        found = _found(match, match.group(21) or "")
        result.append(found)
        place = match.end()
    return result


def _found(match: re.Match[str], label: str) -> Found:
    numbers = match.groups()[:20]
    indices = tuple(map(int, numbers[4:])) if numbers[4] is not None else ()
    return Found(tuple(map(int, numbers[:4])), indices, label, match.start(1))


# --- probabilities -----------------------------------------------------------------------------


def scored(boxes: Sequence[Box], found: Sequence[Found], prediction: Prediction) -> list[Box]:
    """The boxes with `score` and `class_score` from the prediction's log-probabilities.

    `score` is the mean log-probability of the object's tokens (locations, mask, label), `class_score`
    the mean probability of its label's. Needs no tokenizer: location ids form one block, and its start is
    the number with which the ids match the text. Returns the boxes unchanged if there are no
    log-probabilities or the ids do not match the text.
    """
    tokens, logprobs = prediction.tokens, prediction.logprobs
    if not logprobs or len(logprobs) != len(tokens):
        return list(boxes)
    matches = list(_SPECIAL.finditer(prediction.text))
    places = _places([_code(m) for m in matches], tokens)
    if places is None:
        return list(boxes)
    order = {match.start(): k for k, match in enumerate(matches)}
    spans: list[tuple[list[int], list[int]]] = []
    for each in found:
        k = order.get(each.start - len("<loc"))
        if k is None:
            return list(boxes)
        last = k + 3 + len(each.indices)
        following = places[last + 1] if last + 1 < len(places) else len(tokens)
        spans.append((places[k : last + 1], list(range(places[last] + 1, following))))
    tail = _separator([[tokens[i] for i in label] for _, label in spans[:-1]])
    result = []
    for n, (box, (special, label)) in enumerate(zip(boxes, spans, strict=True)):
        if n < len(spans) - 1:
            label = label[: max(1, len(label) - tail)]
        if not box.label:
            label = []
        used = [logprobs[i] for i in special + label]
        named = [math.exp(min(logprobs[i], 0.0)) for i in label]
        result.append(
            replace(
                box,
                score=math.fsum(used) / len(used),
                class_score=math.fsum(named) / len(named) if named else None,
            )
        )
    return result


def _code(match: re.Match[str]) -> int:
    """A special token's place in the block of ids: locations first, then mask indices."""
    loc, seg = match.groups()
    return int(loc) if loc is not None else LOCATIONS + int(seg)


def _places(codes: list[int], tokens: Sequence[int]) -> list[int] | None:
    """Where the special tokens are in `tokens`, or None if no start of the block matches."""
    if not codes:
        return None
    block = LOCATIONS + 128
    for start in dict.fromkeys(token - codes[0] for token in tokens):
        inside = [i for i, token in enumerate(tokens) if 0 <= token - start < block]
        if [tokens[i] - start for i in inside] == codes:
            return inside
    return None


def _separator(labels: list[list[int]]) -> int:
    """How many tokens at the end of each label's span belong to the " ; " before the next object.

    Counts the tokens that the spans of different labels have in common at their end. If all labels are
    equal this is unknown, and the answer is two, as PaliGemma's tokenizer splits " ; ".
    """
    distinct = {tuple(label) for label in labels}
    if len(distinct) < 2:
        return 2
    common = 0
    for column in zip(*(reversed(label) for label in distinct), strict=False):
        if len(set(column)) > 1:
            break
        common += 1
    return common
