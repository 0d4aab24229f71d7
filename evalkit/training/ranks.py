"""One evaluation over all processes of a training: the first plans, keeps and scores, every one answers.

Messages go over a gloo group of their own, so that waiting for an evaluation is no timeout of the training's.
What a process cannot do is sent like an answer: nobody waits for one that failed.
"""

from __future__ import annotations

import datetime
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch.distributed as group

from evalkit import own_code
from evalkit.errors import ImageError, ModelError, UserError
from evalkit.types import Checkpoint, Model, Prediction, Request

BLOCK = 256  # requests a process between two journal entries of the first
PATIENCE = datetime.timedelta(days=1)  # of those who wait; one that ended is noticed at once
T = TypeVar("T")
Bad = list[tuple[Request, ImageError]]


def several() -> bool:
    """Whether there are other processes."""
    return bool(group.is_available() and group.is_initialized() and group.get_world_size() > 1)


@dataclass
class _Answers:
    """What one process did of a block."""

    predictions: list[Prediction] = field(default_factory=list)
    bad: Bad = field(default_factory=list)
    error: Exception | None = None


@dataclass(frozen=True)
class _Ask:
    """A block that all answer, each every `processes`-th request, with the weights of this digest."""

    requests: Sequence[Request]
    protocol: str
    skip: bool
    weights: Any


@dataclass(frozen=True)
class _Done:
    result: Any
    error: Exception | None


class Ranks:
    """The processes of a training."""

    def __init__(self) -> None:
        self._group = group.new_group(backend="gloo", timeout=PATIENCE)
        self.rank, self.processes = group.get_rank(), group.get_world_size()

    def lead(self, work: Callable[[], T]) -> T:
        """On the first process: does the work, and tells the others its result, or what it raised."""
        try:
            result = work()
        except BaseException as error:
            self._send(_Done(None, portable(error)))
            raise
        self._send(_Done(result, None))
        return result

    def follow(self, checkpoint: Callable[[], tuple[Checkpoint, Any]]) -> Any:
        """On the others: answers what the first asks, and returns its result, or raises what it raised.
        `checkpoint` gives the model as it is now, and its weights' digest; it is called when first asked."""
        known: tuple[Checkpoint, Any] | None = None
        while isinstance(message := self._send(None), _Ask):
            mine = _Answers()
            try:
                known = known or checkpoint()
                if known[1] != message.weights:
                    raise ModelError("its weights are not those of the first process")
                mine = self._part(known[0].load(message.protocol), message)
            except Exception as error:
                mine.error = portable(error)
            self._gather(mine)
        if message.error is not None:
            raise message.error
        return message.result

    def shared(self, checkpoint: Checkpoint, weights: Any) -> Checkpoint:
        """The checkpoint on the first process, answered by all."""
        return replace(
            checkpoint, load=lambda protocol: _Shared(checkpoint.load(protocol), self, protocol, weights)
        )

    def ask(self, model: Model, message: _Ask) -> list[_Answers]:
        """What every process answered, this one among them, whatever happened."""
        self._send(message)
        mine = _Answers()
        try:
            mine = self._part(model, message)
        except Exception as error:
            mine.error = error
        return self._gather(mine)

    def _part(self, model: Model, message: _Ask) -> _Answers:
        found = _Answers()
        skip = (lambda request, error: found.bad.append((request, error))) if message.skip else None
        found.predictions += model.predict(message.requests[self.rank :: self.processes], skip)
        return found

    def _send(self, message: Any) -> Any:
        """The first's message, on every process."""
        box = [message]
        group.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def _gather(self, mine: _Answers) -> list[_Answers]:
        every: list[Any] | None = [None] * self.processes if self.rank == 0 else None
        group.gather_object(mine, every, dst=0, group=self._group)
        return every or []


class _Shared(Model):
    """The first process's model, which asks the others to answer with it."""

    def __init__(self, model: Model, ranks: Ranks, protocol: str, weights: Any) -> None:
        self._model, self._ranks, self._protocol, self._weights = model, ranks, protocol, weights

    def identity(self) -> Mapping[str, Any]:
        return self._model.identity()

    def used(self) -> Mapping[str, str]:
        return self._model.used()

    def provenance(self) -> Mapping[str, Any]:
        return {**self._model.provenance(), "processes": self._ranks.processes}

    def predict(
        self,
        requests: Sequence[Request],
        on_bad_image: Callable[[Request, ImageError], None] | None = None,
    ) -> Iterator[Prediction]:
        size = BLOCK * self._ranks.processes
        for start in range(0, len(requests), size):
            block = requests[start : start + size]
            message = _Ask(block, self._protocol, on_bad_image is not None, self._weights)
            every = self._ranks.ask(self._model, message)
            for answers in every:
                yield from answers.predictions
            for request, error in (bad for answers in every for bad in answers.bad):
                if on_bad_image is not None:
                    on_bad_image(request, error)
            for rank, answers in enumerate(every):
                if answers.error is not None:
                    raise _of_rank(answers.error, rank)


def _of_rank(error: Exception, rank: int) -> Exception:
    if rank == 0 or isinstance(error, ImageError):
        return error
    said = str(error) if isinstance(error, UserError) else own_code.said(error)
    return ModelError(f"process {rank}: {said}")


def portable(error: BaseException) -> Exception:
    """The error if it can be sent to another process, else one that says the same."""
    try:
        if isinstance(error, UserError) and type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception:
        return UserError(str(error))
    return ModelError(own_code.said(error))
