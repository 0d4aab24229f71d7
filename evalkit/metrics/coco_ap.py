"""COCO's average precision of boxes or masks, equal to pycocotools' COCOeval."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from evalkit.geometry import boxes as box_geometry
from evalkit.geometry import oddities, overlaps
from evalkit.provenance import version
from evalkit.registry import ADDED
from evalkit.stats import f1, parts
from evalkit.stats.average_precision import (
    AREAS,
    FIGURES,
    MOST,
    Floats,
    bounds_of,
    counts_of,
    curve_of,
    figures_of,
    prepare,
)
from evalkit.text import labels
from evalkit.types import Box, Breakdowns, Mask, Metric, Rows

THRESHOLDS = np.linspace(0.5, 0.95, 10)
_STEPS = [round(t, 2) for t in THRESHOLDS.tolist()]
_LIMITS = [min(t, 1 - 1e-10) for t in THRESHOLDS.tolist()]
MOST_CLASSES = 200  # whose AP gets an interval each
_ANY = ""  # stands for every category when categories are ignored


@dataclass(frozen=True)
class CocoAp(Metric):
    """Mean over categories and IoU thresholds .50:.05:.95 of 101-point interpolated precision.

    Targets: `{"size": (h, w), "image_id": int, "categories": names of all, "objects": [{"category",
    "box": (x, y, w, h) pixels, "area", "iscrowd", "segmentation" for masks}]}`; answers are tuples of
    boxes or masks whose labels are category names (others are skipped, as in COCOeval).

    `rank` is what the detections are sorted by: constant (the order in the text, images by their id),
    logprob (mean log-probability of a box's tokens) or class (mean probability of its label's tokens).
    `region` says whether boxes or masks are compared; `agnostic` ignores categories (useCats = 0).
    `lowercase`: a label that is no category as it stands is one whose name is equal in lower case.
    `iou`: AP at this threshold alone, .5 for AP50 (PASCAL VOC's, with COCO's interpolation), .75 for AP75.

    pycocotools 2.0.11 cocoeval.py. Its special cases are kept: an explicit `ignore` flag is overwritten
    by `iscrowd`, equal scores stay in image order, the later of two equal overlaps is matched. Where it
    gives -1 (no object of that kind) the score is NaN, and a detail is left out.
    """

    rank: Literal["constant", "logprob", "class"] = "constant"
    region: Literal["boxes", "masks"] = "boxes"
    agnostic: bool = False
    lowercase: bool = field(default=False, metadata=ADDED)
    iou: float | None = field(default=None, metadata=ADDED)

    wants: ClassVar[tuple[str, ...]] = ("boxes", "masks")
    takes: ClassVar[tuple[str, ...]] = ("objects",)
    columns: ClassVar[tuple[str, ...]] = ()
    undefined: ClassVar[str] = "no image has an object"

    def __post_init__(self) -> None:
        if self.iou is not None and self.iou not in _STEPS:
            raise ValueError(f"iou={self.iou} is not one of {', '.join(map(str, _STEPS))}")
        overlaps.declare(self, self.region)

    def rows(self, answers: Sequence[Sequence[Box | Mask] | None], targets: Sequence[dict[str, Any]]) -> Rows:
        """One dict per image: `image`, `objects` {category: how many in each area range}, `boxes`, `offset`.

        Each of `boxes` is [category, score, matched, ignored]; the last two are bit sets over area
        ranges (ten bits each, from the lowest: all, small, medium, large) and thresholds. `offset` is
        the row of `offsets`: over every box and the object that it overlaps most, if by .5 or more.
        """
        return [self._image(a or (), t) for a, t in zip(answers, targets, strict=True)]

    def offsets(self, rows: Rows) -> Floats | None:
        if not all("offset" in row for row in rows):  # written by an older evalkit
            return None
        return np.array([row["offset"] for row in rows], dtype=np.float64).reshape(len(rows), 3)

    def reduce(self, rows: Rows, counts: npt.NDArray[Any] | None = None) -> float:
        """AP; `counts` (n,) says how often each image is drawn."""
        prepared = prepare(rows)
        curves = [curve_of(one, counts) for _, one in prepared.categories]
        prepared.keep(counts, curves)
        found = [curve[0] for curve in curves if curve is not None]
        if found and self.iou is not None:
            found = [precision[_STEPS.index(self.iou)] for precision in found]
        return float(np.mean(found)) if found else float("nan")

    def details(self, rows: Rows) -> dict[str, float]:
        """AP50, AP75, AP by area, and the recalls AR1, AR10, AR100 and by area."""
        prepared = prepare(rows)
        every = list(prepared.curves())
        found = {
            "AP50": [precision[0] for precision, _ in every],
            "AP75": [precision[5] for precision, _ in every],
        }
        for most in (1, 10, 100):
            found[f"AR{most}"] = [recall for _, recall in prepared.curves(most=most)]
        for n, name in enumerate(AREAS):
            if n:
                ranged = list(prepared.curves(area=n))
                found[f"AP_{name}"] = [precision for precision, _ in ranged]
                found[f"AR_{name}"] = [recall for _, recall in ranged]
        return {name: float(np.mean(values)) for name, values in found.items() if values}

    def breakdowns(self, rows: Rows) -> Breakdowns:
        """By class: AP, AP50, AR100; at an IoU of .5 precision, recall and F1 of all detections; counts."""
        found = dict[str, dict[str, float]]()
        for name, one in prepare(rows).categories:
            curve = curve_of(one)
            known = dict(zip(FIGURES, figures_of(curve).tolist(), strict=True)) if curve else {}
            found[name or "(any)"] = known | f1.figures(counts_of(one).sum(axis=0))
        return {"class": found}

    def part_intervals(self, rows: Rows, index: npt.NDArray[np.intp]) -> Breakdowns:
        """By class as `breakdowns`; with more than `MOST_CLASSES` classes AP, AP50 and AR100 have none, since
        a bootstrap of each takes long."""
        prepared = prepare(rows)
        found = {name or "(any)": parts.of_counts(counts_of(one), index) for name, one in prepared.categories}
        if len(found) <= MOST_CLASSES:
            drawn = functools.cache(lambda: prepared.drawn(index))
            for place, (name, one) in enumerate(prepared.categories):
                found[name or "(any)"] |= bounds_of(one, index, lambda k=place: drawn()[:, k])  # type: ignore[misc]
        return {"class": found}

    def silent(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Images without an object or a detection."""
        found = [not row["boxes"] and not any(n[0] for n in row["objects"].values()) for row in rows]
        return np.array(found, dtype=bool)

    def tools(self) -> str:
        return version("pycocotools")

    def _image(self, answer: Sequence[Box | Mask], target: dict[str, Any]) -> dict[str, Any]:
        wanted: dict[str, list[dict[str, Any]]] = {}
        known = {name: n for n, name in enumerate(target["categories"])}
        # COCOeval without categories takes the objects category by category.
        for each in sorted(target["objects"], key=lambda o: known[o["category"]]):
            wanted.setdefault(_ANY if self.agnostic else each["category"], []).append(each)
        given: dict[str, list[Box | Mask]] = {}
        labelled = [
            (name, t) for t in answer if (name := labels.meant(t.label, known, self.lowercase)) is not None
        ]
        for name, thing in sorted(labelled, key=lambda pair: known[pair[0]]):
            given.setdefault(_ANY if self.agnostic else name, []).append(thing)
        objects, boxes = {}, []
        offset = np.zeros(3)
        for name in sorted(wanted.keys() | given.keys()):
            things = sorted(given.get(name, ()), key=self._score, reverse=True)[:MOST]
            counted, bits, moved = self._match(things, wanted.get(name, []), target["size"])
            objects[name] = counted
            offset += moved
            boxes += [[name, self._score(t), *b] for t, b in zip(things, bits, strict=True)]
        row = {"image": target["image_id"], "objects": objects, "boxes": boxes}
        return {**row, "offset": offset.tolist()}

    def remarks(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> dict[str, int]:
        return oddities.of_objects(answers, targets, self.lowercase)

    def _score(self, thing: Box | Mask) -> float:
        box = thing.box if isinstance(thing, Mask) else thing
        if self.rank == "logprob":
            return box.score
        if self.rank == "class" and box.class_score is not None:
            return box.class_score
        return 1.0

    def _match(
        self, things: Sequence[Box | Mask], objects: Sequence[dict[str, Any]], size: tuple[int, int]
    ) -> tuple[list[int], list[tuple[int, int]], Floats]:
        """(objects that count in each area range, (matched, ignored) of each detection, `_moved`)."""
        crowd = [int(o.get("iscrowd", 0)) for o in objects]
        passed = [
            [bool(c) or not low <= o["area"] <= high for c, o in zip(crowd, objects, strict=True)]
            for low, high in AREAS.values()
        ]
        counted = [len(objects) - sum(p) for p in passed]
        if not things:
            return counted, [], np.zeros(3)
        near, areas = overlaps.of(things, objects, size, self.region)
        pairs = _candidates(near)
        result = [(0, 0)] * len(things)
        for n, (low, high) in enumerate(AREAS.values()):
            for i, (matched, ignored) in enumerate(_assign(pairs, crowd, passed[n], len(things))):
                if not low <= areas[i] <= high:
                    ignored |= ~matched & 0x3FF
                result[i] = (result[i][0] | matched << 10 * n, result[i][1] | ignored << 10 * n)
        return counted, result, _moved(pairs, crowd, things, objects, size)


def _moved(
    pairs: list[list[tuple[int, float]]], crowd: list[int], things: Any, objects: Any, size: tuple[int, int]
) -> Floats:
    """Summed steps down and right between detections and the objects they overlap most, and how many."""
    result = np.zeros(3)
    for thing, near in zip(things, pairs, strict=False):  # no pairs where there are no objects
        near = [pair for pair in near if not crowd[pair[0]]]
        if near:
            x, y, width, height = objects[max(near, key=lambda pair: pair[1])[0]]["box"]
            box = thing.box if isinstance(thing, Mask) else thing
            there = box_geometry.fractions((y, x, y + height, x + width), size)
            result += (*box_geometry.shift(box.coordinates, there), 1.0)
    return result


# --- matching ----------------------------------------------------------------------------------


def _candidates(near: Floats) -> list[list[tuple[int, float]]]:
    """For each detection, the (object, overlap) pairs that pass the lowest threshold; [] without objects."""
    if not near.size:
        return []
    found: list[list[tuple[int, float]]] = [[] for _ in range(len(near))]
    rows, columns = np.nonzero(near >= _LIMITS[0])
    for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
        found[i].append((j, float(near[i, j])))
    return found


def _assign(
    pairs: list[list[tuple[int, float]]], crowd: list[int], passed: list[bool], detections: int
) -> list[tuple[int, int]]:
    """(matched, ignored) of each detection as ten bits, one per threshold, for one area range."""
    matched, ignored = [0] * detections, [0] * detections
    taken = [j for near in pairs for j, _ in near]
    if all(len(near) < 2 for near in pairs) and len(set(taken)) == len(taken):  # nothing contested
        for i, near in enumerate(pairs):
            for j, overlap in near:
                matched[i] = (1 << sum(overlap >= limit for limit in _LIMITS)) - 1
                ignored[i] = matched[i] if passed[j] else 0
        return list(zip(matched, ignored, strict=True))
    # Objects that count come first, else in their order; a match with one is never given up for one that
    # doesn't count.
    ordered = [sorted(near, key=lambda pair: passed[pair[0]]) for near in pairs]
    for n, limit in enumerate(_LIMITS):
        gone: set[int] = set()
        for i, near in enumerate(ordered):
            best, best_overlap = -1, limit
            for j, overlap in near:
                if j in gone and not crowd[j]:
                    continue
                if best >= 0 and not passed[best] and passed[j]:
                    break
                if overlap >= best_overlap:
                    best, best_overlap = j, overlap
            if best >= 0:
                gone.add(best)
                matched[i] |= 1 << n
                ignored[i] |= passed[best] << n
    return list(zip(matched, ignored, strict=True))
