"""The engine's switches one by one at the 3B's shape, and where the time of one batch goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu import device, load, random_model
from benchmarks.gpu.parts import Part
from benchmarks.gpu.random_model import InMemory
from evalkit.models.paligemma import backend as backends
from evalkit.models.paligemma.engine.compile import compile_layers
from evalkit.models.paligemma.engine.cuda_graphs import CudaCapture, StaticSteps
from evalkit.models.paligemma.engine.fast import FastEngine
from evalkit.models.paligemma.memory import is_out_of_memory

SAMPLES, OTHERS = 1280, 512  # of one reading of load.VQA, and of the others
ROWS = (512, 128, 64, 16)  # 256 is the usual number
WINDOWS = (256,)  # requests planned together; 4,096 is what the engine does
KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}


def run(part: Part) -> None:
    """Everything, the readings that decide the next step first: as the engine is by itself, where the time
    goes, then one thing changed at a time."""
    side, ours = smallest(part)
    engine = ours.engine_
    reading(part, "as it is", ours, side, load.VQA)
    _where(part, ours, side, load.VQA)
    for work in (load.CAPTIONS, load.DETECTION):
        reading(part, "as it is", ours, side, work)
    _where(part, ours, side, load.CAPTIONS)
    _sizes(part, ours, side)
    for name in _ways(part, engine, ours):
        for work in (load.VQA, load.CAPTIONS, *[load.DETECTION] * ("compile" not in name)):
            reading(part, name, ours, side, work)
    _attention(part, ours, side)


def smallest(part: Part) -> tuple[int, InMemory]:
    """The 3B's smallest resolution, and evalkit with random weights in that shape."""
    shape = (random_model.TOYS if part.toy else random_model.SHAPES)["PaliGemma 3B"]
    model = random_model.build(shape, part.device, torch.bfloat16)
    info = random_model.describe(model, shape, shape.sides[0])
    engine = FastEngine(model, info.image_tokens)
    engine.speed_up(None, False)
    return shape.sides[0], random_model.backend(engine, info)


def _ways(part: Part, engine: FastEngine, ours: InMemory) -> Iterator[str]:
    """Sets one of the engine's switches after the other; names each way."""
    usual, capture = engine.static, CudaCapture(part.device) if part.device.type == "cuda" else None
    if usual is not None:
        part.note(f"graphs: {usual.provenance()}")
    overlaps, engine.overlaps = engine.overlaps, False
    yield "answers given out before the next prompts begin"
    engine.overlaps = overlaps
    engine.static = None
    yield "without graphs"
    if part.has(25, "compile"):
        if part.toy:
            torch.compiler.set_stance("force_eager")  # a rehearsal does not wait for the compiler
        compile_layers(engine.decoder, engine.tower)
        engine.static = StaticSteps(engine.decoder, engine.cap, None)
        yield "compile"
        engine.static = StaticSteps(engine.decoder, engine.cap, capture and CudaCapture(part.device))
        yield "compile and graphs"
        part.note(f"compile and graphs: {engine.static.provenance()}")
    engine.decoder.compiled_layer = engine.tower.compiled_block = None
    engine.static = usual


def _answerer(ours: InMemory, side: int, work: load.Work, count: int, start: int) -> Callable[[], object]:
    return lambda: ours.ask(work.requests(side, start, count))


def reading(part: Part, name: str, ours: InMemory, side: int, work: load.Work) -> None:
    """A row: samples a second with what is switched on now."""
    if not part.has(4, f"{name}, {work.name}"):
        return
    count = 5 if part.toy else SAMPLES if work is load.VQA else OTHERS
    load.script(ours, work)
    try:
        warm = device.seconds(part.device, _answerer(ours, side, work, count, 0))
        with device.Peak(part.device) as peak:
            spent = device.seconds(part.device, _answerer(ours, side, work, count, 10_000))
    except (torch.OutOfMemoryError, RuntimeError) as error:
        device.release(part.device)
        part.add(switch=name, work=work.name, said=_why(error))
        return
    limit: Any = ours._limit
    part.add(
        switch=name,
        work=work.name,
        rows=limit.rows,
        samples_a_second=count / spent,
        first_seconds=warm,
        memory_gib=None if peak.bytes is None else peak.bytes / 2**30,
    )


def _attention(part: Part, ours: InMemory, side: int) -> None:
    """One kernel of scaled_dot_product_attention at a time, for all that the engine asks of it. Graphs are
    off: they would go on with the kernels that they were recorded with."""
    engine = ours.engine_
    usual, engine.static = engine.static, None
    for name, kernel in KERNELS.items():
        with sdpa_kernel(kernel):
            reading(part, f"attention by {name}, without graphs", ours, side, load.VQA)
    engine.static = usual


def _sizes(part: Part, ours: InMemory, side: int) -> None:
    """Batches of other sizes, then windows of other lengths."""
    limit: Any = ours._limit
    usual = limit.rows
    for rows in ROWS[: 2 if part.toy else None]:
        limit.rows = rows
        reading(part, f"batches of {rows}", ours, side, load.VQA)
    limit.rows = usual
    window = backends.WINDOW
    for some in WINDOWS:
        backends.WINDOW = some
        reading(part, f"windows of {some}", ours, side, load.VQA)
    backends.WINDOW = window


def _where(part: Part, ours: InMemory, side: int, work: load.Work) -> None:
    """The ten longest kernels of four batches, the gaps between kernels, and the host's share."""
    if not part.has(5, f"profile, {work.name}"):
        return
    load.script(ours, work)
    limit: Any = ours._limit
    answer = _answerer(ours, side, work, 5 if part.toy else 4 * limit.rows, 20_000)
    try:
        seen = device.profile(part.device, answer)
    except RuntimeError as error:  # of the profiler, which needs rights that a container may not have
        part.note(f"profile, {work.name}: {_why(error)}")
        return
    part.add(
        profile=work.name,
        seconds=seen.seconds,
        host_seconds=seen.host,
        busy=seen.busy / seen.seconds,
        gaps_traced=seen.gaps,
        traced_seconds=seen.traced,
        kernels=[[name[:120], calls, round(spent, 6)] for name, calls, spent in seen.kernels[:24]],
        calls=sum(calls for _, calls, _ in seen.kernels),
    )


def _why(error: Exception) -> str:
    if is_out_of_memory(error):
        return "does not fit into memory"
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
