"""Precision, recall and F1 of boxes or masks, for detectors that give no confidence to rank by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from evalkit.geometry import oddities, overlaps
from evalkit.provenance import version
from evalkit.stats import f1, parts
from evalkit.text import labels
from evalkit.types import Box, Breakdowns, Mask, Metric, Rows

NOTHING = "(background)"  # what was detected where no object is, and where an object was missed
OTHER = "(no category)"  # what a label is that names none
ANY = "(any)"  # every category when they are ignored


@dataclass(frozen=True)
class DetectionF1(Metric):
    """F1 of all detections of all images: a detection is right that overlaps its object by `iou` or more.

    Targets and answers as of coco_ap; the order of the answer does not matter. Within a category the pair
    that overlaps most is matched first, one to one. A detection that is left and lies in a crowd (`iscrowd`)
    of its category by `iou` or more is not counted, nor are crowds. A label that is no category is a wrong
    detection. Matching, with the leftovers across categories for the confusion matrix, is that of supervision
    0.31.2 (metrics/detection.py), except that exactly `iou` is enough, as in COCO.

    `figure`: f1, precision, recall, or count_error: the mean over images of how many detections there are too
    many or too few; an unreadable answer is off by one at least. `average`: f1 over all detections (micro),
    or the mean over categories that have an object or a detection (macro). `region`: whether boxes or masks
    are compared. `agnostic` ignores categories; `lowercase` ignores the case of labels.
    """

    iou: float = 0.5
    figure: Literal["f1", "precision", "recall", "count_error"] = "f1"
    average: Literal["micro", "macro"] = "micro"
    region: Literal["boxes", "masks"] = "boxes"
    agnostic: bool = False
    lowercase: bool = False

    wants: ClassVar[tuple[str, ...]] = ("boxes", "masks")
    takes: ClassVar[tuple[str, ...]] = ("objects",)
    columns: ClassVar[tuple[str, ...]] = ()
    undefined: ClassVar[str] = "no image has an object, and nothing is detected"

    def __post_init__(self) -> None:
        if not 0 < self.iou <= 1:
            raise ValueError(f"iou={self.iou}: must be above 0 and at most 1")
        if self.average == "macro" and self.figure != "f1":
            raise ValueError(f"average='macro' is of f1; leave it out with figure={self.figure!r}")
        overlaps.declare(self, self.region)
        if self.figure == "count_error":
            object.__setattr__(self, "maximum", None)
            object.__setattr__(self, "lower_is_better", True)

    def rows(self, answers: Sequence[Sequence[Box | Mask] | None], targets: Sequence[dict[str, Any]]) -> Rows:
        """One dict an image: `pairs`, each [category of the object, category of the detection] with one of
        the two "(background)" where it has no partner; `off`, how far the number of detections is off."""
        return [self._image(a, t) for a, t in zip(answers, targets, strict=True)]

    def reduce(self, rows: Rows, counts: npt.NDArray[Any] | None = None) -> float:
        """The figure; NaN where nothing is there and nothing detected."""
        if self.figure == "count_error":
            off = np.array([row["off"] for row in rows], dtype=np.float64)
            times = np.ones(len(off)) if counts is None else np.asarray(counts, dtype=np.float64)
            return float(off @ times / times.sum()) if times.sum() else float("nan")
        if self.average == "macro":
            return f1.table(rows, _of_categories).score("macro", counts)
        table = f1.table(rows, _counts)
        if self.figure == "f1":
            return table.score("micro", counts)
        found = f1.shares(table.sums(counts))
        return found.get(self.figure, 0.0 if found else float("nan"))

    def details(self, rows: Rows) -> dict[str, float]:
        """Precision, recall, F1 over all detections and its mean over categories."""
        table, own = f1.table(rows, _counts), f1.table(rows, _of_categories)
        found = {**f1.shares(table.sums()), "F1": table.score("micro"), "macro F1": own.score("macro")}
        return {name: value for name, value in found.items() if not np.isnan(value)}

    def breakdowns(self, rows: Rows) -> Breakdowns:
        """By class: precision, recall, F1, counts. Confusion: a row a true class, a column a detected one."""
        confusion: dict[str, dict[str, float]] = {}
        for row in rows:
            for wanted, given in row["pairs"]:
                cells = confusion.setdefault(wanted, {})
                cells[given] = cells.get(given, 0) + 1
        return {"class": f1.table(rows, _counts).classes(), "confusion": dict(sorted(confusion.items()))}

    def part_intervals(self, rows: Rows, index: npt.NDArray[np.intp]) -> Breakdowns:
        return {"class": parts.of_table(f1.table(rows, _counts), index)}

    def silent(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Images without an object or a detection, unless these are counted."""
        counted = self.figure == "count_error"
        return np.array([not row["pairs"] and not counted for row in rows], dtype=bool)

    def remarks(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Mapping[str, int]:
        if self.agnostic:
            return oddities.of(answers, targets)
        return oddities.of_objects(answers, targets, self.lowercase)

    def tools(self) -> str:
        return version("pycocotools")

    def _image(self, answer: Sequence[Box | Mask] | None, target: Mapping[str, Any]) -> dict[str, Any]:
        things = answer or ()
        given = [self._category(t.label, target["categories"]) for t in things]
        wanted = [ANY if self.agnostic else o["category"] for o in target["objects"]]
        crowd = np.array([bool(o.get("iscrowd", 0)) for o in target["objects"]], dtype=bool)
        near, _ = overlaps.of(things, target["objects"], target["size"], self.region)
        alike = np.array([[a == b for b in wanted] for a in given], dtype=bool).reshape(near.shape)
        found = overlaps.pairs(np.where(alike & ~crowd, near, 0.0), self.iou)
        left = np.where(alike | crowd, 0.0, near)
        for i, j in found:
            left[i], left[:, j] = 0.0, 0.0
        found += overlaps.pairs(left, self.iou)
        detected, matched = {i for i, _ in found}, {j for _, j in found}
        lying = (alike & crowd & (near >= self.iou)).any(axis=1)
        alone = [g for i, g in enumerate(given) if i not in detected and not lying[i]]
        missed = [w for j, w in enumerate(wanted) if j not in matched and not crowd[j]]
        off = abs(len(alone) - len(missed))
        pairs = [[wanted[j], given[i]] for i, j in found]
        pairs += [[NOTHING, name] for name in alone] + [[name, NOTHING] for name in missed]
        return {"pairs": sorted(pairs), "off": max(off, 1) if answer is None else off}

    def _category(self, label: str, names: Sequence[str]) -> str:
        return ANY if self.agnostic else labels.meant(label, names, self.lowercase) or OTHER


def _counts(row: Mapping[str, Any]) -> f1.Counts:
    """By category: how many are right, detected, there."""
    found: dict[str, list[int]] = {}
    for wanted, given in row["pairs"]:
        if wanted != NOTHING:
            found.setdefault(wanted, [0, 0, 0])[2] += 1
        if given != NOTHING:
            found.setdefault(given, [0, 0, 0])[1] += 1
        if wanted == given:
            found[wanted][0] += 1
    return found


def _of_categories(row: Mapping[str, Any]) -> f1.Counts:
    """`_counts` without the labels that are no category."""
    return {name: counts for name, counts in _counts(row).items() if name != OTHER}
