"""The arrays that hold samples, one entry a sample, and the bytes to which they point. Knows how a sample is
made of them; `packed` writes them."""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Sequence
from typing import Any

from evalkit.data.columns import Columns
from evalkit.data.sequences import Texts
from evalkit.types import ImageRef, Sample, Size

END = 0xFF  # occurs in no UTF-8
NOTHING, EMPTY, TEXTS, RECORD, PLAIN, KEPT = range(6)  # kinds of target
Schema = tuple[tuple[str, ...], frozenset[int], frozenset[int]]
"""A record's keys; the numbers of those whose values are shared, and of those that are packed objects."""


class Store:
    """The arrays of all samples, one entry a sample, and the bytes to which they point."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.names = Texts()
        self.shown, self.asked, self.targets = array("Q"), array("Q"), array("Q")
        self.heights, self.widths = array("i"), array("i")
        self.groups, self.kinds = array("I"), array("B")
        self.group_names: list[str] = []
        self.schemas: list[Schema] = []
        self.shared: list[Any] = []
        self.folders: list[tuple[str, bool, tuple[str, ...]]] = []  # how a path begins, or an archive; within
        self.columns = Columns()
        self.kept: dict[int, Any] = {}  # targets that cannot be copied
        self.odd_sizes: dict[int, Any] = {}
        self._seen: tuple[int, tuple[ImageRef, ...], str] = (-1, (), "")
        self._last: tuple[int, Sample | None] = (-1, None)

    def sample(self, i: int) -> Sample:
        """The sample at a position. The last one is kept: who asked a question meets it again with its
        answer."""
        place, sample = self._last
        if sample is None or place != i:
            images, cluster = self._shown(i)
            fields, choices = self._asked(i)
            sample = Sample(
                self.names.get(i),
                images,
                fields,
                self.target(i),
                self.size(i),
                self.group(i),
                cluster,
                choices,
            )
            self._last = i, sample
        return sample

    def images(self, i: int) -> tuple[ImageRef, ...]:
        return self._shown(i)[0]

    def fields(self, i: int) -> dict[str, str]:
        return self._asked(i)[0]

    def target(self, i: int) -> Any:
        kind = self.kinds[i]
        if kind == TEXTS:
            return tuple(self._texts(self.targets[i]))
        if kind == RECORD:
            return self._record(self._value(self.targets[i]))
        if kind == PLAIN:
            return self._value(self.targets[i])
        return self.kept[i] if kind == KEPT else () if kind == EMPTY else None

    def has_target(self, i: int) -> bool:
        return self.kinds[i] not in (NOTHING, EMPTY)

    def size(self, i: int) -> Size | None:
        height = self.heights[i]
        return (height, self.widths[i]) if height >= 0 else self.odd_sizes.get(i)

    def group(self, i: int) -> str:
        return self.group_names[self.groups[i]]

    def cluster(self, i: int) -> str:
        return self._shown(i)[1]

    def _shown(self, i: int) -> tuple[tuple[ImageRef, ...], str]:
        """The images and the cluster; of the samples of one image, which follow each other, made once."""
        place, images, cluster = self._seen
        if place != self.shown[i]:
            place = self.shown[i]
            if self.data[place] == TEXTS:
                images, cluster = self._one_shown(*self._texts(place))
            else:
                cluster, *refs = self._value(place)
                images = tuple([ImageRef(p, m, marks, turn, self.shared[w]) for p, m, marks, turn, w in refs])
            self._seen = place, images, cluster
        return images, cluster

    def _one_shown(self, folder: str, name: str, own: str, cluster: str = "") -> tuple[Any, str]:
        """One image and its cluster, the last `own` characters of its name where it is not given."""
        first, archive, within = self.folders[int(folder)]
        ref = ImageRef(first, name, within=within) if archive else ImageRef(first + name, within=within)
        if own:
            whole = name if archive else ref.path
            cluster = whole[len(whole) - int(own) :]
        return (ref,), cluster

    def _asked(self, i: int) -> tuple[dict[str, str], tuple[str, ...]]:
        place = self.asked[i]
        if self.data[place] == TEXTS:
            return self._record(self._texts(place)), ()
        values, choices = self._value(place)
        return self._record(values), choices

    def _record(self, values: Sequence[Any]) -> dict[str, Any]:
        """The mapping of which this is the number of the keys, and the values."""
        names, shared, objects = self.schemas[int(values[0])]
        found = dict(zip(names, values[1:], strict=True))
        for n in shared:
            found[names[n]] = self.shared[int(values[n + 1])]
        for n in objects:
            found[names[n]] = self.columns.made(values[n + 1])
        return found

    def _texts(self, place: int) -> list[str]:
        data = self.data
        return data[place + 1 : data.index(END, place)].decode("utf-8", "surrogatepass").split("\0")

    def _value(self, place: int) -> Any:
        with memoryview(self.data) as whole, whole[place + 1 :] as data:
            return pickle.loads(data)  # what `Packer` wrote, in this process
