"""Decode steps of few shapes over memory that stays where it is: what a CUDA graph of a step needs, and
what keeps torch.compile from meeting a new shape each step. Knows no prompt and no sampling rule."""

from __future__ import annotations

import logging
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from evalkit.models.paligemma.engine.decoder import ROOM, Decoder, State
from evalkit.models.paligemma.memory import is_out_of_memory

BUCKET = 128  # cache lengths are rounded up to a multiple of this many tokens
GRAPHS = 48  # recorded steps kept, the least recently used dropped
USES = 2  # of a shape before it is recorded: what is seen once is not worth it
NEAR = 0.01  # of the largest logit: how far a replayed step may be from the step itself

Work = Callable[[], None]
Capture = Callable[[Work], Work]
"""Records work that is all tensors of fixed shapes and addresses; what it gives does the same again."""

log = logging.getLogger("evalkit")


@dataclass(slots=True)
class Known:
    """A shape that steps came in, and its record once there is one."""

    uses: int = 0
    replay: Work | None = None
    trusted: bool = False  # it was seen to give what the step itself gave


class StaticSteps:
    """Runs a decoder's steps in fixed shapes: rows rounded up to a power of two, the cache's length to a
    multiple of `BUCKET`, what is beyond a row's own length masked.

    Inputs and logits have one place each. With `capture`, a shape that comes again is recorded once, compared
    with the step itself and then replayed. Where recording fails, a replay is wrong or memory does not do
    for it, steps go on unrecorded; `off` says why.
    """

    def __init__(self, decoder: Decoder, cap: float | None, capture: Capture | None = None) -> None:
        self.decoder, self.cap, self.capture = decoder, cap, capture
        self.off = ""
        self.captured = self.replayed = self.steps = 0
        self._graphs: OrderedDict[tuple[Any, ...], Known] = OrderedDict()
        self._inputs = self._staged = self._logits = torch.empty(0)
        self._staged_free: Any = None  # event: the staged inputs have been read
        self._memory: tuple[torch.Tensor, torch.Tensor] | None = None
        self._holder: Callable[[], State | None] = lambda: None

    # --- memory that stays ---

    def begin(self, places: int, room: int, first: int) -> State:
        """As `Decoder.begin`, in the memory of the last batch where that is free and large enough."""
        places, room = _power(places), self.room(room)
        kept = self._memory if self._holder() is None else None
        if kept is not None and kept[0].shape[1] >= places and kept[0].shape[3] >= room:
            state = State(kept[0].zero_(), kept[1].zero_(), first, [])
        else:
            self._memory = kept = None  # before more is asked for
            state = self.decoder.begin(places, room, first)
        self._holder = weakref.ref(state)
        return state

    def reserve(self, state: State, places: int, room: int) -> None:
        """As `State.reserve`."""
        self._memory = None  # or the old memory would outlive its move
        state.reserve(places, self.room(room))

    @staticmethod
    def room(tokens: int) -> int:
        """A cache length that fits so many tokens."""
        return -(-tokens // BUCKET) * BUCKET

    def clear(self) -> None:
        """Lets everything go, as when the device runs out of memory."""
        self._graphs.clear()
        self._memory = None
        self._inputs = self._staged = self._logits = torch.empty(0)

    # --- a step ---

    def step(self, tokens: torch.Tensor, state: State) -> torch.Tensor:
        """As `FastEngine.step`; the logits are good until the next step."""
        n, longest = len(state.lengths), max(state.lengths) + 1
        rows, room = _power(n), self.room(longest)
        if rows > state.places or room > state.room:  # never fewer rows: what ran before would decide them
            self.reserve(state, rows, longest + ROOM)
        self._tell(tokens, state, rows)
        # Addresses and not the tensors themselves: a record must not keep a cache alive that has moved on.
        key = (rows, room, state.keys.shape, state.keys.data_ptr(), state.values.data_ptr())
        table = self.decoder.turns(state.first + state.room)
        work = self._work(rows, state.keys[:, :rows, :, :room], state.values[:, :rows, :, :room], table)
        self._run((*key, table.data_ptr()), work, self._logits[:rows])
        state.lengths = [m + 1 for m in state.lengths]
        self.steps += 1
        if self._holder() is state:
            self._memory = state.keys, state.values
        return self._logits[:n]

    def _tell(self, tokens: torch.Tensor, state: State, rows: int) -> None:
        """Token, place and position of each row into the inputs; rows beyond the batch write into place 0 of
        caches that nobody has."""
        self._reserve(rows)
        if self._staged_free is not None:
            self._staged_free.synchronize()
        n, staged = len(state.lengths), self._staged[:rows].zero_()
        staged[:n, 1] = torch.tensor(state.lengths)
        staged[:, 2] = staged[:, 1] + state.first
        if tokens.device.type == "cpu":
            staged[:n, 0] = tokens
        self._inputs[:rows].copy_(staged, non_blocking=True)
        if self.decoder.home.type == "cuda":
            self._staged_free = self._staged_free or torch.cuda.Event()
            self._staged_free.record()
        if tokens.device.type != "cpu":
            self._inputs[:n, 0] = tokens

    def _reserve(self, rows: int) -> None:
        if rows <= len(self._inputs):
            return
        self._graphs.clear()  # they know the old places
        home = self.decoder.home
        self._staged = torch.zeros((rows, 3), dtype=torch.long, pin_memory=home.type == "cuda")
        self._inputs = self._staged.to(home, copy=True)
        self._logits = torch.empty((rows, len(self.decoder.table)), dtype=torch.float32, device=home)

    def _work(self, rows: int, keys: torch.Tensor, values: torch.Tensor, table: torch.Tensor) -> Work:
        inputs, logits = self._inputs[:rows], self._logits[:rows]

        def work() -> None:
            token, at, position = inputs.unbind(1)
            hidden = self.decoder.masked_step(token, at, table[position], keys, values)
            logits.copy_(self.decoder.logits(hidden))
            if self.cap is not None:  # in float32: capped in bfloat16, near logits would become ties
                logits.div_(self.cap).tanh_().mul_(self.cap)

        return work

    def _run(self, key: tuple[Any, ...], work: Work, logits: torch.Tensor) -> None:
        if self.capture is None:
            work()
            return
        known = self._graphs.setdefault(key, Known())
        self._graphs.move_to_end(key)
        while len(self._graphs) > GRAPHS:
            self._graphs.popitem(last=False)
        if known.trusted and known.replay is not None:
            known.replay()
            self.replayed += 1
            return
        work()
        known.uses += 1
        try:
            if known.replay is not None:
                known.trusted = self._same(known.replay, logits)
            elif known.uses > USES:
                known.replay = self.capture(work)
                self.captured += 1
        except (torch.OutOfMemoryError, RuntimeError) as error:
            memory = is_out_of_memory(error)
            self._give_up("out of memory" if memory else (str(error).strip().splitlines() or ["unknown"])[0])
            work()

    def _same(self, replay: Work, logits: torch.Tensor) -> bool:
        """Whether a record, at its first use, gives what the step itself gave: with inputs other than those
        it was made with. What it gives else is not used."""
        wanted = logits.clone()
        replay()
        if bool((logits - wanted).abs().max() <= NEAR * wanted.abs().max()):
            return True
        raise RuntimeError("a replayed step gave other logits")

    def _give_up(self, why: str) -> None:
        self.off, self.capture = why, None
        self._graphs.clear()
        log.warning("CUDA graphs are off from here on: %s", why)

    def provenance(self) -> dict[str, Any]:
        """How steps were run."""
        return {
            "on": self.capture is not None,
            "captured": self.captured,
            "replayed": self.replayed,
            "steps": self.steps,
            **({"off": self.off} if self.off else {}),
        }


def _power(n: int) -> int:
    return 1 << (n - 1).bit_length()


class CudaCapture:
    """`Capture` by `torch.cuda.graph`, all graphs in one pool of memory: only one runs at a time, and what
    must outlive a replay lies outside of it."""

    WARM = 2  # runs on a side stream first, in which libraries set themselves up

    def __init__(self) -> None:
        self._alive: weakref.WeakSet[Any] = weakref.WeakSet()

    def __call__(self, work: Work) -> Work:
        """Runs the work as a warm-up and records it. Running it again must change nothing."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(self.WARM):
                work()
        torch.cuda.current_stream().wait_stream(side)
        other = next(iter(self._alive), None)
        pool = other.pool() if other is not None else None  # a pool ends with its last graph
        graph = torch.cuda.CUDAGraph()
        # thread_local: threads that send pictures to the device meanwhile are none of the graph's business
        here = torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                work()
        finally:  # a capture that fails stays on its stream
            torch.cuda.set_stream(here)
        self._alive.add(graph)
        replay: Work = graph.replay
        return replay
