"""Requests to batches of equal length, images read ahead of the model. Knows no weights."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from evalkit.types import ImageRef, Preparation, Request

Prepare = Callable[[ImageRef, Preparation], Any]
"""Reads one image: an object with `.pixels` (R, R, 3) uint8, `.digest` and `.size` (height, width)."""

WINDOW = 16  # batches planned together: enough for full batches at equal length, little enough to stream
AHEAD = 2  # batches whose images are read while the model works


@dataclass(frozen=True, slots=True)
class Planned:
    """A request with the ids that follow its image tokens."""

    request: Request
    ids: tuple[int, ...]


@dataclass(slots=True)
class Limit:
    """How many rows a batch may have; lowered when the device runs out of memory."""

    rows: int


def plan(requests: Iterable[Planned], limit: Limit) -> Iterator[list[Planned]]:
    """Batches of at most `limit.rows`, all of one decoding, image count and length.

    Equal lengths need no padding, so a row's numbers do not depend on its companions' lengths.
    """
    source = iter(requests)
    while window := list(islice(source, WINDOW * limit.rows)):
        groups: dict[Any, list[Planned]] = {}
        for item in window:
            key = (item.request.decode, len(item.request.images), len(item.ids))
            groups.setdefault(key, []).append(item)
        for group in groups.values():
            while group:
                yield group[: limit.rows]
                del group[: limit.rows]


def with_images(
    batches: Iterable[list[Planned]], prepare: Prepare, workers: int
) -> Generator[list[tuple[Planned, list[Future[Any]]]], None, None]:
    """The batches in order, each image as a future that a few threads are working on.

    At most `AHEAD` batches beyond the current one are read. When the consumer leaves (an error,
    Ctrl-C), what has not begun is dropped and nobody waits for the rest.
    """
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="images")
    waiting: deque[list[tuple[Planned, list[Future[Any]]]]] = deque()
    try:
        for batch in batches:
            waiting.append(
                [
                    (p, [pool.submit(prepare, i, p.request.preparation) for i in p.request.images])
                    for p in batch
                ]
            )
            if len(waiting) > AHEAD:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
