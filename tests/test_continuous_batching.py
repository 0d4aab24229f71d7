"""What happens when in a running batch, with an engine that only counts: on a GPU the next prompts begin
before the answers of the last batch are given out."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from benchmarks.ordering import END, PIXELS, Scripted
from evalkit.errors import ModelError
from evalkit.models.paligemma.engine.continuous_batching import ContinuousBatch, Row
from evalkit.models.paligemma.engine.decoder import State
from evalkit.models.paligemma.interface import Limit, OutOfMemory, Prompt, rules
from evalkit.types import Decode

RULES = rules("paper", (END,))


class Noted(Scripted):
    """Notes its calls; runs out of memory when it is to read more than `most` prompts."""

    def __init__(self, overlaps: bool, most: int = 99) -> None:
        super().__init__()
        self.overlaps, self.most = overlaps, most
        self.events: list[str] = []

    def prefill(self, prompts: Any, *rest: Any) -> Any:
        self.events.append(f"read {len(prompts)}")
        if len(prompts) > self.most:
            raise torch.OutOfMemoryError
        return super().prefill(prompts, *rest)

    def step(self, *given: Any) -> Any:
        self.events.append("step")
        return super().step(*given)

    def free(self) -> None:
        self.events.append("free")


def batches(engine: Noted, lengths: list[list[int]], end: type[BaseException] | None) -> Iterator[list[Row]]:
    for batch in lengths:
        engine.events.append("fetch")
        yield [Row(Prompt(PIXELS, (2,), n), n) for n in batch]
    if end is not None:
        raise end


def happened(
    engine: Noted, *lengths: list[int], refill: bool = False, end: type[BaseException] | None = None
) -> list[str]:
    """The engine's events, with the answers as they were given out."""
    batch = ContinuousBatch(engine, Decode(99, None), RULES, Limit(4), refill)  # type: ignore[arg-type]
    try:
        for row in batch.run(batches(engine, list(lengths), end)):
            engine.events.append(f"answer {len(row.tokens)}")
            assert len(row.tokens) == row.tag
    except BaseException as error:
        assert end is not None
        engine.events.append(type(error).__name__)
    return engine.events


def test_on_a_cpu_answers_are_given_out_before_anything_else_is_computed() -> None:
    assert happened(Noted(False), [2, 2], [1]) == [
        "fetch", "read 2", "step", "answer 2", "answer 2", "fetch", "read 1", "answer 1",
    ]  # fmt: skip


def test_on_a_gpu_the_next_prompts_begin_first_and_the_batch_after_them_is_fetched_meanwhile() -> None:
    assert happened(Noted(True), [2, 2], [1], [1]) == [
        "fetch", "read 2", "fetch", "step", "read 1", "answer 2", "answer 2", "fetch", "read 1", "answer 1",
        "answer 1",
    ]  # fmt: skip


@pytest.mark.parametrize("overlaps", [False, True])
@pytest.mark.parametrize("refill", [False, True])
def test_every_row_is_answered_once(overlaps: bool, refill: bool) -> None:
    lengths = [[7, 1, 3], [1], [9, 9, 2, 1], [4], [5, 2]]
    events = happened(Noted(overlaps), *lengths, refill=refill)
    answers = sorted(int(e.split()[1]) for e in events if e.startswith("answer"))
    assert answers == sorted(n for batch in lengths for n in batch)


@pytest.mark.parametrize("overlaps", [False, True])
def test_running_out_of_memory_keeps_what_ended(overlaps: bool) -> None:
    events = happened(Noted(overlaps, most=2), [1, 1], [2, 2, 2, 2], [1])
    assert sorted(e for e in events if e.startswith("answer")) == ["answer 1"] * 3 + ["answer 2"] * 4
    failed = events.index("read 4")
    assert events[failed + 1] == "free"
    assert "read 4" not in events[failed + 1 :]  # the limit of rows is two now
    assert events[:failed].count("answer 1") == (0 if overlaps else 2)
    assert events[failed + 2 : failed + 4] == (["answer 1"] * 2 if overlaps else ["read 2", "step"])


def test_one_prompt_that_does_not_fit_ends_the_run_after_the_answers_before_it() -> None:
    engine = Noted(True)
    read = engine.prefill

    def once(*given: Any) -> Any:
        found = read(*given)
        engine.most = 0
        return found

    engine.prefill = once  # type: ignore[method-assign]
    assert happened(engine, [1], [1], end=OutOfMemory)[-5:] == [
        "read 1", "free", "answer 1", "read 1", "OutOfMemory",
    ]  # fmt: skip


@pytest.mark.parametrize("overlaps", [False, True])
@pytest.mark.parametrize("end", [ValueError, KeyboardInterrupt])
def test_an_error_of_the_source_and_ctrl_c_lose_no_answer(overlaps: bool, end: type[BaseException]) -> None:
    """With `overlaps` the source ends while the second batch is being read."""
    events = happened(Noted(overlaps), [1, 1], [1], end=end)
    assert events[-1] == end.__name__
    assert events.count("answer 1") == (2 if overlaps and end is KeyboardInterrupt else 3)


@pytest.mark.parametrize("overlaps", [False, True])
def test_what_ended_in_the_step_that_failed_is_given_out(overlaps: bool) -> None:
    class Breaks(Noted):
        def step(self, *given: Any) -> Any:
            logits = super().step(*given)
            logits[-2] = torch.nan
            return logits

        def not_finite(self) -> ModelError:
            return ModelError("not finite")

    events = happened(Breaks(overlaps), [2, 9, 2], end=ModelError)
    assert events[-3:] == ["answer 2", "answer 2", "ModelError"]


@pytest.mark.parametrize("overlaps", [False, True])
def test_ctrl_c_while_ended_rows_are_removed(overlaps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ContinuousBatch, "_retire", interrupted)
    assert happened(Noted(overlaps), [1, 2], [1], end=KeyboardInterrupt)[-2:] == [
        "answer 1", "KeyboardInterrupt",
    ]  # fmt: skip


@pytest.mark.parametrize("overlaps", [False, True])
def test_a_prompt_that_fits_once_the_cache_of_the_last_batch_is_gone(overlaps: bool) -> None:
    class Growing(Noted):
        def prefill(self, prompts: Any, rules: Any, state: Any, room: int) -> Any:
            if state is not None:
                self.events.append("full")
                raise torch.OutOfMemoryError
            return super().prefill(prompts, rules, state, room)

    events = happened(Growing(overlaps), [1, 1, 1, 1], [1], [1, 1, 1, 1])
    assert events.count("answer 1") == 9
    assert "read 2" in events  # the limit of rows is not one from then on


def test_a_larger_cache_replaces_one_that_no_row_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory never holds both."""
    state = State(torch.zeros(2, 3, 1, 4, 5), torch.zeros(2, 3, 1, 4, 5), 0, [])
    gone = [weakref.ref(state.keys), weakref.ref(state.values)]
    make, there = torch.Tensor.new_zeros, list[bool]()

    def made(self: torch.Tensor, *given: Any) -> torch.Tensor:
        there.extend(one() is not None for one in gone)
        return make(self, *given)

    monkeypatch.setattr(torch.Tensor, "new_zeros", made)
    state.reserve(2, 9)
    assert there == [False] * 4
    assert (state.places, state.room) == (3, 9)
