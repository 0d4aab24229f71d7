"""What is wrong with each answer, by kind: of texts, of one box or mask, of all objects of an image."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit import registry
from evalkit.geometry import boxes, overlaps
from evalkit.text import numbers
from evalkit.text.edit_distance import distance
from evalkit.types import Box, Size
from evalkit.viewer.shapes import Answer, PixelBox, Target

TEXTS: Mapping[str, str] = {
    "unreadable": "the parser reads no answer in it",
    "disputed": "one of the accepted answers, but not one that most gave",
    "empty": "nothing was answered",
    "spelling": "only case, blanks or punctuation differ: a metric that normalises would count it",
    "longer": "the target stands in it, with more around it",
    "shorter": "a part of the target",
    "another number": "both are numbers",
    "near": "one edit in five or fewer",
    "another text": "nothing of the above",
}
REGIONS: Mapping[str, str] = {
    "unreadable": "no box could be read",
    "elsewhere": f"an IoU below {0.1} with the target",
    "loose": f"an IoU from {0.1} to {boxes.HIT}",
}
LABEL = "label that is no category"
FAR, NEAR = 0.1, 0.2
LONG = 10_000  # characters from which on edits are not counted
NOTHING = "(background)"


@dataclass(frozen=True)
class Judged:
    """What is said of one answer; `right` is None where the metric's own score says it."""

    errors: tuple[str, ...] = ()
    iou: float = math.nan
    classes: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()  # of the target's class and the answered one
    right: float | None = None
    counts: str = ""  # of objects, in words
    quality: float = math.nan  # of an image's objects, see `quality`


CAPTIONS = ("cider", "bleu", "rouge_l", "meteor", "spice")
"""Metrics of free text, of which no answer is wrong in one of these ways."""


def texts(target: Target, answer: Answer, bad: bool, share: float, free: bool) -> Judged:
    """Of a text whose score is `share` of the best, 0 to 1 (NaN where it has none of its own); `free` is one
    that is scored by words, such as a caption."""
    if free:
        return Judged(("unreadable",) if bad else ())
    said = tidy(answer.text or "")
    wanted = [tidy(text) for text in target.texts]
    common = Counter(wanted).most_common(1)
    name = common[0][0] if common else ""
    pair = ((name, said or "(nothing)"),) if wanted else ()
    right = said in wanted if math.isnan(share) else share >= 1
    error = "" if right else _text_error(said, answer, wanted, bad, target.texts)
    return Judged((error,) if error else (), math.nan, (name,) if wanted else (), (said,), pair)


def _text_error(said: str, answer: Answer, wanted: Sequence[str], bad: bool, exact: Sequence[str]) -> str:
    if bad:
        return "unreadable"
    if not (answer.text or "").strip():
        return "empty"
    if answer.text in exact:
        return "disputed"
    if said in wanted:
        return "spelling"
    if any(text and re.search(rf"\b{re.escape(text)}\b", said) for text in wanted):
        return "longer"
    if said and any(re.search(rf"\b{re.escape(said)}\b", text) for text in wanted):
        return "shorter"
    if numbers.number(said) is not None and any(numbers.number(text) is not None for text in wanted):
        return "another number"
    near = (distance(said, text) <= NEAR * max(len(said), len(text)) for text in wanted[:10])
    if len(said) <= LONG and any(near):
        return "near"
    return "another text"


def tidy(text: str) -> str:
    """A text in lower case, without punctuation at its ends and with single blanks."""
    return " ".join(text.casefold().split()).strip(" .,:;!?'\"")


def region(target: Target, answer: Answer, bad: bool) -> Judged:
    """Of one box (or the box of one mask) that was asked for."""
    if bad or not answer.boxes or not target.boxes:
        return Judged(("unreadable",), 0.0)
    iou = max(_iou(answer.boxes[0], box) for box in target.boxes)
    error = "elsewhere" if iou < FAR else "loose" if iou < boxes.HIT else ""
    return Judged((error,) if error else (), iou)


def _iou(one: PixelBox, other: PixelBox) -> float:
    return boxes.iou((one[1], one[0], one[3], one[2]), (other[1], other[0], other[3], other[2]))


@dataclass(frozen=True)
class Objects:
    """Judges all objects of images, by the kinds of TIDE and the pairs of detection_f1."""

    names: tuple[str, ...]
    lowercase: bool = False

    def judge(
        self, targets: Sequence[Target], answers: Sequence[Answer], sizes: Sequence[Size | None]
    ) -> tuple[list[Judged], list[Any]]:
        """Of each image what is said, and TIDE's row (None without a size)."""
        there = [k for k, size in enumerate(sizes) if size is not None]
        known = [sizes[k] or (1, 1) for k in there]
        wanted = [self._wanted(k, targets[k], size) for k, size in zip(there, known, strict=True)]
        given = [_boxes(answers[k], size) for k, size in zip(there, known, strict=True)]
        rows = registry.make("metrics", f"tide(lowercase={self.lowercase})").rows(given, wanted)
        pairs = registry.make("metrics", f"detection_f1(lowercase={self.lowercase})").rows(given, wanted)
        near = overlaps.candidates(given, [w["objects"] for w in wanted], known, "boxes", 1e-6)
        found, every = [Judged() for _ in targets], [None] * len(targets)
        for k, row, pair, close in zip(there, rows, pairs, near, strict=True):
            every[k] = row
            found[k] = self._judged(targets[k], answers[k], row, pair["pairs"], close)
        return found, every

    def _wanted(self, at: int, target: Target, size: Size) -> dict[str, Any]:
        known = len(target.crowd) == len(target.boxes)
        crowd = target.crowd if known else (False,) * len(target.boxes)
        objects = [
            {"category": name, "box": (x0, y0, x1 - x0, y1 - y0), "iscrowd": int(aside)}
            for (x0, y0, x1, y1), name, aside in zip(target.boxes, target.labels or (), crowd, strict=False)
        ]
        return {"image_id": at, "size": size, "categories": self.names, "objects": objects}

    def _judged(
        self, target: Target, answer: Answer, row: Mapping[str, Any], pairs: Sequence[Sequence[str]],
        near: Sequence[Sequence[tuple[int, float]]],
    ) -> Judged:  # fmt: skip
        kinds = [box[3] for box in row["boxes"] if box[2] == 0]
        missed = sum(row["missed"].values())
        strange = len(answer.boxes) - len(row["boxes"])
        best = [0.0] * len(target.boxes)
        for label, some in zip(answer.labels, near, strict=True):
            for j, overlap in some:
                if (target.labels or ())[j] == label:
                    best[j] = max(best[j], overlap)
        errors = [*dict.fromkeys(kinds), *(["missed"] if missed else []), *([LABEL] if strange > 0 else [])]
        right = sum(a == b for a, b in pairs)
        counted = Counter(kinds) + Counter({"missed": missed, LABEL: max(strange, 0)})
        said = ", ".join(f"{n} {kind}" for kind, n in counted.items())
        return Judged(
            tuple(errors),
            sum(best) / len(best) if best else math.nan,
            tuple(dict.fromkeys(target.labels or ())),
            tuple(dict.fromkeys(answer.labels)),
            tuple((a, b) for a, b in pairs),
            float(not errors and all(a == b for a, b in pairs)),
            f"{right} of {len(target.boxes)} objects found" + (f"; {said}" if said else ""),
            quality(pairs, max(strange, 0), best),
        )


def quality(pairs: Sequence[Sequence[str]], strange: int, best: Sequence[float]) -> float:
    """How good an image's boxes are as a whole, 0 to 1, in hundredths: F1 of its objects times the mean IoU
    of those that were found, as panoptic quality (Kirillov et al., arXiv:1801.00868) is made. It falls
    with each miss, each box too many and each box that fits less well, also where AP does not.

    `pairs` of the true and the answered class, `strange` labels that are no category, and each target's
    `best` IoU with a box of its class.
    """
    right = sum(a == b for a, b in pairs)
    wrong = strange + sum(2 - (a == NOTHING or b == NOTHING) for a, b in pairs if a != b)
    if not right:
        return 0.0 if wrong else 1.0
    hits = [iou for iou in best if iou >= boxes.HIT]
    return round(2 * right / (2 * right + wrong) * (sum(hits) / len(hits) if hits else boxes.HIT), 2)


def _boxes(answer: Answer, size: Size) -> tuple[Box, ...]:
    return tuple(
        Box.of_pixels((x0, y0, x1 - x0, y1 - y0), size, label)
        for (x0, y0, x1, y1), label in zip(answer.boxes, answer.labels, strict=True)
    )
