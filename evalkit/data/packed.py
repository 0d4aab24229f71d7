"""Samples by the million, packed: a few arrays hold them, and a sample is made when it is asked for.

Knows samples and how often their parts repeat; no file, no format and no task.
"""

from __future__ import annotations

import os
import pickle
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

from evalkit.data.by_name import Index
from evalkit.data.sample_store import EMPTY, END, KEPT, NOTHING, PLAIN, RECORD, TEXTS, Schema, Store
from evalkit.data.sequences import Column
from evalkit.types import ImageRef, Sample, Size

_LARGE = 32  # characters or entries; what is smaller takes no more room than a reference to it
_SIDE = 1 << 31
_FOLDERS = 4096  # at most so many folders have a number; more are most likely one an image


class Samples(Sequence[Sample]):
    """Packed samples, or some of them; a slice, and what `take` gives, shares the memory of all.

    Equal samples come out, whatever they hold. Texts, lists, numbers and the like are copied; what cannot be
    is kept as it is.
    """

    __slots__ = ("_index", "_places", "_store")

    def __init__(self, store: Store, places: Sequence[int]) -> None:
        self._store, self._places = store, places
        self._index: Index | None = None

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Samples:
        """The samples, packed where they are not."""
        if isinstance(samples, Samples):
            return samples
        packer = Packer()
        for sample in samples:
            packer.add(sample)
        return packer.samples()

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Sample]:
        return map(self._store.sample, self._places)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Samples: ...
    def __getitem__(self, index: int | slice) -> Sample | Samples:
        if isinstance(index, slice):
            return Samples(self._store, self._places[index])
        return self._store.sample(self._places[index])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def take(self, which: Iterable[int]) -> Samples:
        """The samples at these positions, in this order."""
        return Samples(self._store, array("I", map(self._places.__getitem__, which)))

    @property
    def ids(self) -> Column[str]:
        """They stay where the samples themselves are forgotten."""
        return Column(self._store.names.get, self._places)

    @property
    def images(self) -> Column[tuple[ImageRef, ...]]:
        return Column(self._store.images, self._places)

    @property
    def fields(self) -> Column[dict[str, str]]:
        return Column(self._store.fields, self._places)

    @property
    def targets(self) -> Column[Any]:
        return Column(self._store.target, self._places)

    @property
    def sizes(self) -> Column[Size | None]:
        return Column(self._store.size, self._places)

    @property
    def groups(self) -> Column[str]:
        return Column(self._store.group, self._places)

    @property
    def clusters(self) -> Column[str]:
        return Column(self._store.cluster, self._places)

    @property
    def has_target(self) -> Column[bool]:
        """Whether there is a target: neither None nor an empty tuple."""
        return Column(self._store.has_target, self._places)

    def in_order(self) -> Samples:
        """The same samples, sorted by id."""
        names = self.ids
        return self.take(sorted(range(len(names)), key=names.__getitem__))

    def by_id(self) -> Index:
        """Finds positions by id."""
        if self._index is None:
            self._index = Index(self.ids)
        return self._index


class Packer:
    """Packs samples one after the other. Their images are opened in the places `within` only, also later and
    by other threads and processes, where they do not say otherwise."""

    def __init__(self, within: tuple[str, ...] = ()) -> None:
        self._within = within
        self._store = Store()
        self._groups: dict[str, int] = {}
        self._schemas: dict[Schema, int] = {}
        self._places: dict[tuple[str, ...], int] = {}  # within which images may lie
        self._folders: dict[tuple[str, bool, tuple[str, ...]], int] = {}
        self._last_shown: tuple[Any, ...] = ()
        self._shown_at = 0
        self._last: dict[tuple[str, ...], tuple[tuple[Any, ...], dict[int, int]]] = {}

    def add(self, sample: Sample) -> None:
        store, i = self._store, len(self._store.names)
        store.names.append(sample.id)
        group = self._groups.setdefault(sample.group, len(self._groups))
        if group == len(store.group_names):
            store.group_names.append(sample.group)
        store.groups.append(group)
        self._add_size(i, sample.size)
        self._add_shown(sample)
        self._add_asked(sample)
        self._add_target(i, sample.target)

    def samples(self) -> Samples:
        """All that were added."""
        return Samples(self._store, range(len(self._store.names)))

    def _add_size(self, i: int, size: Any) -> None:
        store, height, width = self._store, -1, -1
        if type(size) is tuple and len(size) == 2 and type(size[0]) is type(size[1]) is int:
            height, width = size
        if not (0 <= height < _SIDE and 0 <= width < _SIDE):
            height = width = -1
            if size is not None:
                store.odd_sizes[i] = size
        store.heights.append(height)
        store.widths.append(width)

    def _add_shown(self, sample: Sample) -> None:
        """The images and the cluster; once where they are those of the sample before, as questions of one
        image have them."""
        store = self._store
        shown = sample.cluster, *[(r.path, r.member, r.marks, r.turn, r.within) for r in sample.images]
        if shown != self._last_shown:
            self._last_shown = shown
            place = self._put_one(sample.images[0], sample.cluster) if len(sample.images) == 1 else None
            if place is None:
                place = self._put_value((shown[0], *map(self._placed, sample.images)))
            self._shown_at = place
        store.shown.append(self._shown_at)

    def _put_one(self, ref: ImageRef, cluster: str) -> int | None:
        """One image and its cluster as texts: the number of the folder or archive, the name in it, and how
        many of its last characters are the cluster, or that itself. None where there is more to the image."""
        if ref.marks or ref.turn:
            return None
        archive, within = bool(ref.member), ref.within or self._within
        whole = ref.member or ref.path
        at = 0 if archive else ref.path.rfind(os.sep) + 1
        first = ref.path if archive else ref.path[:at]
        if len(self._folders) >= _FOLDERS and (first, archive, within) not in self._folders:
            if archive:
                return None
            at, first = 0, ""
        number = self._folders.setdefault((first, archive, within), len(self._folders))
        if number == len(self._store.folders):
            self._store.folders.append((first, archive, within))
        own = (str(len(cluster)),) if whole.endswith(cluster) else ("", cluster)
        return self._put_texts((str(number), whole[at:], *own))

    def _placed(self, ref: ImageRef) -> tuple[Any, ...]:
        """An image, its `within` as the number of what is shared."""
        within = ref.within or self._within
        if within not in self._places:
            self._places[within] = len(self._store.shared)
            self._store.shared.append(within)
        return ref.path, ref.member, ref.marks, ref.turn, self._places[within]

    def _add_asked(self, sample: Sample) -> None:
        values = self._record(tuple(sample.fields), tuple(sample.fields.values()))
        place = None if sample.choices else self._put_texts(values)
        self._store.asked.append(self._put_value((values, sample.choices)) if place is None else place)

    def _add_target(self, i: int, target: Any) -> None:
        kind, place, plain = PLAIN, 0, target
        if target is None:
            kind = NOTHING
        elif type(target) is tuple:
            texts = self._put_texts(target) if target else None
            kind, place = (TEXTS, texts) if texts is not None else (PLAIN if target else EMPTY, 0)
        elif type(target) is dict and set(map(type, target)) == {str}:
            kind, plain = RECORD, self._record(tuple(target), tuple(target.values()))
        if kind in (PLAIN, RECORD):
            try:
                place = self._put_value(plain)
            except Exception:  # own formats may give anything
                kind = KEPT
                self._store.kept[i] = target
        self._store.kinds.append(kind)
        self._store.targets.append(place)

    def _record(self, names: tuple[str, ...], values: tuple[Any, ...]) -> tuple[Any, ...]:
        """The number of the names, and the values; what is large and as in the record before (of tuples: the
        very same) is kept once, as all categories of a dataset are. Objects are packed."""
        before, numbers = self._last.get(names, ((), {}))
        shared: dict[int, int] = {}
        for n, (value, old) in enumerate(zip(values, before, strict=False)):
            alike = value == old if type(value) is type(old) is str else value is old and type(value) is tuple
            if alike and len(value) > _LARGE:
                shared[n] = numbers[n] if n in numbers else len(self._store.shared)
                if n not in numbers:
                    self._store.shared.append(value)
        if before is not values:
            self._last[names] = values, shared
        lists = [
            (n, self._store.columns.pack(value)) for n, value in enumerate(values) if type(value) is list
        ]
        objects = {n: packed for n, packed in lists if packed is not None}
        schema = names, frozenset(shared), frozenset(objects)
        number = self._schemas.setdefault(schema, len(self._schemas))
        if number == len(self._store.schemas):
            self._store.schemas.append(schema)
        if not shared and not objects:
            return str(number), *values
        kept = {**objects, **{n: str(at) for n, at in shared.items()}}
        return str(number), *(kept.get(n, value) for n, value in enumerate(values))

    def _put_texts(self, texts: tuple[Any, ...]) -> int | None:
        """The place of texts; None where some are none."""
        if set(map(type, texts)) != {str}:
            return None
        whole = "\0".join(texts)
        if whole.count("\0") != len(texts) - 1:
            return None
        store = self._store
        place = len(store.data)
        store.data.append(TEXTS)
        store.data += whole.encode("utf-8", "surrogatepass")
        store.data.append(END)
        return place

    def _put_value(self, value: Any) -> int:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        place = len(self._store.data)
        self._store.data.append(PLAIN)
        self._store.data += data
        return place
