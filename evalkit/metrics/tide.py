"""TIDE: average precision at one IoU, and what each kind of error costs of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from evalkit.geometry import oddities, overlaps
from evalkit.provenance import version
from evalkit.text import labels
from evalkit.types import Box, Breakdowns, Mask, Metric, Rows

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

ERRORS = ("classification", "localisation", "both", "duplicate", "background", "missed")
MOST = 100  # detections of one image that count
RECALLS = np.arange(101) / 100
RIGHT, WRONG, IGNORED = 1, 0, -1


@dataclass(frozen=True)
class Tide(Metric):
    """AP at `iou`, the mean over categories; `error` has the count and the ΔAP of each kind of error.

    Bolya et al. 2020 (arXiv:2008.08115), package tidecv 1.0.1, with targets, answers, `rank`, `region` and
    `lowercase` as of coco_ap. A wrong detection is the first that holds of: localisation (of its category, at
    `background` to `iou`), classification (of another category, at `iou` or more), duplicate (of an object
    that is found already), background (at most `background` with anything), both. An object that no detection
    found and none of the first two could find is missed. ΔAP is what AP would gain if the errors of a kind
    were mended: corrected where the object has no better detection, else taken away. Each is mended alone, so
    they do not add up. `false positive`: all wrong ones last; `false negative`: no object that is not found.

    Kept: the 100 best detections of an image count, a category with detections and no object has AP 0, a
    negative ΔAP is 0. Detections of equal scores keep one order, by image, while the package puts the wrong
    ones first when it mends; a score may be below -1, where the package cannot mend.
    """

    iou: float = 0.5
    background: float = 0.1
    rank: Literal["constant", "logprob", "class"] = "constant"
    region: Literal["boxes", "masks"] = "boxes"
    lowercase: bool = False

    wants: ClassVar[tuple[str, ...]] = ("boxes", "masks")
    takes: ClassVar[tuple[str, ...]] = ("objects",)
    columns: ClassVar[tuple[str, ...]] = ()
    undefined: ClassVar[str] = "no image has an object, and nothing is detected"

    def __post_init__(self) -> None:
        if not 0 < self.background < self.iou <= 1:
            raise ValueError(
                f"background={self.background}, iou={self.iou}: 0 < background < iou <= 1 must hold"
            )
        overlaps.declare(self, self.region)

    def rows(self, answers: Sequence[Sequence[Box | Mask] | None], targets: Sequence[dict[str, Any]]) -> Rows:
        """One dict an image: `image`; by category `objects`, `unfound` and `missed`; `boxes`, each [category,
        score, right (1), wrong (0) or ignored (-1), kind of error, category that mending gives it or ""]."""
        best = [self._best(a or (), t["categories"]) for a, t in zip(answers, targets, strict=True)]
        near = overlaps.candidates(
            [[thing for _, _, thing in some] for some in best],
            [t["objects"] for t in targets],
            [t["size"] for t in targets],
            self.region,
            self.background,
        )
        return [self._image(*each) for each in zip(best, targets, near, strict=True)]

    def reduce(self, rows: Rows, counts: npt.NDArray[Any] | None = None) -> float:
        points = _prepare(rows)
        drawn = points if counts is None else points.drawn(np.asarray(counts, dtype=np.intp))
        return drawn.ap(drawn.right != IGNORED, drawn.right == RIGHT)

    def details(self, rows: Rows) -> dict[str, float]:
        """The ΔAP of each kind of error."""
        return {f"ΔAP {name}": gain for name, (_, gain) in self._gains(rows).items()}

    def breakdowns(self, rows: Rows) -> Breakdowns:
        """By error: how many, and the ΔAP."""
        return {"error": {name: {"n": n, "ΔAP": gain} for name, (n, gain) in self._gains(rows).items()}}

    def silent(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Images without an object or a detection."""
        return np.array([not row["boxes"] and not row["objects"] for row in rows], dtype=bool)

    def remarks(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Mapping[str, int]:
        return oddities.of_objects(answers, targets, self.lowercase)

    def tools(self) -> str:
        return version("pycocotools")

    def _gains(self, rows: Rows) -> dict[str, tuple[int, float]]:
        points = _prepare(rows)
        alone, right, here = points.right == WRONG, points.right == RIGHT, points.right != IGNORED
        whole = points.ap(here, right)
        found = {}
        for kind, name in enumerate(ERRORS[:-1]):
            of_kind = (points.error == kind) & ~right
            mended = of_kind & (points.mended >= 0)
            category = np.where(mended, points.mended, points.category)
            value = points.ap((here & ~of_kind) | mended, right | mended, category)
            found[name] = int(of_kind.sum()), max(value - whole, 0.0)
        missed = points.ap(here, right, objects=points.objects - points.missed)
        found["missed"] = int(points.missed.sum()), max(missed - whole, 0.0)
        last = points.ap(here, right, score=np.where(right, 1.0, 0.0))
        found["false positive"] = int(alone.sum()), max(last - whole, 0.0)
        unfound = points.ap(here, right, objects=points.objects - points.unfound)
        found["false negative"] = int(points.unfound.sum()), max(unfound - whole, 0.0)
        return found if not np.isnan(whole) else {}

    def _score(self, thing: Box | Mask) -> float:
        box = thing.box if isinstance(thing, Mask) else thing
        if self.rank == "class" and box.class_score is not None:
            return box.class_score
        return box.score if self.rank == "logprob" else 1.0

    def _best(
        self, answer: Sequence[Box | Mask], names: Sequence[str]
    ) -> list[tuple[str, float, Box | Mask]]:
        """(category, score, detection) of those that count, the best first."""
        named = [(labels.meant(t.label, names, self.lowercase), self._score(t), t) for t in answer]
        found = [(name, score, t) for name, score, t in named if name is not None]
        return sorted(found, key=lambda each: -each[1])[:MOST]

    def _image(
        self,
        best: Sequence[tuple[str, float, Box | Mask]],
        target: Mapping[str, Any],
        near: Sequence[Sequence[tuple[int, float]]],
    ) -> dict[str, Any]:
        names, scores = [name for name, _, _ in best], [score for _, score, _ in best]
        wanted = [o["category"] for o in target["objects"]]
        crowd = [bool(o.get("iscrowd", 0)) for o in target["objects"]]
        pairs = [
            [(j, v, name == wanted[j]) for j, v in some if not crowd[j]]
            for name, some in zip(names, near, strict=True)
        ]
        lying = [
            any(crowd[j] and v > self.iou and name == wanted[j] for j, v in some)
            for name, some in zip(names, near, strict=True)
        ]
        partner = _matched(pairs, self.iou)
        errors = self._errors(pairs, partner)
        used = set(partner)
        mended, usable = _mended(errors, used, scores)
        lines = [
            [
                name,
                score,
                RIGHT if mine >= 0 else IGNORED if ignored else WRONG,
                kind,
                wanted[j] if j >= 0 else "",
            ]
            for name, score, mine, ignored, (kind, _), j in zip(
                names, scores, partner, lying, errors, mended, strict=True
            )
        ]
        unfound = [j for j in range(len(wanted)) if j not in used and not crowd[j]]
        return {
            "image": target["image_id"],
            "objects": _counted(name for name, aside in zip(wanted, crowd, strict=True) if not aside),
            "unfound": _counted(wanted[j] for j in unfound),
            "missed": _counted(wanted[j] for j in unfound if j not in usable),
            "boxes": lines,
        }

    def _errors(self, pairs: Sequence[Sequence[_Pair]], partner: Sequence[int]) -> list[tuple[str, int]]:
        """(kind of error, object that mending is about or -1) of each detection; ("", -1) of a right one."""
        used, found = set(partner), []
        for near, mine in zip(pairs, partner, strict=True):
            if mine >= 0:
                found.append(("", -1))
                continue
            own, other = _most([p for p in near if p[2]]), _most([p for p in near if not p[2]])
            if self.background <= own[1] <= self.iou:
                found.append(("localisation", own[0]))
            elif other[1] >= self.iou:
                found.append(("classification", other[0]))
            elif any(overlap >= self.iou and alike and j in used for j, overlap, alike in near):
                found.append(("duplicate", -1))
            else:
                far = max(own[1], other[1]) <= self.background
                found.append(("background" if far else "both", -1))
        return found


_Pair = tuple[int, float, bool]  # object, overlap, whether it is of the detection's category


def _most(pairs: Iterable[_Pair]) -> _Pair:
    """The pair that overlaps most, the first of equal ones; overlap 0 without any."""
    best: _Pair = (-1, 0.0, False)
    for pair in pairs:
        if pair[1] > best[1]:
            best = pair
    return best


def _matched(pairs: Sequence[Sequence[_Pair]], iou: float) -> list[int]:
    """Each detection's object, the best detection first: of those left the one that it overlaps most, by
    `iou` or more; else -1."""
    taken, partner = set[int](), []
    for near in pairs:
        j, overlap, _ = _most([p for p in near if p[2] and p[0] not in taken])
        partner.append(j if overlap >= iou else -1)
        taken.add(partner[-1])
    return partner


def _mended(
    errors: Sequence[tuple[str, int]], used: Collection[int], scores: Sequence[float]
) -> tuple[list[int], set[int]]:
    """The object that mending gives each detection, or -1: the best detection alone of those whose error is
    about an unfound object; and these objects."""
    best: dict[int, int] = {}
    for i, (_, j) in enumerate(errors):
        if j >= 0 and j not in used and (j not in best or scores[i] > scores[best[j]]):
            best[j] = i
    return [j if j >= 0 and best.get(j) == i else -1 for i, (_, j) in enumerate(errors)], set(best)


def _counted(names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return found


# --- accumulation ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Points:
    """All detections, image by image; categories and errors as numbers."""

    rows: Ints  # (images,): each image's place in the rows
    starts: Ints  # (images,): where each image's detections begin
    lengths: Ints  # (images,)
    category: Ints
    score: Floats
    right: Ints
    error: Ints
    mended: Ints  # the category that mending gives, -1: none
    own: Ints  # (images, categories): objects of each image
    objects: Ints  # (categories,)
    unfound: Ints
    missed: Ints

    def drawn(self, counts: Ints) -> _Points:
        """The points when each image is drawn `counts` times, copies next to each other. Only what AP
        needs."""
        counts = counts[self.rows]
        starts, lengths = np.repeat(self.starts, counts), np.repeat(self.lengths, counts)
        offset = np.cumsum(lengths) - lengths
        at = np.arange(int(lengths.sum())) + np.repeat(starts - offset, lengths)
        return replace(
            self, category=self.category[at], score=self.score[at], right=self.right[at],
            error=self.error[at], mended=self.mended[at], objects=counts @ self.own,
        )  # fmt: skip

    def ap(
        self,
        kept: npt.NDArray[np.bool_],
        right: npt.NDArray[np.bool_],
        category: Ints | None = None,
        score: Floats | None = None,
        objects: Ints | None = None,
    ) -> float:
        """The mean AP over categories with an object or a kept detection; NaN without any."""
        objects = self.objects if objects is None else objects
        at = np.flatnonzero(kept)
        names = (self.category if category is None else category)[at]
        order = np.lexsort((-(self.score if score is None else score)[at], names))
        names, right = names[order], right[at][order]
        bounds = np.searchsorted(names, np.arange(len(objects) + 1))
        found = [
            _ap(right[bounds[k] : bounds[k + 1]], int(total))
            for k, total in enumerate(objects)
            if total > 0 or bounds[k] < bounds[k + 1]
        ]
        return float(np.mean(found)) if found else float("nan")


def _ap(right: npt.NDArray[np.bool_], objects: int) -> float:
    """101-point interpolated precision of detections in their order."""
    if objects <= 0 or not right.any():
        return 0.0
    found = np.cumsum(right)
    precision = found / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(found / objects, RECALLS, side="left")
    return float(precision[places[places < len(precision)]].sum() / len(RECALLS))


_last: list[tuple[Any, _Points]] = []  # a bootstrap reduces the same rows hundreds of times


def _prepare(rows: Any) -> _Points:
    if not _last or _last[0][0] is not rows:
        _last[:] = [(rows, _points(rows))]
    return _last[0][1]


def _points(rows: Sequence[Mapping[str, Any]]) -> _Points:
    order = sorted(range(len(rows)), key=lambda i: rows[i]["image"])
    place = {name: k for k, name in enumerate(sorted(set(_names(rows))))}
    kinds = {name: k for k, name in enumerate(ERRORS)}
    lengths = np.zeros(len(rows), dtype=np.intp)
    starts = np.zeros(len(rows), dtype=np.intp)
    counts = {
        key: np.zeros((len(rows), len(place)), dtype=np.intp) for key in ("objects", "unfound", "missed")
    }
    boxes: list[list[Any]] = []
    for at, i in enumerate(order):
        starts[at], lengths[at] = len(boxes), len(rows[i]["boxes"])
        boxes += rows[i]["boxes"]
        for key, table in counts.items():
            for name, n in rows[i][key].items():
                table[at, place[name]] = n
    return _Points(
        rows=np.array(order, dtype=np.intp),
        starts=starts,
        lengths=lengths,
        category=np.array([place[b[0]] for b in boxes], dtype=np.intp),
        score=np.array([b[1] for b in boxes], dtype=np.float64),
        right=np.array([b[2] for b in boxes], dtype=np.intp),
        error=np.array([kinds.get(b[3], -1) for b in boxes], dtype=np.intp),
        mended=np.array([place.get(b[4], -1) for b in boxes], dtype=np.intp),
        own=counts["objects"],
        **{key: table.sum(axis=0) for key, table in counts.items()},
    )


def _names(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield from row["objects"]
        for box in row["boxes"]:
            yield from (box[0], box[4]) if box[4] else (box[0],)
