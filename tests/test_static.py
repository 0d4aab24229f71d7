"""Decode steps in fixed shapes over fixed memory. A CUDA graph is stood in for by a tape: the operations of
one run, done again on the same tensors. Whatever a step takes from Python after it was recorded shows."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest
import tiny
import torch
from tiny import ask, backend, by_id
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from evalkit.errors import ModelError, UserError
from evalkit.models.paligemma.engine import compile as compiling
from evalkit.models.paligemma.engine import cuda_graphs
from evalkit.types import Prediction

SYNCHRONISE = ("_local_scalar_dense", "nonzero", "masked_select")


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


def record(work: cuda_graphs.Work) -> cuda_graphs.Work:
    """As `CudaCapture`: runs as a warm-up, then on the tape; the recording itself changes nothing."""
    work()
    tape = Tape()
    with tape:
        work()
    return tape.replay


def texts(found: dict[str, Prediction]) -> dict[str, Any]:
    return {k: (p.text, p.tokens, p.stop) for k, p in found.items()}


def recording(
    monkeypatch: pytest.MonkeyPatch, family: int, capture: Any = record, batch_size: int = 7, **options: Any
) -> Any:
    """A model whose decode steps are recorded, in buckets of 8 tokens."""
    monkeypatch.setattr(cuda_graphs, "BUCKET", 8)
    model = backend(tiny.checkpoint(family), engine="fast", batch_size=batch_size, **options)
    model.load()
    engine = model._engine
    engine.static = cuda_graphs.StaticSteps(engine.decoder, engine.cap, capture)
    return model


DECODES: list[dict[str, Any]] = [
    {}, {"max_new_tokens": 60}, {"beams": 3}, {"temperature": 0.7, "seed": 4},
]  # fmt: skip


@pytest.mark.parametrize(("family", "window"), [(1, "none"), (2, "none"), (2, "transformers")])
@pytest.mark.parametrize("decode", DECODES)
def test_replayed_steps_give_the_same_answers(
    family: int, window: str, decode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 new tokens cross buckets of 8, rows leave, and places are filled again."""
    asked = ask(20, logprobs=True, **decode)
    usual = backend(tiny.checkpoint(family), engine="fast", sliding_window=window, batch_size=7)
    wanted = by_id(usual.predict(asked))
    model = recording(monkeypatch, family, sliding_window=window)
    found = by_id(model.predict(asked))
    assert texts(found) == texts(wanted)
    for name, one in wanted.items():
        assert found[name].margin == pytest.approx(one.margin, abs=1e-4)
        assert found[name].logprobs == pytest.approx(one.logprobs, abs=1e-4)
    if "beams" not in decode:  # whose caches move at every step
        told = model.provenance()["cuda_graphs"]
        assert told["on"]
        assert 1 < told["captured"] < told["replayed"] < told["steps"]


def test_one_memory_serves_all_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second task finds its steps recorded; a cache that grows does not keep the old one alive."""
    model = recording(monkeypatch, 1)
    steps = model._engine.static
    made: list[int] = []
    begin = model._engine.decoder.begin
    monkeypatch.setattr(model._engine.decoder, "begin", lambda *a: made.append(a[1]) or begin(*a))
    first, again = (by_id(model.predict(ask(12))) for _ in range(2))
    captured = steps.captured
    assert by_id(model.predict(ask(12))) == again == first
    assert (len(made), steps.captured) == (1, captured)
    with torch.inference_mode():
        state = steps.begin(4, 8, 0)
        old = state.keys.data_ptr()
        state.lengths = [3]
        steps.reserve(state, 64, 500)
    assert steps._memory is None
    assert state.keys.data_ptr() != old
    assert (state.places, state.room) == (64, 504)


def test_a_step_has_the_same_shape_whatever_ran_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beams and choices make batches of any size; memory left by a larger batch may not add rows to them."""
    found = []
    for before in (0, 20):
        model = recording(monkeypatch, 1, None)
        list(model.predict(ask(before)))
        decoder, shapes = model._engine.decoder, []
        step = decoder.masked_step
        monkeypatch.setattr(
            decoder, "masked_step", lambda *a, s=shapes, f=step: s.append((a[0].shape, a[3].shape)) or f(*a)
        )
        list(model.predict(ask(2, beams=3)))
        found.append(shapes)
    assert found[0] == found[1] != []


def test_graphs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "GRAPHS", 2)
    asked = ask(20, max_new_tokens=60)
    model = recording(monkeypatch, 1)
    found = by_id(model.predict(asked))
    assert len(model._engine.static._graphs) == 2
    assert texts(found) == texts(by_id(backend(tiny.checkpoint(1), engine="fast").predict(asked)))
    model._engine.free()
    assert not model._engine.static._graphs
    assert texts(by_id(model.predict(asked))) == texts(found)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RuntimeError("operation not permitted when stream is capturing\nmore"), "operation not permitted"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
    ],
)
def test_what_cannot_be_recorded_runs_as_it_is(
    error: Exception, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(work: cuda_graphs.Work) -> cuda_graphs.Work:
        raise error

    asked = ask(12)
    model = recording(monkeypatch, 1, fails)
    found = by_id(model.predict(asked))
    assert texts(found) == texts(by_id(backend(tiny.checkpoint(1), engine="fast").predict(asked)))
    told = model.provenance()["cuda_graphs"]
    assert (told["on"], told["captured"], told["replayed"]) == (False, 0, 0)
    assert why in told["off"]
    assert "\n" not in told["off"]
    assert caplog.text.count("CUDA graphs are off") == 1


def test_a_record_that_is_wrong_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay that gives the logits of when it was recorded, whatever is asked now."""
    made: list[Any] = []

    def frozen(work: cuda_graphs.Work) -> cuda_graphs.Work:
        logits = made[0]._logits.clone()

        def replay() -> None:
            made[0]._logits.copy_(logits)

        return replay

    asked = ask(20, max_new_tokens=60)
    model = recording(monkeypatch, 1, frozen)
    made.append(model._engine.static)
    found = by_id(model.predict(asked))
    assert texts(found) == texts(by_id(backend(tiny.checkpoint(1), engine="fast").predict(asked)))
    told = model.provenance()["cuda_graphs"]
    assert told["off"] == "a replayed step gave other logits"
    assert told["replayed"] == 0


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


# --- switches ------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without CUDA")
def test_graphs_are_off_without_cuda() -> None:
    model = backend(tiny.checkpoint(1), engine="fast")
    model.load()
    assert model.provenance()["cuda_graphs"] == {"on": False}
    with pytest.raises(ModelError, match="--cuda-graphs on: the model runs on cpu"):
        backend(tiny.checkpoint(1), engine="fast", cuda_graphs="on").load()


def test_graphs_do_not_name_a_run_and_compiling_does() -> None:
    plain, graphs, compiled = (
        backend(tiny.checkpoint(1), engine="fast", **options).identity()
        for options in ({}, {"cuda_graphs": "on"}, {"compile": "true"})
    )
    assert plain == graphs
    assert compiled == {**plain, "compiled": True}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "plain", "compile": True}, "engine fast"),
        ({"engine": "plain", "cuda_graphs": "on"}, "engine fast"),
        ({"engine": "fast", "cuda_graphs": "yes"}, "--cuda-graphs yes: no such"),
        ({"engine": "fast", "compile": "maybe"}, "--compile maybe: must be True or False"),
    ],
)
def test_switches_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        backend(tiny.checkpoint(1), **options)


def test_compiling_without_a_compiler_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(function: Any) -> Any:
        raise RuntimeError("Failed to find C compiler.\nSet CC.")

    monkeypatch.setattr(compiling.torch, "compile", broken)
    with pytest.raises(
        ModelError, match=r"--compile: .*Failed to find C compiler\.\); on cpu it needs a C\+\+"
    ):
        backend(tiny.checkpoint(1), engine="fast", compile=True).load()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler here")
@pytest.mark.parametrize("family", [1, 2])
def test_compiled_steps_give_the_same_answers(family: int) -> None:
    asked = ask(12, max_new_tokens=20)
    model = backend(tiny.checkpoint(family), engine="fast", batch_size=7, compile=True)
    found = by_id(model.predict(asked))
    assert texts(found) == texts(by_id(backend(tiny.checkpoint(family), engine="fast").predict(asked)))
    assert model.provenance()["compiled"]
