"""Decode steps with few shapes and fixed memory addresses. CUDA graphs need both, and torch.compile then need
not compile a new shape at each step. Knows no prompt and no sampling rule."""

from __future__ import annotations

import logging
import math
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from evalkit.errors import ModelError
from evalkit.models.paligemma.engine.decoder import ROOM, Decoder, State
from evalkit.models.paligemma.memory import collect, is_out_of_memory

BUCKET = 128  # cache lengths are rounded up to a multiple of this many tokens
GRAPHS = 48  # recorded steps kept, the least recently used dropped
USES = 2  # of a shape before it is recorded: recording does not pay for rare shapes
NEAR = 0.01  # of the largest logit: how far a replayed step may differ from the step itself

Work = Callable[[], None]
Capture = Callable[[Work], Work]
"""Records work on tensors of fixed shapes and addresses; returns a function that repeats it. Raises
RuntimeError where this fails and steps can go on without graphs."""

log = logging.getLogger("evalkit")


@dataclass(slots=True)
class Known:
    """A shape of steps, and its recorded graph once there is one."""

    uses: int = 0
    replay: Work | None = None
    trusted: bool = False  # its result was compared with that of the step itself


class StaticSteps:
    """Runs a decoder's steps in fixed shapes: rows are rounded up to a power of two, the cache's length to a
    multiple of `BUCKET`, and whatever is beyond a row's own length is masked.

    Inputs and logits have fixed addresses. With `capture`, a repeated shape is recorded once, compared with
    the step itself and then replayed. If recording fails, a replay is wrong or memory runs out, steps run
    without graphs from then on; `off` says why.
    """

    def __init__(self, decoder: Decoder, cap: float | None, capture: Capture | None = None) -> None:
        self.decoder, self.cap, self.capture = decoder, cap, capture
        self.off = ""
        self.captured = self.replayed = self.steps = 0
        self._graphs: OrderedDict[tuple[Any, ...], Known] = OrderedDict()
        self._inputs = self._staged = self._logits = torch.empty(0)
        self._staged_free: Any = None  # the event that the staged inputs have been read
        self._memory: tuple[torch.Tensor, torch.Tensor] | None = None
        self._holder: Callable[[], State | None] = lambda: None

    # --- memory at fixed addresses ---

    def begin(self, places: int, room: int, first: int) -> State:
        """As `Decoder.begin`, in the memory of the last batch if that is free and large enough."""
        places, room = _power(places), self.room(room)
        kept = self._memory if self._holder() is None else None
        if kept is not None and kept[0].shape[1] >= places and kept[0].shape[3] >= room:
            state = State(kept[0].zero_(), kept[1].zero_(), first, [])
        else:
            self._memory = kept = None  # freed before more is allocated
            state = self.decoder.begin(places, room, first)
        self._holder = weakref.ref(state)
        return state

    def reserve(self, state: State, places: int, room: int) -> None:
        """As `State.reserve`."""
        self._memory = None  # otherwise the old memory would be kept after the move
        state.reserve(places, self.room(room))

    @staticmethod
    def room(tokens: int) -> int:
        """The cache length for so many tokens."""
        return -(-tokens // BUCKET) * BUCKET

    def clear(self) -> None:
        """Frees everything, when the device runs out of memory."""
        self._graphs.clear()
        self._memory = None
        self._inputs = self._staged = self._logits = torch.empty(0)

    # --- a step ---

    def step(self, tokens: torch.Tensor, state: State) -> torch.Tensor:
        """As `FastEngine.step`; the logits are valid until the next step."""
        n, longest = len(state.lengths), max(state.lengths) + 1
        rows, room = _power(n), self.room(longest)
        if rows > state.places or room > state.room:  # never fewer rows: then shapes would depend on history
            self.reserve(state, rows, longest + ROOM)
        self._set_inputs(tokens, state, rows)
        # Addresses and not the tensors themselves: a graph must not keep an outdated cache alive.
        key = (rows, room, state.keys.shape, state.keys.data_ptr(), state.values.data_ptr())
        table = self.decoder.turns(state.first + state.room)
        work = self._work(rows, state.keys[:, :rows, :, :room], state.values[:, :rows, :, :room], table)
        self._run((*key, table.data_ptr()), work, self._logits[:rows])
        state.lengths = [m + 1 for m in state.lengths]
        self.steps += 1
        if self._holder() is state:
            self._memory = state.keys, state.values
        return self._logits[:n]

    def _set_inputs(self, tokens: torch.Tensor, state: State, rows: int) -> None:
        """Writes each row's token, place and position into the inputs; rows beyond the batch write into place
        0 of unused caches."""
        self._reserve(rows)
        if self._staged_free is not None:
            self._staged_free.synchronize()
        n, staged = len(state.lengths), self._staged[:rows].zero_()
        staged[:n, 1] = torch.tensor(state.lengths, device="cpu")
        staged[:, 2] = staged[:, 1] + state.first
        if tokens.device.type == "cpu":
            staged[:n, 0] = tokens
        self._inputs[:rows].copy_(staged, non_blocking=True)
        home = self.decoder.home
        if home.type == "cuda":
            self._staged_free = self._staged_free or torch.cuda.Event()
            self._staged_free.record(torch.cuda.current_stream(home))
        if tokens.device.type != "cpu":
            self._inputs[:n, 0] = tokens

    def _reserve(self, rows: int) -> None:
        if rows <= len(self._inputs):
            return
        self._graphs.clear()  # they use the old addresses
        home = self.decoder.home
        # The largest first: memory may run out here, and then the others still fit each other.
        self._logits = torch.empty((rows, len(self.decoder.table)), dtype=torch.float32, device=home)
        pinned = home.type == "cuda"
        self._staged = torch.zeros((rows, 3), dtype=torch.long, device="cpu", pin_memory=pinned)
        self._inputs = self._staged.to(home, copy=True)

    def _work(self, rows: int, keys: torch.Tensor, values: torch.Tensor, table: torch.Tensor) -> Work:
        inputs, logits = self._inputs[:rows], self._logits[:rows]

        def work() -> None:
            token, at, position = inputs.unbind(1)
            hidden = self.decoder.masked_step(token, at, table[position], keys, values)
            logits.copy_(self.decoder.logits(hidden))
            if self.cap is not None:  # in float32: in bfloat16 the cap would turn close logits into ties
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
            return
        except (torch.OutOfMemoryError, RuntimeError) as error:
            memory = is_out_of_memory(error)
            why = "out of memory" if memory else (str(error).strip().splitlines() or ["unknown"])[0]
        # Outside the handler, whose traceback holds the tensors of the failed step.
        known.replay = None  # the last graph holds the memory of all
        self._give_up(why)
        if memory:
            collect()
        work()

    def _same(self, replay: Work, logits: torch.Tensor) -> bool:
        """Checks a graph at its first use, with other inputs than it was recorded with: true if it gives the
        logits of the step itself. Raises RuntimeError otherwise."""
        wanted = logits.clone()
        logits.fill_(math.nan)  # or a graph in which nothing was recorded would pass
        replay()
        if bool((logits - wanted).abs().max() <= NEAR * wanted.abs().max()):
            return True
        raise RuntimeError("a replayed step gave other logits")

    def _give_up(self, why: str) -> None:
        self.off, self.capture = why, None
        self._graphs.clear()
        log.warning("CUDA graphs are off from now on: %s", why)

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
    """`Capture` with `torch.cuda.graph`, on the device `home` whatever the current one is. All graphs share
    one memory pool: only one runs at a time, and what must outlive a replay is stored outside of it."""

    WARM = 2  # runs before recording, in which libraries initialise themselves

    def __init__(self, home: torch.device) -> None:
        self._home = home
        # One for warm-up and recording: libraries keep a workspace for each stream, and one allocated while
        # recording would belong to the graph's pool. Of another priority than `uploads`' stream, since torch
        # gives out the same few streams again and again: a copy on this one would be recorded.
        self._stream = torch.cuda.Stream(home)
        self._alive: weakref.WeakSet[Any] = weakref.WeakSet()

    def __call__(self, work: Work) -> Work:
        """Runs the work to warm up, then records it. Repeating the work must change nothing.

        Raises what the work raises, and ModelError if torch's allocator cannot go on afterwards.
        """
        here = torch.cuda.current_stream(self._home)
        with torch.cuda.stream(self._stream):  # makes `home` the current device, too
            self._stream.wait_stream(here)
            try:
                for _ in range(self.WARM):
                    work()
            finally:  # also if memory ran out: what was begun writes into the caches
                here.wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            self._record(graph, work)
        self._alive.add(graph)
        replay: Work = graph.replay
        return replay

    def _record(self, graph: Any, work: Work) -> None:
        other = next(iter(self._alive), None)
        pool = other.pool() if other is not None else None  # a pool is freed with its last graph
        failed: Exception | None = None
        try:
            # thread_local: other threads may send images to the device meanwhile
            with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
                try:
                    work()
                except RuntimeError as error:  # raised after the recording was ended
                    failed = error.with_traceback(None)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            # The recording could not be ended: the allocator would go on as if it still ran.
            why = str(failed or error).strip().splitlines()[0]
            raise ModelError(
                f"--cuda-graphs on: recording a step failed ({why}); set --cuda-graphs off and run again"
            ) from None
        if failed is not None:
            raise failed
