"""The decoder's own kernels (`--fused-kernels`): their answers, and what they gain. In a process of their
own, the last one, because a fault of theirs can end it."""

from __future__ import annotations

import torch

from benchmarks.gpu import answers, ladder, load
from benchmarks.gpu.parts import Part
from evalkit.models.paligemma.engine import fused
from evalkit.models.paligemma.engine.cuda_graphs import CudaCapture, StaticSteps


def run(part: Part) -> None:
    """Answers against the separate operations, PaliGemma 2's among them, then samples a second of both."""
    if not part.toy and not all(fused.works(part.device, t) for t in (torch.float32, torch.bfloat16)):
        part.note("left out: they do not work here, see the log above")
        return
    one = answers.embedded(224, 2 if part.toy else answers.SAMPLES[224])
    two = answers.second(part.scratch, 28 if part.toy else 224, 2 if part.toy else 24)
    checks: list[answers.Check] = [
        ("fused kernels, float32", lambda: answers.faster(part, one, "float32", fused=True)),
        ("with CUDA graphs, float32", lambda: answers.faster(part, one, "float32", True, fused=True)),
        ("with CUDA graphs, bfloat16", lambda: answers.faster(part, one, "bfloat16", True, fused=True)),
        ("PaliGemma 2's shape, float32", lambda: answers.faster(part, two, "float32", True, fused=True)),
    ]
    answers.run_all(part, checks[:: 3 if part.toy else 1])
    if all(row["ok"] for row in part.rows) and part.has(15, "samples a second"):
        _gain(part)


def _gain(part: Part) -> None:
    """Each kind of work without them and with them, both with CUDA graphs."""
    side, ours = ladder.smallest(part)
    engine = ours.engine_
    for work in (load.VQA, load.CAPTIONS, load.DETECTION):
        for on in (False, True):
            engine.decoder.fused = on and not part.toy
            if part.device.type == "cuda":
                engine.static = StaticSteps(engine.decoder, engine.cap, CudaCapture(part.device))
            ladder.reading(part, "fused kernels" if on else "as it is", ours, side, work)
