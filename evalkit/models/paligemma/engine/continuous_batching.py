"""Decodes many prompts in one running batch: rows that have ended leave it, waiting prompts take their place.
Needs only an engine's `prefill` and `step`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

import torch

from evalkit.errors import ModelError
from evalkit.models.paligemma.decoding.forbidden import forbid
from evalkit.models.paligemma.decoding.sampling import choose
from evalkit.models.paligemma.engine.decoder import State
from evalkit.models.paligemma.interface import Answer, Limit, OutOfMemory, Prompt, Rules
from evalkit.models.paligemma.memory import is_out_of_memory
from evalkit.types import Decode


class Steps(Protocol):
    """The part of an engine that continuous batching needs."""

    strict: bool  # whether every call must have the same shape
    overlaps: bool  # whether the device still works when `prefill` returns

    def prefill(
        self, prompts: Sequence[Prompt], rules: Rules, state: State | None = None, room: int = 0
    ) -> tuple[torch.Tensor, State]:
        """Reads prompts as new rows: float32 logits (batch, vocabulary), and the state to continue from."""
        ...

    def step(self, tokens: torch.Tensor, state: State) -> torch.Tensor:
        """Reads one token per row: float32 logits (batch, vocabulary)."""
        ...

    def free(self) -> None:
        """Frees what can be recomputed, when memory has run out."""
        ...

    def not_finite(self) -> ModelError:
        """The error for logits that are not finite."""
        ...


@dataclass(slots=True)
class Row:
    """One prompt being decoded, and its tokens so far."""

    prompt: Prompt
    tag: Any = None  # the caller's own
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    margin: float | None = math.inf
    stop: str = ""
    draws: Random | None = None

    def answer(self) -> Answer:
        """The answer, once the row has ended."""
        return Answer(tuple(self.tokens), tuple(self.logprobs), self.stop, self.margin)

    def forget(self) -> None:
        """Starts over from the prompt, after running out of memory."""
        self.tokens, self.logprobs, self.margin, self.stop, self.draws = [], [], math.inf, "", None


Forbid = Callable[[Row], torch.Tensor | None]
"""A row's forbidden next tokens: (vocabulary,), true where forbidden; None if all are allowed."""


def answer(
    engine: Steps, prompts: Sequence[Prompt], decode: Decode, rules: Rules, forbid: Forbid | None = None
) -> list[Answer]:
    """One batch's answers, in order. Raises OutOfMemory if they do not fit at once."""
    rows = [Row(p) for p in prompts]
    for _ in ContinuousBatch(engine, decode, rules, Limit(len(rows)), forbid=forbid, divide=False).run(
        [rows]
    ):
        pass
    return [row.answer() for row in rows]


class ContinuousBatch:
    """A running batch of at most `limit.rows` rows with the same decode settings, one path each (no beams).

    With `refill`, free places are filled before the other rows have ended; rows then have different lengths
    and are masked. Without it, a batch is finished before the next begins. When memory runs out the limit
    is lowered and the rows start over; with `divide` off, OutOfMemory is raised instead.
    """

    def __init__(
        self,
        engine: Steps,
        decode: Decode,
        rules: Rules,
        limit: Limit,
        refill: bool = False,
        forbid: Forbid | None = None,
        divide: bool = True,
    ) -> None:
        self.engine, self.decode, self.rules, self.limit = engine, decode, rules, limit
        self.refill, self.forbid, self.divide = refill and not engine.strict, forbid, divide
        self.tags: list[Any] = []  # of the rows that did not fit into memory
        self._live: list[Row] = []
        self._tokens: list[int] = []  # what each live row reads next
        self._state: State | None = None
        self._smallest = False  # whether the state holds one prompt and was begun for it
        self._logits: torch.Tensor | None = None  # of prompts that were read, until their tokens are chosen
        self._source: Iterator[list[Row]] = iter(())
        self._waiting: deque[Row] = deque()
        self._ended: deque[Row] = deque()  # and not given out yet
        self._broken: Exception | None = None  # what the source raised

    def run(self, batches: Iterable[list[Row]]) -> Iterator[Row]:
        """Yields rows as they end. Each length among a batch's prompts is read separately. An error that
        `batches` raises is raised again when the rows before it have ended.

        If the engine `overlaps`, the next prompts are begun before ended rows are yielded, and the batch
        after them is fetched before their logits are waited for: the device works while the host does.
        """
        self._source, self._waiting = iter(batches), deque()
        work = self._work()
        while True:
            try:
                more = next(work, False)
            except BaseException:  # Ctrl-C too: what was computed is kept
                yield from self._given()
                raise
            yield from self._given()
            if not more:
                return

    def _given(self) -> Iterator[Row]:
        while self._ended:
            yield self._ended.popleft()

    def _work(self) -> Iterator[bool]:
        """Works until all rows have ended; stops each time that those which have may be given out."""
        ahead = self.engine.overlaps
        while True:
            if not ahead:
                yield True
            part = self._take()
            fits = self._tried(self._prefill, part)
            if ahead:
                yield True
            if not part and not self._live:
                if self._broken is not None:
                    raise self._broken
                return
            if part and ahead:
                self._fetch()
            if fits and self._tried(self._go_on, part):
                with torch.inference_mode():
                    self._retire()

    def _take(self) -> list[Row]:
        """The rows that start now."""
        free = self._free()
        if free:
            self._fetch()
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), free))]

    def _fetch(self) -> None:
        """Gets the next batch, if no row is waiting. An error of its source waits for the rows before it."""
        if self._waiting or self._broken is not None:
            return
        try:
            self._waiting.extend(next(self._source, ()))
        except Exception as error:
            self._broken = error

    def _tried(self, work: Callable[[list[Row]], None], part: list[Row]) -> bool:
        """Does some work on the rows `part`, or on the live rows if there are none. False if memory ran out:
        the rows wait again, and fewer will be tried."""
        try:
            with torch.inference_mode():
                work(part)
            return True
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler, whose traceback holds the tensors of the failed work.
        failed, self._logits = len(part) or len(self._live), None
        self.tags = [r.tag for r in part or self._live if r.tag is not None]
        if not self.divide:
            self.engine.free()
            raise OutOfMemory(f"{failed} prompts at once do not fit")
        for row in part:  # sampling may have drawn for them already
            row.forget()
        self._ended = deque(r for r in self._ended if r.stop)
        self._waiting.extendleft(reversed(part or [r for r in self._live if not r.stop]))
        self._shrink(failed, bool(part))
        return False

    def _free(self) -> int:
        """How many new rows may start now."""
        free = self.limit.rows - len(self._live)
        if not self._live:
            return free
        return free if self.refill and 4 * free >= self.limit.rows else 0

    def _prefill(self, rows: list[Row]) -> None:
        """Begins to read the prompts, if there are any. On a GPU it is not done when this returns."""
        if rows:
            self._smallest = self._state is None and len(rows) == 1
            prompts, room = [r.prompt for r in rows], self.decode.max_new_tokens
            self._logits, self._state = self.engine.prefill(prompts, self.rules, self._state, room)

    def _go_on(self, began: list[Row]) -> None:
        """Chooses the first tokens of rows whose prompts were read; without any, the next of the others."""
        if began:
            assert self._logits is not None
            self._tokens += self._read(self._logits, began)
            self._live += began
            self._logits = None
        else:
            assert self._state is not None
            logits = self.engine.step(torch.tensor(self._tokens, device="cpu"), self._state)
            self._tokens = self._read(logits, self._live)

    def _read(self, logits: torch.Tensor, rows: list[Row]) -> list[int]:
        """Each row's next token from float32 logits (rows, vocabulary), which are overwritten.

        Log-probabilities are the model's own, before tokens are forbidden.
        """
        # Not logsumexp: its exp is ten times slower when results are close to 0.
        logp = logits.log_softmax(dim=-1) if self.decode.logprobs else None
        forbid(logits, [(r.prompt.forbid, r.tokens) for r in rows])
        if self.forbid is not None:
            for i, row in enumerate(rows):
                mask = self.forbid(row)
                if mask is not None:
                    logits[i].masked_fill_(mask, -math.inf)
        if self.decode.samples:
            return self._draw(logits, logp, rows)
        value, best = logits.max(dim=-1)  # the lowest id among equals, as the reference
        gap = value - logits.scatter_(1, best[:, None], -math.inf).amax(dim=-1)
        score = value if logp is None else logp.gather(1, best[:, None])[:, 0]
        # One transfer, so one wait for the device. float32 represents every token id exactly.
        ids, gaps, scores = torch.stack([best.float(), gap, score]).tolist()
        chosen = [int(i) for i in ids]
        self._record(rows, chosen, gaps, scores)
        return chosen

    def _draw(self, logits: torch.Tensor, logp: torch.Tensor | None, rows: list[Row]) -> list[int]:
        """As `_read`, but draws each token with the row's own random numbers."""
        for row in rows:
            row.draws = row.draws or Random(row.prompt.seed)
        numbers = [row.draws.random() for row in rows if row.draws]
        drawn = choose(logits, numbers, self.decode)
        # Without log-probabilities the largest logit serves as the check: it is not finite if any is not.
        score = (logits.amax(dim=-1) if logp is None else logp.gather(1, drawn[:, None])[:, 0]).tolist()
        chosen: list[int] = drawn.tolist()
        self._record(rows, chosen, None, score)
        return chosen

    def _record(
        self, rows: list[Row], chosen: list[int], margins: list[float] | None, scores: list[float]
    ) -> None:
        """Adds each row's new token; `scores` are log-probabilities if the task asks for these, or logits.
        Raises ModelError, after all others, for a row whose score is not finite."""
        for i, (row, token, score) in enumerate(zip(rows, chosen, scores, strict=True)):
            if row.stop or not math.isfinite(score):
                continue
            row.tokens.append(token)
            if self.decode.logprobs:
                row.logprobs.append(score)
            row.margin = None if margins is None or row.margin is None else min(row.margin, margins[i])
            if token in self.rules.eos:
                row.stop = "eos"
            elif len(row.tokens) == self.decode.max_new_tokens:
                row.stop = "length"
            if row.stop:
                self._ended.append(row)
        if not all(map(math.isfinite, scores)):
            raise self.engine.not_finite()

    def _retire(self) -> None:
        """Removes ended rows once they are a quarter of the batch; with fixed shapes, once all have ended."""
        ended = [i for i, row in enumerate(self._live) if row.stop]
        if len(ended) == len(self._live):
            self._live, self._tokens = [], []
            if self._state is not None:
                self._state.lengths = []
        elif 4 * len(ended) >= len(self._live) and not self.engine.strict:
            assert self._state is not None
            left = self._state.retire(ended)
            self._live = [self._live[i] for i in left]
            self._tokens = [self._tokens[i] for i in left]

    def _shrink(self, rows: int, beginning: bool) -> None:
        """Lowers the limit of rows; rows that no longer fit start over."""
        unfinished = [r for r in self._live if not r.stop]
        alone = rows == 1 and not (beginning and unfinished)
        if alone and self._smallest:
            raise OutOfMemory("one prompt does not fit")
        if beginning and unfinished:  # the running rows fit: they finish first, and the new ones wait
            self.limit.rows = len(self._live)
            if self._state is not None:  # which may have read the new prompts already
                del self._state.lengths[len(self._live) :]
        else:
            if not alone:  # or the cache of more rows is to blame
                self.limit.rows = (rows + 1) // 2
            for row in unfinished:
                row.forget()
            self._live, self._tokens, self._state = [], [], None
        self.engine.free()
