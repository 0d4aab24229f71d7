"""The lines of rows.jsonl: what was asked and answered, for people and programs. Scores nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.types import Box, Confident, ImageRef, Mask, Prediction, Sample, Size


def line(
    sample: Sample,
    prediction: Prediction,
    answer: Any,
    invalid: bool,
    cluster: str,
    rows: Mapping[str, Any],
    root: Path | None,
) -> dict[str, Any]:
    """One sample as plain JSON; `rows` has its row of every metric. Images below `root` are named from there.

    Boxes are [x0, y0, x1, y1] in pixels of the original image, here and in the target.
    """
    image = "+".join(prediction.image_digests)
    paths = [str(ref).removeprefix(f"{root}/") for ref in sample.images]
    size = sample.size or (prediction.sizes[0] if prediction.sizes else None)
    return {
        "id": sample.id,
        "group": sample.group,
        "image": image,
        **({"cluster": cluster} if cluster != image else {}),
        **({"invalid": True} if invalid else {}),
        "image_path": paths[0] if len(paths) == 1 else paths,
        **({"drawn": drawn} if any(drawn := [_drawn(ref) for ref in sample.images]) else {}),
        **({"question": sample.fields["question"]} if "question" in sample.fields else {}),
        "prompt": prediction.prompt,
        "target": _target(sample.target),
        "text": prediction.text,
        **({} if (sure := Confident.of(answer, prediction).probability()) is None else {"probability": sure}),
        **answered(answer, size),
        "rows": {m: r.tolist() if isinstance(r, np.ndarray) else r for m, r in rows.items()},
    }


def answered(answer: Any, size: Size | None) -> dict[str, Any]:
    """An answer as plain JSON, and its boxes in pixels of an image of this size."""
    boxes = _boxes(answer, size)
    return {"answer": shown(answer), **({"boxes": boxes} if boxes is not None else {})}


def _drawn(ref: ImageRef) -> dict[str, Any]:
    """What is drawn on an image before a model sees it, and its quarter turns; {} for most images. A font is
    left out: its place is of this machine."""
    marks = [
        {
            f.name: value
            for f in fields(mark)
            if f.name != "font" and (value := getattr(mark, f.name)) != f.default
        }
        for mark in ref.marks
    ]
    return {**({"marks": marks} if marks else {}), **({"turn": ref.turn} if ref.turn % 4 else {})}


def shown(answer: Any) -> Any:
    """An answer as plain JSON: boxes as fractions of the image and labels, with the geometric mean of their
    tokens' probabilities where these were kept; masks by box and size."""
    if isinstance(answer, (tuple, list)):
        return [shown(a) for a in answer]
    if isinstance(answer, Box):
        known = {"probability": round(math.exp(answer.score), 6)} if answer.score <= 0 else {}
        return {"box": [round(c, 6) for c in answer.coordinates], "label": answer.label, **known}
    if isinstance(answer, Mask):
        return {
            **shown(answer.box),
            "label": answer.label,
            "rle": {"size": answer.size, "counts": answer.counts},
        }
    return answer


def _boxes(answer: Any, size: Size | None) -> list[list[float]] | None:
    """The boxes of an answer of boxes or masks in pixels; None for other answers or without a size."""
    some = answer if isinstance(answer, (tuple, list)) else []
    found = [a.box if isinstance(a, Mask) else a for a in some]
    if size is None or not found or not all(isinstance(box, Box) for box in found):
        return None
    height, width = size
    return [
        _rounded(x0 * width, y0 * height, x1 * width, y1 * height)
        for y0, x0, y1, x1 in (box.coordinates for box in found)
    ]


def _target(target: Any) -> Any:
    """A target as plain JSON: texts, or an image's size with its boxes, labels and crowd flags; the points of
    masks are left out."""
    if type(target) is tuple and set(map(type, target)) == {str}:  # as nearly all are
        return list(target)
    if not isinstance(target, Mapping) or "size" not in target or "words" in target:
        return json.loads(json.dumps(target, default=str))  # own formats may give anything
    if "objects" in target:
        some = target["objects"]
        return {
            "size": list(target["size"]),
            "boxes": [_corners(entry["box"]) for entry in some],
            "labels": [entry["category"] for entry in some],
            "iscrowd": [entry["iscrowd"] for entry in some],
        }
    plain = {key: value for key, value in target.items() if key not in ("box", "segmentation")}
    plain["size"] = list(target["size"])
    if "box" in target:
        y0, x0, y1, x1 = target["box"]
        plain["boxes"] = [_rounded(x0, y0, x1, y1)]
    return plain


def _corners(box: Sequence[float]) -> list[float]:
    x, y, width, height = box
    return _rounded(x, y, x + width, y + height)


def _rounded(*numbers: float) -> list[float]:
    return [round(float(number), 2) for number in numbers]
