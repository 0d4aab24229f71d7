"""Requests to batches of equal length, images read ahead of the model. Knows no weights."""

from __future__ import annotations

import functools
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

from evalkit.models.paligemma.interface import Limit, pixel_key
from evalkit.types import ImageRef, Preparation, Request

Prepare = Callable[[ImageRef, Preparation], Any]
"""Reads one image: an object with `.pixels` (R, R, 3) uint8, `.digest` and `.size` (height, width)."""

Fed = list[tuple["Planned", list[Future[Any]]]]
"""A batch with its images as futures."""

WINDOW = 16  # batches planned together: enough for full batches at equal length, little enough to stream
AHEAD = 2  # batches whose images are read while the model works


@dataclass(frozen=True, slots=True)
class Planned:
    """A request with the ids that follow its image tokens, those of each choice, end token included, and
    the sequences that its answer may not contain."""

    request: Request
    ids: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...] = ()
    forbid: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Keyed:
    """A prepared image with the digest of its pixels."""

    pixels: Any
    digest: str
    size: tuple[int, int]
    key: str


@dataclass(frozen=True, slots=True)
class Keying:
    """`prepare` and, by the same reader, the digest of the pixels; `send` is told of both. A class, so that
    without `send` it goes to processes."""

    prepare: Prepare
    send: Callable[[str, Any], None] | None = None

    def __call__(self, ref: ImageRef, preparation: Preparation) -> Keyed:
        found = self.prepare(ref, preparation)
        key = pixel_key(found.pixels)
        if self.send is not None:
            self.send(key, found.pixels)
        return Keyed(found.pixels, found.digest, found.size, key)


def plan(
    requests: Iterable[Planned],
    limit: Limit,
    window: int | None = None,
    images: int | None = None,
    powers: bool = False,
) -> Iterator[list[Planned]]:
    """Batches of at most `limit.rows`, all of one decoding, image count and length.

    Equal lengths need no padding, so a row's numbers do not depend on its companions' lengths. Requests
    are looked at `window` at a time (default: 16 batches), and no more than have `images` distinct
    images between them. Inside, the longest prompts come first and questions of one image stand
    together. With `powers`, what does not fill a batch is cut into 32, 16, 8, 4, 2 and 1 rows, so that
    a checkpoint meets few shapes.
    """
    for planned in _windows(requests, limit, window, images):
        groups: dict[Any, list[Planned]] = {}
        seen: dict[Any, int] = {}
        for item in planned:
            key = (item.request.decode, len(item.request.images), len(item.ids))
            groups.setdefault(key, []).append(item)
            seen.setdefault(item.request.images, len(seen))
        first = {decode: i for i, (decode, _, _) in reversed(list(enumerate(groups)))}
        for key in sorted(groups, key=lambda k: (first[k[0]], -k[1], -k[2])):
            group = sorted(groups[key], key=lambda item: seen[item.request.images])
            while group:
                size = limit.rows
                if powers and len(group) < size:
                    size = 1 << (len(group).bit_length() - 1)
                yield group[:size]
                del group[:size]


def _windows(
    requests: Iterable[Planned], limit: Limit, window: int | None, images: int | None
) -> Iterator[list[Planned]]:
    held: list[Planned] = []
    distinct: set[ImageRef] = set()
    for item in requests:
        full = len(held) >= (window or WINDOW * limit.rows)
        if images is not None and not full:
            full = len(distinct) + sum(i not in distinct for i in item.request.images) > images
        if held and full:
            yield held
            held, distinct = [], set()
        held.append(item)
        distinct.update(item.request.images)
    if held:
        yield held


def with_images(
    batches: Iterable[list[Planned]],
    prepare: Prepare,
    readers: Executor,
    keep: int = 0,
    send: Callable[[str, Any], None] | None = None,
) -> Generator[Fed, None, None]:
    """The batches in order, each image as a future that `readers` work on; `send` is told, in this process,
    of the key and pixels of every image read.

    At most `AHEAD` batches beyond the current one are read; the last `keep` images are remembered, so
    that one image asked about many times is read once. When the consumer leaves (an error, Ctrl-C),
    what has not begun is dropped and nobody waits for the rest.
    """
    waiting: deque[Fed] = deque()
    known: OrderedDict[tuple[ImageRef, Preparation], Future[Any]] = OrderedDict()

    def read(image: ImageRef, preparation: Preparation) -> Future[Any]:
        key = (image, preparation)
        if key not in known:
            known[key] = readers.submit(prepare, image, preparation)
            if send is not None:
                known[key].add_done_callback(functools.partial(_send, send))
        known.move_to_end(key)
        found = known[key]
        while len(known) > keep:
            known.popitem(last=False)
        return found

    try:
        for batch in batches:
            waiting.append([(p, [read(i, p.request.preparation) for i in p.request.images]) for p in batch])
            if len(waiting) > AHEAD:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for _, futures in (entry for batch in waiting for entry in batch):
            for future in futures:
                future.cancel()


def _send(send: Callable[[str, Any], None], read: Future[Any]) -> None:
    if not read.cancelled() and read.exception() is None:
        send(read.result().key, read.result().pixels)
