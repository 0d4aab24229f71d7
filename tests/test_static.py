"""Decode steps in fixed shapes over fixed memory. A CUDA graph is stood in for by a tape: the operations of
one run, done again on the same tensors. Whatever a step takes from Python after it was recorded shows."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import tiny
import torch
from tiny import ask, backend, by_id
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from evalkit.models.paligemma import fast, static
from evalkit.models.paligemma.lane import answer
from evalkit.models.paligemma.prompt import rules
from evalkit.types import Decode, ImageRef, Prediction, Preparation

PAPER = rules("paper", (1,))
SYNCHRONISE = ("_local_scalar_dense", "nonzero", "masked_select", "_to_cpu", "item")


class Tape(TorchDispatchMode):
    """Records operations with the very tensors they were given; replayed, they find these changed or not."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not any(name in str(func) for name in SYNCHRONISE), f"{func} waits for the device"
        out = func(*args, **(kwargs or {}))
        self.done.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        """Does all again; what was made on the tape is made anew, all else is taken from where it lies."""
        made: dict[int, torch.Tensor] = {}

        def now(value: Any) -> Any:
            return made.get(id(value), value) if isinstance(value, torch.Tensor) else value

        for func, args, kwargs, out in self.done:
            again = func(*tree_map(now, args), **tree_map(now, kwargs))
            pairs = zip(out, again, strict=True) if isinstance(out, (tuple, list)) else [(out, again)]
            made |= {id(old): new for old, new in pairs if isinstance(old, torch.Tensor)}


def record(work: static.Work) -> static.Work:
    """As `CudaCapture`: runs as a warm-up, then on the tape; the recording itself changes nothing."""
    work()
    tape = Tape()
    with tape:
        work()
    return tape.replay


def texts(found: dict[str, Prediction]) -> dict[str, Any]:
    return {k: (p.text, p.tokens, p.stop) for k, p in found.items()}


def recording(family: int, monkeypatch: pytest.MonkeyPatch, bucket: int = 8, **options: Any) -> Any:
    monkeypatch.setattr(static, "BUCKET", bucket)
    model = backend(tiny.checkpoint(family), engine="fast", **options)
    model.load()
    engine = model._engine
    engine.static = static.StaticSteps(engine.decoder, engine.cap, record)
    return model


@pytest.mark.parametrize("family", [1, 2])
@pytest.mark.parametrize("window", ["none", "transformers"])
@pytest.mark.parametrize(
    "decode",
    [{"max_new_tokens": 8}, {"max_new_tokens": 60}, {"beams": 3}, {"temperature": 0.7, "seed": 4}],
)
def test_replayed_steps_give_the_same_answers(
    family: int, window: str, decode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 new tokens cross buckets of 8, rows leave, and places are filled again."""
    asked = ask(26, logprobs=True, **decode)
    wanted = by_id(
        backend(tiny.checkpoint(family), engine="fast", sliding_window=window, batch_size=7).predict(asked)
    )
    model = recording(family, monkeypatch, sliding_window=window, batch_size=7)
    for _ in range(2):
        found = by_id(model.predict(asked))
        assert texts(found) == texts(wanted)
        for name, one in wanted.items():
            assert found[name].margin == pytest.approx(one.margin, abs=1e-4)
            assert found[name].logprobs == pytest.approx(one.logprobs, abs=1e-4)
    told = model.provenance()["cuda_graphs"]
    if "beams" not in decode:
        assert 1 < told["captured"] < told["replayed"] <= told["steps"]


def test_the_tape_notices_what_is_taken_from_python() -> None:
    """The stand-in is as strict as a graph: a number that Python looked up stays what it was."""
    values, place = torch.zeros(4), [0]

    def work() -> None:
        values[place[0]] += 1

    again = record(work)
    place[0] = 3
    again()
    assert values.tolist() == [3, 0, 0, 0]
    with pytest.raises(AssertionError, match="waits for the device"):
        record(lambda: float(values.sum()) and None)
