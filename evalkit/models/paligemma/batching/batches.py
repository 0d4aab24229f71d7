"""Requests to batches of equal length, with images read ahead of the model. Knows no weights."""

from __future__ import annotations

import functools
import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, Literal

from evalkit.models.paligemma.interface import Limit, pixel_key
from evalkit.types import ImageRef, Preparation, Request

Prepare = Callable[[ImageRef, Preparation], Any]
"""Reads one image into an object with `.pixels` (R, R, 3) uint8, `.digest` and `.size` (height, width)."""

Fed = list[tuple["Planned", list[Future[Any]]]]
"""A batch with its images as futures."""

Tails = Literal["whole", "powers", "together"]
"""Incomplete batches: as they are; cut into 32, 16, 8, 4, 2 and 1 rows, so that the checkpoint sees few
shapes; or those of all lengths together, for an engine whose decode steps are masked anyway: that takes fewer
steps, and more images go through the tower at once."""

WINDOW = 16  # batches planned together: enough for full batches of equal length, few enough to stream
AHEAD = 2  # batches whose images are read while the model works


@dataclass(frozen=True, slots=True)
class Planned:
    """A request with the ids after its image tokens and `before` them, the ids of each choice (with the end
    token if `ended`), and the token sequences that its answer may not contain."""

    request: Request
    ids: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...] = ()
    forbid: tuple[tuple[int, ...], ...] = ()
    before: tuple[int, ...] = ()
    ended: bool = True


@dataclass(frozen=True, slots=True)
class Keyed:
    """A prepared image with the digest of its pixels."""

    pixels: Any
    digest: str
    size: tuple[int, int]
    key: str


@dataclass(frozen=True, slots=True)
class Keying:
    """Calls `prepare` and computes the digest of the pixels in the same reader; `send` gets both. A class,
    so that it can be pickled for processes (without `send`)."""

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
    tails: Tails = "whole",
) -> Iterator[list[Planned]]:
    """Batches of at most `limit.rows` requests with equal decode settings and image count, and of equal
    length but for incomplete ones that are answered together.

    Equal lengths need no padding, so a row's numbers do not depend on the lengths of other rows. Requests
    are planned in windows of `window` requests (default: 16 batches) with at most `images` distinct
    images. Within a window the longest prompts come first, and questions about one image stay together.
    `tails` says what becomes of the incomplete batches, of which each length has one.
    """
    for planned in _windows(requests, limit, window, images):
        groups: dict[Any, list[Planned]] = {}
        seen: dict[Any, int] = {}
        for item in planned:
            key = (item.request.decode, len(item.request.images), len(item.ids))
            groups.setdefault(key, []).append(item)
            seen.setdefault(item.request.images, len(seen))
        first = {decode: i for i, (decode, _, _) in reversed(list(enumerate(groups)))}
        keys = sorted(groups, key=lambda k: (first[k[0]], -k[1], -k[2]))
        for _, lengths in itertools.groupby(keys, key=lambda k: k[:2]):
            rest: list[Planned] = []
            for key in lengths:
                group = sorted(groups[key], key=lambda item: seen[item.request.images])
                yield from _cut(group, limit, tails)
                rest += group
            yield from _cut(rest, limit, "whole")


def _cut(group: list[Planned], limit: Limit, tails: Tails) -> Iterator[list[Planned]]:
    """Takes batches from the front of the group; with "together", only full ones."""
    while group:
        size = limit.rows
        if len(group) < size and tails == "together":
            return
        if len(group) < size and tails == "powers":
            size = 1 << (len(group).bit_length() - 1)
        batch, group[:size] = group[:size], []
        yield batch


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
    """The batches in order, each image as a future of `readers`; `send` gets, in this process, the key and
    pixels of every image read.

    Reads at most `AHEAD` batches beyond the current one. Keeps the last `keep` images, so that an image of
    many questions is read once. If the consumer stops early (an error, Ctrl-C), reads that have not started
    are cancelled and nothing waits for the others.
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
