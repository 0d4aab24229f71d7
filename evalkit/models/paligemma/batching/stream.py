"""Batches with their images to answers, by one engine: batch by batch, or by continuous batching."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalkit.errors import ImageError, ModelError
from evalkit.models.paligemma.batching.batches import Fed, Planned
from evalkit.models.paligemma.batching.close_calls import Stable
from evalkit.models.paligemma.interface import Answer, Engine, Limit, OutOfMemory, Prompt, Rules
from evalkit.types import Decode, Request

Answered = tuple[Planned, list[Any], Answer]
"""A request, its images as read, and the answer."""

Batch = list[tuple[Planned, list[Any]]]

BadImage = Callable[[Request, ImageError], None]

LONG = 48  # from so many new tokens on, rows end far apart and free places are refilled at once

log = logging.getLogger("evalkit")


@dataclass(slots=True)
class Stream:
    """Answers batches with one engine. `strict`: every batch is filled up to `limit.rows` rows with copies
    of its last one, and running out of memory is an error."""

    engine: Engine
    rules: Rules
    limit: Limit
    stable: Stable
    strict: bool = False

    def answers(self, feed: Iterable[Fed], on_bad_image: BadImage | None) -> Iterator[Answered]:
        """Answers as they are ready. A damaged image goes to `on_bad_image`; without it the error is raised
        after all earlier answers and those of the same batch."""
        bad: list[ImageError] = []
        batches = self._good(feed, on_bad_image, bad)
        for decode, run in itertools.groupby(batches, key=lambda batch: batch[0][0].request.decode):
            if decode.mode == "likelihood":
                yield from self._by_likelihood(run, decode)
                continue
            answer = self._continuously if self._can_be_continuous(decode) else self._by_batches
            yield from answer(run, decode)
        if bad:
            raise bad[0]

    def _can_be_continuous(self, decode: Decode) -> bool:
        return decode.beams == 1 and hasattr(self.engine, "decoder")

    def _good(
        self, feed: Iterable[Fed], on_bad_image: BadImage | None, bad: list[ImageError]
    ) -> Iterator[Batch]:
        """The batches without the samples whose images are damaged."""
        for batch in feed:
            good: Batch = []
            for planned, futures in batch:
                try:
                    good.append((planned, [f.result() for f in futures]))
                except ImageError as error:
                    if on_bad_image is None:
                        bad.append(error)
                    else:
                        on_bad_image(planned.request, error)
            if good:
                yield good
            if bad:
                return

    # --- the fast engine ---

    def _continuously(self, batches: Iterable[Batch], decode: Decode) -> Iterator[Answered]:
        from evalkit.models.paligemma.engine.continuous_batching import ContinuousBatch, Row

        def rows() -> Iterator[list[Row]]:
            for batch in batches:
                made = [Row(prompt(p, images), (p, images)) for p, images in batch]
                if self.strict:
                    made += [Row(made[-1].prompt) for _ in range(self.limit.rows - len(made))]
                yield made

        before = self.limit.rows
        engine: Any = self.engine
        long = decode.max_new_tokens >= LONG
        running = ContinuousBatch(
            engine, decode, self.rules, self.limit, long, engine.forbid, divide=not self.strict
        )
        try:
            for row in running.run(rows()):
                if self.limit.rows != before:
                    before = self.limit.rows
                    log.warning("out of memory: continuing with batches of %d", before)
                if row.tag is not None:
                    planned, images = row.tag
                    yield planned, images, self._decided(planned, row.prompt, row.answer())
        except OutOfMemory:
            raise self._too_large(running.tags[0][0].request if running.tags else None) from None

    def _by_likelihood(self, batches: Iterable[Batch], decode: Decode) -> Iterator[Answered]:
        """Sample by sample, all choices of one together, so that no other sample affects its numbers."""
        for planned, images in itertools.chain.from_iterable(batches):
            ready = prompt(planned, images)
            try:
                answer = self.engine.choose(ready, planned.choices, self.rules)
            except OutOfMemory:
                raise self._too_large(planned.request) from None
            yield planned, images, self._decided(planned, ready, answer)

    # --- any engine ---

    def _by_batches(self, batches: Iterable[Batch], decode: Decode) -> Iterator[Answered]:
        """Answers batch by batch, in halves if a whole batch does not fit into memory."""
        for batch in batches:
            waiting = [batch]
            while waiting:
                part = waiting.pop()
                if len(part) > self.limit.rows:
                    waiting += [part[self.limit.rows :], part[: self.limit.rows]]
                    continue
                prompts = [prompt(p, images) for p, images in part]
                try:
                    answers = self.engine.answer(prompts, decode, self.rules)
                except OutOfMemory:
                    if len(part) == 1 or self.strict:
                        raise self._too_large(part[0][0].request) from None
                    self.limit.rows = (len(part) + 1) // 2
                    log.warning("out of memory: continuing with batches of %d", self.limit.rows)
                    waiting.append(part)
                    continue
                for (planned, images), ready, answer in zip(part, prompts, answers, strict=True):
                    yield planned, images, self._decided(planned, ready, answer)

    def _decided(self, planned: Planned, ready: Prompt, answer: Answer) -> Answer:
        request = planned.request
        try:
            return self.stable.decide(ready, request.decode, self.rules, answer, planned.choices)
        except OutOfMemory:
            raise ModelError(
                f"sample {request.id}: its close call does not fit into memory in float32 beside the batch; "
                "set a smaller --batch-size, or leave out --stable"
            ) from None

    def _too_large(self, request: Request | None) -> ModelError:
        name = f"sample {request.id}: " if request is not None else ""
        if self.strict:
            return ModelError(
                f"--strict: {name}out of memory with batches of {self.limit.rows}; set a smaller --batch-size"
            )
        return ModelError(
            f"{name}does not fit into memory even by itself; "
            "use --dtype bfloat16, a smaller resolution or a larger device"
        )


def prompt(planned: Planned, images: list[Any]) -> Prompt:
    """One planned request in the form that an engine takes."""
    pixels = images[0].pixels[None] if len(images) == 1 else np.stack([i.pixels for i in images])
    keys = tuple(getattr(i, "key", "") for i in images)
    keys = keys if all(keys) else ()
    return Prompt(pixels, planned.ids, planned.request.seed, keys, planned.forbid, planned.before)
