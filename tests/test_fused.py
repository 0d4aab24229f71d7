"""The decoder's own kernels, by Triton's interpreter: each against torch's operations, then whole answers. It
needs Triton, which comes with torch's builds for GPUs; `python -m benchmarks.gpu` tries them on a device."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from evalkit.models.paligemma.engine import fused

INTERPRETED = """
import torch
import tiny
from evalkit.models.paligemma.engine import fused
from evalkit.models.paligemma.engine.cuda_graphs import StaticSteps

assert fused._right(torch.device("cpu"), torch.float32)
assert fused._right(torch.device("cpu"), torch.float16)
for family, static in ((1, False), (1, True), (2, True)):
    found = []
    for on in (False, True):
        model = tiny.backend(tiny.checkpoint(family), engine="fast", batch_size=3)
        model.load()
        engine = model._engine
        engine.decoder.fused = on
        if static:  # as with CUDA graphs: a step's inputs are columns of one table
            engine.static = StaticSteps(engine.decoder, engine.cap, None)
        found.append(tiny.by_id(model.predict(tiny.ask(5, max_new_tokens=6))))
    plain, kernels = found
    assert [p.text for p in plain.values()] == [p.text for p in kernels.values()], family
    far = max(abs(plain[i].margin - kernels[i].margin) for i in plain)
    assert 0 <= far < 1e-4, far
print("equal")
"""


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs triton, which torch's CPU build lacks"
)
def test_kernels_compute_what_torchs_operations_do() -> None:
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent), *filter(None, sys.path)])
    ran = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.split()[-1] == "equal"


@pytest.mark.parametrize("there", [True, False])
def test_without_triton_or_where_it_fails_there_are_none(
    there: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> bool:
        raise RuntimeError("no compiler\nat all")

    monkeypatch.setattr(fused, "triton", object() if there else None)
    monkeypatch.setattr(fused, "_right", fails)
    assert not fused.works.__wrapped__(torch.device("cpu"), torch.float32)
    assert [r.message for r in caplog.records] == ["fused kernels are off: no compiler"] * there
