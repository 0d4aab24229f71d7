"""What a run would cost: operations by the weights' shapes, time by earlier runs."""

from __future__ import annotations

import dataclasses

import pytest

from evalkit.evaluation import estimate
from evalkit.models.paligemma import flops
from evalkit.models.paligemma.checkpoint.info import CheckpointInfo


def real(resolution: int) -> CheckpointInfo:
    """The shapes of PaliGemma 3B, without its weights."""
    shapes: dict[str, tuple[int, ...]] = {"language_model.embed_tokens.weight": (257_216, 2048)}
    for i in range(27):
        layer = f"vision_tower.encoder.layers.{i}"
        shapes |= {f"{layer}.self_attn.{p}_proj.weight": (1152, 1152) for p in ("q", "k", "v", "out")}
        shapes |= {f"{layer}.mlp.fc1.weight": (4304, 1152), f"{layer}.mlp.fc2.weight": (1152, 4304)}
    for i in range(18):
        layer = f"language_model.layers.{i}"
        shapes |= {f"{layer}.self_attn.{p}_proj.weight": (2048, 2048) for p in ("q", "o")}
        shapes |= {f"{layer}.self_attn.{p}_proj.weight": (256, 2048) for p in ("k", "v")}
        shapes |= {f"{layer}.mlp.{p}_proj.weight": (16384, 2048) for p in ("gate", "up")}
        shapes |= {f"{layer}.mlp.down_proj.weight": (2048, 16384)}
    empty = {f.name: None for f in dataclasses.fields(CheckpointInfo)}
    given = {"resolution": resolution, "patch": 14, "vocabulary": 257_216, "shapes": shapes}
    return CheckpointInfo(**{**empty, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("resolution", "vision", "prefill"),
    [(224, 0.22e12, 1.08e12), (448, 0.98e12, 4.27e12), (896, 5.48e12, 18.8e12)],
)
def test_the_real_model_costs_what_was_counted_by_hand(
    resolution: int, vision: float, prefill: float
) -> None:
    info = real(resolution)
    without = flops.flops(info, 0, 16, 0)
    assert flops.flops(info, 1, 16, 0) == pytest.approx(vision + prefill, rel=0.03)
    assert without < 0.1e12
    assert flops.flops(info, 1, 16, 2) - flops.flops(info, 1, 16, 0) == pytest.approx(0.0105e12, rel=0.1)


def test_lines_for_people() -> None:
    known = estimate.Estimate(1423, 300, 1.2e12, 40.0, 1_000_000)
    assert estimate.describe([known]) == (
        "1,423 samples, 300 images, at most 1.2 TFLOP, about 40 s by earlier runs here, 1.0 MB on disk"
    )
    assert "time unknown" in estimate.describe([known, dataclasses.replace(known, seconds=None)])
    assert "5.6 h" in estimate.describe([dataclasses.replace(known, seconds=20_000.0)])
