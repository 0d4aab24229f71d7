"""Samples a second at the 3B's shape: evalkit's backend and transformers' `generate`, in one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu import ceiling, device, load, random_model
from benchmarks.gpu.parts import Part
from benchmarks.gpu.random_model import InMemory, Shape
from benchmarks.gpu.rival import Generate
from evalkit.models.paligemma.engine.cuda_graphs import CudaCapture, StaticSteps
from evalkit.models.paligemma.engine.fast import FastEngine
from evalkit.models.paligemma.memory import is_out_of_memory

BATCHES = (1, 8, 32)
SECONDS = 4.0  # of one reading
MOST = 4096  # samples of one reading


def run(part: Part) -> None:
    """Every shape, resolution and kind of work, the most telling first."""
    dtype = torch.bfloat16
    speed = device.speed(part.device, dtype, *((64, 0.01) if part.toy else ()))
    part.keep(speed={"teraflops": speed.flops / 1e12, "terabytes_a_second": speed.bytes / 1e12})
    for name, shape in (random_model.TOYS if part.toy else random_model.SHAPES).items():
        if not part.has(30, name):
            continue
        both = Both(shape, part.device, dtype)
        for side in shape.sides:
            both.at(side)
            more = (load.CAPTIONS, load.DETECTION) if side == shape.sides[0] and shape.family == 1 else ()
            for work in (load.VQA, *more):
                _compare(part, name, both, work, speed)
        del both
        device.release(part.device)


class Both:
    """Both contenders with the same random weights, at one resolution at a time."""

    def __init__(self, shape: Shape, home: torch.device, dtype: torch.dtype) -> None:
        self.shape, self._rival = shape, random_model.build(shape, home, dtype)
        taken = random_model.build(shape, home, dtype)
        self._infos = {side: random_model.describe(taken, shape, side) for side in shape.sides}
        self._engine = FastEngine(taken, self._infos[shape.sides[0]].image_tokens)
        self._engine.speed_up(False, False)

    def at(self, side: int) -> None:
        """Switches both to this resolution."""
        random_model.resize(self._rival, side)
        self.info = self._infos[side]
        self._engine.tower.places = random_model.position_table(self._rival, side)
        self.ours: InMemory = random_model.backend(self._engine, self.info)
        self.generate = Generate(self._rival, self.ours._prompter)  # type: ignore[arg-type]


def _compare(part: Part, name: str, both: Both, work: load.Work, speed: device.Speed) -> None:
    """Rows of evalkit and of `generate` in each batch size."""
    info = both.info
    case = {"model": name, "px": info.resolution, "work": work.name}
    if not part.has(8, f"{name}, {info.resolution} px, {work.name}"):
        return
    sides = {"evalkit": _ours(both.ours, work, info.resolution)}
    if part.device.type == "cuda":
        sides["evalkit, CUDA graphs"] = _ours(both.ours, work, info.resolution, graphs=True)
    for rows in BATCHES[: 2 if part.toy else None]:
        sides[f"generate, batch {rows}"] = _theirs(both.generate, work, info, rows)
    answers: dict[str, dict[str, tuple[int, ...]]] = {}
    for who, answer in sides.items():
        if not part.has(5, f"{name}, {info.resolution} px, {work.name}, {who}"):
            continue
        try:
            row, answers[who] = _reading(part, answer, work, who.startswith("evalkit"))
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            device.release(part.device)
            part.add(**case, who=who, said="does not fit into memory")
            continue
        row |= _shares(row, info, work, speed, both.ours._limit.rows if both.ours._limit else 1)
        if not who.startswith("evalkit"):
            row["equal"] = _equal(answers.get("evalkit", {}), answers[who])
        part.add(**case, who=who, **row)


Answerer = Callable[[int, int], dict[str, tuple[int, ...]]]
"""Answers samples `start` to `start + count`; gives their tokens by id."""


def _ours(backend: InMemory, work: load.Work, side: int, graphs: bool = False) -> Answerer:
    load.script(backend, work)
    engine = backend.engine_
    static = StaticSteps(engine.decoder, engine.cap, CudaCapture(engine.home)) if graphs else None

    def answer(start: int, count: int) -> dict[str, tuple[int, ...]]:
        engine.static = static
        return backend.ask(work.requests(side, start, count))

    return answer


def _theirs(generate: Generate, work: load.Work, info: Any, rows: int) -> Answerer:
    def answer(start: int, count: int) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for at in range(start, start + count, rows):
            requests = work.requests(info.resolution, at, min(rows, start + count - at))
            found |= generate.answer(requests, work, info.image_tokens)
        return found

    return answer


def _reading(
    part: Part, answer: Answerer, work: load.Work, ours: bool
) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """One contender's row, and its answers to the first samples. It answers 32 samples to warm up and as many
    to see how fast it is, then as many others as take about `SECONDS`, then some under the profiler."""
    warm, few = (5, 2) if part.toy else (160, 32)
    first = answer(0, few)
    pilot = device.seconds(part.device, lambda: answer(0, few)) / few
    many = 3 if ours else 1  # evalkit is slower with few samples, which have as many lengths
    count = warm if part.toy else max(10, min(MOST, int(many * SECONDS / pilot)))
    count -= count % work.questions
    with device.Peak(part.device) as peak:
        spent = device.seconds(part.device, lambda: answer(10_000, count))
    busy = None
    if part.device.type == "cuda":
        some = max(5, min(count, warm, int(2 / pilot)))
        seen = device.profile(part.device, lambda: answer(50_000, some))
        busy = seen.busy / seen.seconds
    return {
        "samples": count,
        "samples_a_second": count / spent,
        "memory_gib": None if peak.bytes is None else peak.bytes / 2**30,
        "busy": busy,
    }, first


def _shares(
    row: dict[str, Any], info: Any, work: load.Work, speed: device.Speed, rows: int
) -> dict[str, float]:
    """The rate as a share of the ceiling: of every sample in full, and with the exact savings."""
    requests = work.requests(info.resolution, 10_000, min(500, row["samples"]))
    new = sum(work.length(r.id) for r in requests) / len(requests)
    prompt = sum(len(r.prompt) + 2 for r in requests) / len(requests)
    sample = ceiling.Sample(prompt, new, work.questions, rows)
    full, saved = (ceiling.samples_a_second(info, sample, speed, s) for s in (False, True))
    return {
        "ceiling": full,
        "share": row["samples_a_second"] / full,
        "share_with_savings": row["samples_a_second"] / saved,
    }


def _equal(ours: dict[str, tuple[int, ...]], theirs: dict[str, tuple[int, ...]]) -> str:
    """How many of the first answers are equal; the random weights' margins are small, and it is bfloat16."""
    both = [k for k in ours if k in theirs]
    return f"{sum(ours[k] == theirs[k] for k in both)} of {len(both)}" if both else ""
