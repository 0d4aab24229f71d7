"""Samples a second at the 3B's shape: evalkit's backend and transformers' `generate`, in one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu import ceiling, device, load, random_model
from benchmarks.gpu.parts import Part
from benchmarks.gpu.random_model import InMemory, Shape
from benchmarks.gpu.rival import Generate
from evalkit.models.paligemma.engine.fast import FastEngine
from evalkit.models.paligemma.memory import is_out_of_memory

BATCHES = (1, 8, 32)
SECONDS = 3.0  # of one reading
MOST = 4096  # samples of one reading: as many as evalkit plans together


def run(part: Part) -> None:
    """Every shape, resolution and kind of work, the most telling first."""
    dtype = torch.bfloat16
    speed = device.speed(part.device, dtype, *((64, 0.01) if part.toy else ()))
    part.keep(speed={"teraflops": speed.flops / 1e12, "terabytes_a_second": speed.bytes / 1e12})
    for name, shape in (random_model.TOYS if part.toy else random_model.SHAPES).items():
        if not part.has(30, name):
            continue
        both = _both(part, name, shape, dtype)
        if both is None:
            continue
        cases = [(side, load.VQA) for side in shape.sides]
        if shape.family == 1:
            cases[1:1] = [(shape.sides[0], work) for work in (load.CAPTIONS, load.DETECTION)]
        for side, work in cases:
            both.at(side)
            _compare(part, name, both, work, speed)
        del both
        device.release(part.device)


def _both(part: Part, name: str, shape: Shape, dtype: torch.dtype) -> Both | None:
    """Both contenders, or evalkit alone where the device has no room for the weights twice (a 3B: 12 GB)."""
    for alone in (False, True):
        try:
            return Both(shape, part.device, dtype, alone)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        device.release(part.device)
        part.note(f"{name}: its weights do not fit into this device's memory{' twice' * (not alone)}")
    return None


class Both:
    """Both contenders with the same random weights, at one resolution at a time; or evalkit `alone`."""

    def __init__(self, shape: Shape, home: torch.device, dtype: torch.dtype, alone: bool = False) -> None:
        self.shape, self._rival = shape, None if alone else random_model.build(shape, home, dtype)
        taken = random_model.build(shape, home, dtype)
        self._infos = {side: random_model.describe(taken, shape, side) for side in shape.sides}
        self._engine = FastEngine(taken, self._infos[shape.sides[0]].image_tokens)
        self._engine.speed_up(None, False)

    def at(self, side: int) -> None:
        """Switches both to this resolution."""
        self.info, tower = self._infos[side], self._engine.tower
        tower.places = random_model.position_table(tower.places, side)
        self.ours: InMemory = random_model.backend(self._engine, self.info)
        self.generate: Generate | None = None
        if self._rival is not None:
            random_model.resize(self._rival, side)
            self.generate = Generate(self._rival, self.ours._prompter)  # type: ignore[arg-type]


def _compare(part: Part, name: str, both: Both, work: load.Work, speed: device.Speed) -> None:
    """Rows of evalkit and of `generate` in each batch size."""
    info = both.info
    case = {"model": name, "px": info.resolution, "work": work.name}
    if not part.has(8, f"{name}, {info.resolution} px, {work.name}"):
        return
    batches = BATCHES[:2] if part.toy else BATCHES if work is load.VQA else BATCHES[1:]
    sides = {0: _ours(both.ours, work, info.resolution)}
    if both.generate is not None:
        sides |= {rows: _theirs(both.generate, work, info, rows) for rows in batches}
    answers: dict[str, dict[str, tuple[int, ...]]] = {}
    for rows, answer in sides.items():
        who = f"generate, batch {rows}" if rows else "evalkit"
        if not part.has(5, f"{name}, {info.resolution} px, {work.name}, {who}"):
            continue
        try:
            if rows:
                row, answers[who] = _theirs_reading(part, answer, work, rows)
            else:
                most, _ = _ceiling(info, work, speed, both.ours, 500)
                row, answers[who] = _our_reading(part, answer, work, most)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            device.release(part.device)
            part.add(**case, who=who, said="does not fit into memory")
            continue
        full, saved = _ceiling(info, work, speed, both.ours, row["samples"])
        rate = row["samples_a_second"]
        row |= {"ceiling": full, "share": rate / full, "share_with_savings": rate / saved}
        if rows:
            row["equal"] = _equal(answers.get("evalkit", {}), answers[who])
        part.add(**case, who=who, **row)


Answerer = Callable[[int, int], dict[str, tuple[int, ...]]]
"""Answers samples `start` to `start + count`; gives their tokens by id."""


def _ours(backend: InMemory, work: load.Work, side: int) -> Answerer:
    load.script(backend, work)
    return lambda start, count: backend.ask(work.requests(side, start, count))


def _theirs(generate: Generate, work: load.Work, info: Any, rows: int) -> Answerer:
    def answer(start: int, count: int) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for at in range(start, start + count, rows):
            requests = work.requests(info.resolution, at, min(rows, start + count - at))
            found |= generate.answer(requests, work, info.image_tokens)
        return found

    return answer


def _theirs_reading(
    part: Part, answer: Answerer, work: load.Work, rows: int
) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """A row of `generate`, and its answers to the first samples: some to warm up, the same to see how fast it
    is, then as many others as take about `SECONDS`."""
    few = 2 if part.toy else max(8, rows)
    first = answer(0, few)
    pilot = device.seconds(part.device, lambda: answer(0, few)) / few
    count = 5 if part.toy else max(10, min(MOST, int(SECONDS / pilot)))
    return _timed(part, answer, count - count % work.questions), first


def _our_reading(
    part: Part, answer: Answerer, work: load.Work, ceiling: float
) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """A row of evalkit, and its answers to the first samples. Few samples have as many lengths as many have,
    in smaller batches: so it gets what half of the ceiling would answer in 12 seconds, a quarter of that
    first."""
    first = answer(0, 5 if part.toy else 40)
    count = 10 if part.toy else max(10, min(MOST, int(ceiling / 2 * 4 * SECONDS)))
    warm = count // 4
    spent = device.seconds(part.device, lambda: answer(5_000, warm))
    count = min(count, max(10, int(4 * SECONDS * warm / spent)))
    row = _timed(part, answer, count - count % work.questions)
    if part.device.type == "cuda":
        row["busy"] = _busy(part, lambda: answer(50_000, count // 6))
    return row, first


def _busy(part: Part, work: Callable[[], object]) -> float | None:
    """The share of the time in which a kernel ran; None where the profiler does not work."""
    try:
        seen = device.profile(part.device, work)
    except RuntimeError as error:
        part.note(f"the profiler does not work here: {str(error).strip()[:200]}")
        return None
    return seen.busy / seen.seconds if seen.kernels else None


def _timed(part: Part, answer: Answerer, count: int) -> dict[str, Any]:
    """Samples a second, and memory beside the weights."""
    with device.Peak(part.device) as peak:
        spent = device.seconds(part.device, lambda: answer(10_000, count))
    gib = None if peak.bytes is None else peak.bytes / 2**30
    return {"samples": count, "samples_a_second": count / spent, "memory_gib": gib, "busy": None}


def _ceiling(
    info: Any, work: load.Work, speed: device.Speed, ours: InMemory, count: int
) -> tuple[float, float]:
    """Samples a second that the device could reach: with every sample in full, and with the exact savings."""
    requests = work.requests(info.resolution, 10_000, min(500, count))
    new = sum(work.length(r.id) for r in requests) / len(requests)
    prompt = sum(len(r.prompt) + 2 for r in requests) / len(requests)
    sample = ceiling.Sample(prompt, new, work.questions, ours._limit.rows if ours._limit else 1)
    full, saved = (ceiling.samples_a_second(info, sample, speed, savings) for savings in (False, True))
    return full, saved


def _equal(ours: dict[str, tuple[int, ...]], theirs: dict[str, tuple[int, ...]]) -> str:
    """How many of the first answers are equal; the random weights' margins are small, and it is bfloat16."""
    both = [k for k in ours if k in theirs]
    return f"{sum(ours[k] == theirs[k] for k in both)} of {len(both)}" if both else ""
