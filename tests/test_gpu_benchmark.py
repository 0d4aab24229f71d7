"""`python -m benchmarks.gpu`: its arithmetic, its lines on a CPU, and what it says without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import gpu, models
from evalkit.models.paligemma import flops
from evalkit.models.paligemma.checkpoint import info as checkpoint_info


def test_one_line() -> None:
    """800 TFLOP/s and 1.31 TFLOP a sample make 610.7 samples a second at most."""
    found = gpu.row(224, "on", 600, 2.0, 1.31e12, 800.0, 12 * 2**30)
    assert found == {
        "resolution": 224,
        "cuda_graphs": "on",
        "samples_per_second": 300.0,
        "ceiling": 610.7,
        "share_of_ceiling": 0.491,
        "peak_memory_gib": 12.0,
    }
    told = gpu.table([found])
    assert told.splitlines()[-1] == "| 224 | on | 300.0 | 610.7 | 49.1 % | 12.0 GiB |"


def test_a_whole_line_can_be_measured(tmp_path: Path) -> None:
    path = models.build(tmp_path / "thin", "thin", 28, dtype=torch.bfloat16)
    info = checkpoint_info.inspect(path)
    assert info.dtype == "bfloat16"
    found = gpu.measure(path, 10, tmp_path, 1.0, "off", device="cpu")
    assert (found["resolution"], found["cuda_graphs"]) == (28, "off")
    assert found["samples_per_second"] > 0
    assert found["ceiling"] == round(1e12 / flops.flops(info, 1, gpu.PROMPT, gpu.NEW), 1)
    assert list(gpu.checkpoints(path, tmp_path)) == [path]


def test_every_resolution_is_built_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[tuple[str, int]] = []

    def build(folder: Path, shape: str, side: int, dtype: torch.dtype) -> Path:
        built.append((shape, side))
        folder.mkdir()
        return folder

    monkeypatch.setattr(models, "build", build)
    for path in gpu.checkpoints(None, tmp_path):
        assert path.is_dir()
    assert built == [("3b", 224), ("3b", 448), ("3b", 896)]
    assert not list(tmp_path.iterdir())


def test_without_a_gpu(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "no CUDA device here, so nothing was measured" in err
