"""One sample as the page shows it: pictures, prompt, target, and what each run answered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.printing import cut
from evalkit.types import Size
from evalkit.viewer import shapes
from evalkit.viewer.pictured import Pictured, pictured
from evalkit.viewer.pictures import Picture, Pictures
from evalkit.viewer.shapes import Answer, Target
from evalkit.viewer.stream import Line


@dataclass(frozen=True)
class Said:
    """One run's line of a sample, read."""

    line: Line
    answer: Answer
    stop: str
    margin: float
    invalid: str  # why the answer is unreadable, or ''
    remark: str  # what else is odd about it
    scores: tuple[tuple[str, float], ...]
    why: tuple[tuple[str, str], ...] = ()
    fields: tuple[tuple[str, str, str, bool], ...] | None = None


@dataclass(frozen=True)
class Shown:
    """One sample, read."""

    id: str
    target: Target
    size: Size | None
    said: tuple[Said | None, ...]
    masks: tuple[tuple[str, str], ...] = ()  # of the target: outline and label

    @property
    def line(self) -> Line:
        """The line of the first run that has the sample."""
        return next(said.line for said in self.said if said is not None)


def record(shown: Shown, sides: int, of: Sequence[int], pictures: Pictures) -> dict[str, Any]:
    """The sample for the page; `of` says which of the report's `sides` each run is."""
    line, target = shown.line, shown.target
    runs: list[Any] = [None] * sides
    for side, said in zip(of, shown.said, strict=True):
        runs[side] = None if said is None else _answered(said)
    question = line.get("question")
    return {
        "id": shown.id,
        "question": None if question is None else cut(str(question), shapes.SHORT),
        "prompt": cut(str(line.get("prompt", "")), shapes.SHORT),
        "group": line["group"],
        "images": [
            _image(image, pictures, None if number else target.size or shown.size, bool(target.size))
            for number, image in enumerate(pictured(line))
        ],
        "target": {
            "texts": [cut(text, shapes.LONGEST) for text in target.texts],
            "boxes": _labelled(target.boxes, target.labels),
            "masks": [{"path": path, "label": label} for path, label in shown.masks],
            "other": [list(pair) for pair in target.other],
        },
        "runs": runs,
    }


def _answered(said: Said) -> dict[str, Any]:
    boxes = _labelled(said.answer.boxes, said.answer.labels)
    return {
        "answer": cut(said.line["text"], shapes.LONGEST),
        "parsed": cut(shapes.parsed(said.answer), shapes.LONGEST),
        "boxes": [[*box, sure] for box, sure in zip(boxes, said.answer.sure, strict=True)],
        "masks": shapes.outlines_of(said.answer),
        "stop": said.stop,
        "margin": None if math.isnan(said.margin) else round(said.margin, 5),
        "invalid": said.invalid,
        "remark": said.remark,
        "scores": [[metric, None if math.isnan(value) else round(value, 6)] for metric, value in said.scores],
        "why": [list(pair) for pair in said.why],
        "fields": None if said.fields is None else [list(field) for field in said.fields],
    }


def _labelled(boxes: Sequence[shapes.PixelBox], labels: Sequence[str] | None) -> list[list[Any]]:
    names = labels or [""] * len(boxes)
    return [[*(round(side, 2) for side in box), name] for box, name in zip(boxes, names, strict=True)]


def _image(image: Pictured, pictures: Pictures, size: Size | None, stated: bool) -> dict[str, Any]:
    """An image; `size` is what boxes are pixels of, where the annotations have it `stated`: then it is that
    even of a file of another size."""
    found, name = pictures.get(image.key), image.path
    if isinstance(found, Picture):
        height, width = size if stated and size is not None else found.size
        shown = {"src": found.src, "width": width, "height": height, "name": name}
        return {**shown, "drawn": image.words} if image.words else shown
    height, width = size or (0, 0)
    return {"src": None, "width": width, "height": height, "name": name, "missing": found}


def without_content(full: Mapping[str, Any]) -> dict[str, Any]:
    """A record that may be passed on: no picture, no name of a file, no question, prompt, target or answer;
    boxes, scores and what is counted stay."""
    target = full["target"]
    return {
        **full,
        "question": None,
        "prompt": "",
        "images": [{**image, "src": None, "name": "", "missing": ""} for image in full["images"]],
        "target": {"texts": [], "boxes": _unnamed(target["boxes"]), "masks": [], "other": []},
        "runs": [run and {**run, **_WITHHELD, "boxes": _unnamed(run["boxes"])} for run in full["runs"]],
    }


_WITHHELD: dict[str, Any] = {
    "answer": "",
    "parsed": "",
    "why": [],
    "fields": None,
    "masks": [],
    "invalid": "",
    "remark": "",
}


def _unnamed(boxes: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [[*box[:4], "", *box[5:]] for box in boxes]
