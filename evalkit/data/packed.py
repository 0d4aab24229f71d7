"""Samples by the million, packed: a few arrays hold them, and a sample is made when it is asked for.

Knows samples and how often their parts repeat; no file, no format and no task.
"""

from __future__ import annotations

import functools
import os
import pickle
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np

from evalkit.data.columns import Columns
from evalkit.types import ImageRef, Request, Sample, Size

T = TypeVar("T")
_END = 0xFF  # occurs in no UTF-8
_LARGE = 32  # characters or entries; what is smaller takes no more room than a reference to it
_NOTHING, _EMPTY, _TEXTS, _RECORD, _PLAIN, _KEPT = range(6)  # kinds of target
_SIDE = 1 << 31
_FOLDERS = 4096  # at most so many folders have a number; more are most likely one an image
_Schema = tuple[tuple[str, ...], frozenset[int], frozenset[int]]
"""A record's keys; the numbers of those whose values are shared, and of those that are packed objects."""


class Column(Sequence[T], Generic[T]):
    """One value of each sample, made when it is asked for."""

    __slots__ = ("_get", "_places")

    def __init__(self, get: Callable[[int], T], places: Sequence[int]) -> None:
        self._get, self._places = get, places

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[T]:
        return map(self._get, self._places)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return list(map(self._get, self._places[index]))
        return self._get(self._places[index])


class Requests(Column[Request]):
    """What a model is asked, each request made when it is asked for; the `ids` are there without."""

    __slots__ = ("ids",)

    def __init__(self, get: Callable[[int], Request], ids: Sequence[str]) -> None:
        super().__init__(get, range(len(ids)))
        self.ids = ids


class Texts(Sequence[str]):
    """Texts one after the other, with 9 bytes more for each."""

    __slots__ = ("_data", "_ends")

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._data, self._ends = bytearray(), array("Q", [0])
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        self._data += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._data))

    def get(self, i: int) -> str:
        """The text at a position from 0."""
        return self._data[self._ends[i] : self._ends[i + 1]].decode("utf-8", "surrogatepass")

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[str]:
        return map(self.get, range(len(self)))

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return list(map(self.get, range(len(self))[index]))
        return self.get(range(len(self))[index])


class Values(Sequence[Any]):
    """Plain data, one piece after the other, made again when it is asked for."""

    __slots__ = ("_at", "_data")

    def __init__(self) -> None:
        self._at, self._data = array("Q"), bytearray()

    def append(self, value: Any) -> None:
        self._at.append(len(self._data))
        self._data += pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def __len__(self) -> int:
        return len(self._at)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        with memoryview(self._data) as whole, whole[self._at[index] :] as data:
            return pickle.loads(data)  # what `append` wrote, in this process


class Named(Mapping[str, T], Generic[T]):
    """Values by name: the names are packed, and `__getitem__` finds its value by their place."""

    def __init__(self) -> None:
        self._names = Texts()
        self._index: Index | None = None

    def _add_name(self, name: str) -> None:
        self._names.append(name)
        self._index = None

    @property
    def repeated(self) -> str:
        """The first name that was added twice, or ''."""
        return self._by_name().repeated

    def _place(self, name: str) -> int:
        """Raises KeyError."""
        place = self._by_name().get(name)
        if place is None:
            raise KeyError(name)
        return place

    def __contains__(self, name: object) -> bool:
        return name in self._by_name()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _by_name(self) -> Index:
        if self._index is None:
            self._index = Index(self._names)
        return self._index


class Mapped(Named[T]):
    """Values by name, as plain data of which `make` makes them when they are asked for."""

    def __init__(self, make: Callable[[str, Any], T]) -> None:
        super().__init__()
        self._make, self._values = make, Values()

    def add(self, name: str, plain: Any) -> None:
        """Adds a value under a name that is there once."""
        self._add_name(name)
        self._values.append(plain)

    def plain(self, name: str) -> Any:
        """The plain data of a name. Raises KeyError."""
        return self._values[self._place(name)]

    def __getitem__(self, name: str) -> T:
        return self._make(name, self.plain(name))


class Samples(Sequence[Sample]):
    """Packed samples, or some of them; a slice, and what `take` gives, shares the memory of all.

    Equal samples come out, whatever they hold. Texts, lists, numbers and the like are copied; what cannot be
    is kept as it is.
    """

    __slots__ = ("_index", "_places", "_store")

    def __init__(self, store: _Store, places: Sequence[int]) -> None:
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


class Index:
    """Positions by name: sorted hashes, of which a million need 12 MB; a dictionary needs 200."""

    def __init__(self, names: Sequence[str]) -> None:
        hashes = np.fromiter(map(hash, names), np.int64, len(names))
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        self._hashes = array("q", hashes.tobytes())
        self._order = array("I", order.astype(np.uint32).tobytes())
        self._names = names
        self._last: tuple[str | None, int] = (None, -1)  # what was found last, and where
        self._guessed = len(names) if (hashes[1:] != hashes[:-1]).all() else 0  # none where a name may repeat

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def get(self, name: str) -> int | None:
        """The position of a name, the first where there are several; None where it has none. Names are mostly
        asked for in their order: the one found last and the one after it are found without a search."""
        last, place = self._last
        if name == last:
            return place
        place += 1
        if not (place < self._guessed and self._names[place] == name):
            found = self._search(name)
            if found is None:
                return None
            place = found
        self._last = name, place
        return place

    def _search(self, name: str) -> int | None:
        wanted = hash(name)
        at = bisect_left(self._hashes, wanted)
        while at < len(self._hashes) and self._hashes[at] == wanted:
            place = self._order[at]
            if self._names[place] == name:
                return place
            at += 1
        return None

    @functools.cached_property
    def repeated(self) -> str:
        """The first name that is there for the second time, or ''."""
        hashes = np.frombuffer(self._hashes, np.int64)
        if not len(hashes):
            return ""
        again = hashes[1:][hashes[1:] == hashes[:-1]]
        seen, suspects = set[str](), set(again.tolist())
        for name in self._names if suspects else ():
            if hash(name) in suspects:
                if name in seen:
                    return name
                seen.add(name)
        return ""


class _Store:
    """The arrays of all samples, one entry a sample, and the bytes to which they point."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.names = Texts()
        self.shown, self.asked, self.targets = array("Q"), array("Q"), array("Q")
        self.heights, self.widths = array("i"), array("i")
        self.groups, self.kinds = array("I"), array("B")
        self.group_names: list[str] = []
        self.schemas: list[_Schema] = []
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
        if kind == _TEXTS:
            return tuple(self._texts(self.targets[i]))
        if kind == _RECORD:
            return self._record(self._value(self.targets[i]))
        if kind == _PLAIN:
            return self._value(self.targets[i])
        return self.kept[i] if kind == _KEPT else () if kind == _EMPTY else None

    def has_target(self, i: int) -> bool:
        return self.kinds[i] not in (_NOTHING, _EMPTY)

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
            if self.data[place] == _TEXTS:
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
        if self.data[place] == _TEXTS:
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
        return data[place + 1 : data.index(_END, place)].decode("utf-8", "surrogatepass").split("\0")

    def _value(self, place: int) -> Any:
        with memoryview(self.data) as whole, whole[place + 1 :] as data:
            return pickle.loads(data)  # what `Packer` wrote, in this process


class Packer:
    """Packs samples one after the other. Their images are opened in the places `within` only, also later and
    by other threads and processes, where they do not say otherwise."""

    def __init__(self, within: tuple[str, ...] = ()) -> None:
        self._within = within
        self._store = _Store()
        self._groups: dict[str, int] = {}
        self._schemas: dict[_Schema, int] = {}
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
        kind, place, plain = _PLAIN, 0, target
        if target is None:
            kind = _NOTHING
        elif type(target) is tuple:
            texts = self._put_texts(target) if target else None
            kind, place = (_TEXTS, texts) if texts is not None else (_PLAIN if target else _EMPTY, 0)
        elif type(target) is dict and set(map(type, target)) == {str}:
            kind, plain = _RECORD, self._record(tuple(target), tuple(target.values()))
        if kind in (_PLAIN, _RECORD):
            try:
                place = self._put_value(plain)
            except Exception:  # own formats may give anything
                kind = _KEPT
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
        store.data.append(_TEXTS)
        store.data += whole.encode("utf-8", "surrogatepass")
        store.data.append(_END)
        return place

    def _put_value(self, value: Any) -> int:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        place = len(self._store.data)
        self._store.data.append(_PLAIN)
        self._store.data += data
        return place
