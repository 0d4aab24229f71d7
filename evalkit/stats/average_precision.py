"""From matched detections to COCO's average precision: of all images, of resamples, and of each class."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.stats import intervals, parts

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Curve = tuple[Floats, Floats]  # of one category: precision, and recall at the end, over thresholds
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
MOST = 100  # detections of one category that count in one image
FIGURES = ("AP", "AP50", "AR100")  # of each class


@dataclass(frozen=True)
class Category:
    """One category's detections, best first: columns image, run, rank, matched, ignored."""

    image: Ints  # its index among the rows
    run: Ints  # detections of one image and equal score share a run, drawn again as a whole
    rank: Ints  # index among the image's detections
    matched: Ints
    ignored: Ints
    objects: Ints  # (images, areas)


@dataclass(frozen=True)
class Prepared:
    """Rows by category, ready to be reduced under any weights."""

    categories: list[tuple[str, Category]]
    kept: dict[bytes, Floats] = field(default_factory=dict)  # figures (categories, 3) by what is drawn

    def keep(self, counts: npt.NDArray[Any] | None, curves: Sequence[Curve | None]) -> None:
        """Keeps what the bootstrap of all categories says of each, since that takes as long again."""
        if counts is not None and len(self.kept) < intervals.RESAMPLES_SLOW:
            self.kept[_key(counts)] = np.array([figures_of(curve) for curve in curves])

    def drawn(self, index: npt.NDArray[np.intp]) -> Floats:
        """The figures (500, categories, 3) in every resample of the clusters `index` (n,)."""
        return np.array([self._figures(counts) for counts in intervals.draws(index)])

    def _figures(self, counts: npt.NDArray[Any]) -> Floats:
        if (found := self.kept.get(_key(counts))) is not None:
            return found
        return np.array([figures_of(curve_of(one, counts)) for _, one in self.categories])

    def curves(
        self, counts: npt.NDArray[Any] | None = None, area: int = 0, most: int = MOST
    ) -> Iterator[Curve]:
        """`curve_of` of each category with objects."""
        found = (curve_of(one, counts, area, most) for _, one in self.categories)
        return (curve for curve in found if curve is not None)


def _key(counts: npt.NDArray[Any]) -> bytes:
    return hashlib.blake2b(np.asarray(counts, dtype=np.int64).tobytes(), digest_size=16).digest()


def figures_of(curve: Curve | None) -> Floats:
    """`FIGURES` (3,) of one category; NaN without objects."""
    if curve is None:
        return np.full(3, np.nan)
    return np.array([curve[0].mean(), curve[0][0], curve[1].mean()])


def counts_of(one: Category) -> Floats:
    """Right, given and wanted of each image (n, 3), at the lowest threshold."""
    counting = one.ignored & 1 == 0
    right, size = counting & (one.matched & 1 == 1), len(one.objects)
    given = [np.bincount(one.image[some], minlength=size) for some in (right, counting)]
    return np.stack([*given, one.objects[:, 0]], axis=1).astype(np.float64)


def bounds_of(one: Category, index: npt.NDArray[np.intp], drawn: Callable[[], Floats]) -> parts.Bounds:
    """Of a category's figures, over the images alone that show it or where it is detected."""
    there = one.objects[:, 0] > 0
    there[one.image] = True
    places = np.flatnonzero(there)
    alone = replace(one, image=np.searchsorted(places, one.image), objects=one.objects[places])
    own = intervals.cluster_index(index[places].tolist())

    def figures(times: npt.NDArray[np.intp]) -> Floats:
        return figures_of(curve_of(alone, times[own]))

    found: parts.Bounds = {}
    both = parts.of_curves(figures, int(own.max(initial=-1)) + 1, drawn)
    for figure, each in zip(FIGURES, both, strict=True):
        found |= parts.pair(figure, each) if each else {}
    return found


def curve_of(
    one: Category, counts: npt.NDArray[Any] | None = None, area: int = 0, most: int = MOST
) -> Curve | None:
    """(precision, recall at the end) over thresholds; None without objects."""
    objects = one.objects[:, area]
    total = int(objects.sum() if counts is None else objects @ counts)
    if total <= 0:
        return None
    order = np.arange(len(one.image)) if counts is None else _drawn(one, counts)
    order = order[one.rank[order] < most]
    shift = np.arange(10) + 10 * area
    matched = (one.matched[order, None] >> shift & 1).astype(bool)
    counting = ~(one.ignored[order, None] >> shift & 1).astype(bool)
    right = np.cumsum(matched & counting, axis=0, dtype=np.float64)
    wrong = np.cumsum(~matched & counting, axis=0, dtype=np.float64)
    if not len(right):
        return np.zeros(10), np.zeros(10)
    recall = right / total
    precision = right / (wrong + right + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    means = np.zeros(10)
    for n in range(10):
        reached = np.searchsorted(recall[:, n], RECALLS, side="left")
        inside = reached[reached < len(precision)]
        means[n] = precision[inside, n].sum() / len(RECALLS)
    return means, recall[-1]


def _drawn(one: Category, counts: npt.NDArray[Any]) -> Ints:
    """The order of detections when each image is drawn `counts` times, copies next to each other."""
    if not len(one.run):
        return one.run
    starts = np.flatnonzero(np.diff(one.run, prepend=-1))
    lengths = np.diff(np.append(starts, len(one.run)))
    times = np.asarray(counts, dtype=np.int64)[one.image[starts]]
    starts, lengths = np.repeat(starts, times), np.repeat(lengths, times)
    offset = np.cumsum(lengths) - lengths
    order: Ints = np.arange(lengths.sum()) + np.repeat(starts - offset, lengths)
    return order


_last: list[tuple[Any, Prepared]] = []  # a bootstrap reduces the same rows thousands of times


def prepare(rows: Any) -> Prepared:
    """A metric's rows by category; those of the last call are kept."""
    if _last and _last[0][0] is rows:
        return _last[0][1]
    order = sorted(range(len(rows)), key=lambda i: rows[i]["image"])
    found: dict[str, list[tuple[int, int, float, int, int]]] = {}
    objects: dict[str, Ints] = {}
    for i in order:
        ranks: dict[str, int] = {}
        for name, score, matched, ignored in rows[i]["boxes"]:
            rank = ranks[name] = ranks.get(name, -1) + 1
            found.setdefault(name, []).append((i, rank, score, matched, ignored))
        for name, counted in rows[i]["objects"].items():
            if name not in objects:
                objects[name] = np.zeros((len(rows), len(AREAS)), dtype=np.int64)
            objects[name][i] = counted
    categories = [(name, _category(found.get(name, []), objects[name])) for name in sorted(objects)]
    _last[:] = [(rows, Prepared(categories))]
    return _last[0][1]


def _category(found: list[tuple[int, int, float, int, int]], objects: Ints) -> Category:
    score = np.array([f[2] for f in found], dtype=np.float64)
    best = np.argsort(-score, kind="stable")
    image = np.array([f[0] for f in found], dtype=np.int64)[best]
    new = (np.diff(image, prepend=-1) != 0) | (np.diff(score[best], prepend=np.nan) != 0)
    rank, matched, ignored = (np.array([f[n] for f in found], dtype=np.int64)[best] for n in (1, 3, 4))
    return Category(image, np.cumsum(new), rank, matched, ignored, objects)
