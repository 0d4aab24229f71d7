"""First stage: the vision tower alone, on dense labels of every patch.

Training the whole from nothing fails; a tower that sees first makes the language stage short.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from evalkit.demo import world
from evalkit.demo.training import model as m

TRAIN_SEED = 1_000_000
"""Training scenes have seeds from here on, held-out scenes have seeds below."""


class Scenes(IterableDataset):  # type: ignore[type-arg]
    """Endless batches of (uint8 patches, dense labels, dense boxes); every scene is new."""

    def __init__(self, batch: int, first: int) -> None:
        self.batch, self.first = batch, first

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        info = get_worker_info()
        number, step = (info.id, info.num_workers) if info else (0, 1)
        seed = self.first + number
        while True:
            rows = []
            for _ in range(self.batch):
                scene = world.make(seed)
                seed += step
                rows.append((world.render(scene), *m.dense_labels(scene)))
            images, labels, boxes = (torch.stack([torch.from_numpy(r[i]) for r in rows]) for i in range(3))
            yield m.patches(images), labels, boxes


def rate(done: float, warm: float = 0.02) -> float:
    """Linear warm-up, then cosine to 2 %; `done` runs from 0 to 1."""
    if done < warm:
        return max(done, 1e-4) / warm
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))


def set_rate(optimisers: list[torch.optim.Optimizer], factor: float) -> None:
    """Scale every group's first learning rate."""
    for group in (g for o in optimisers for g in o.param_groups):
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


def train(model: Any, out: Path, minutes: float, batch: int = 128, lr: float = 2e-3) -> m.Dense:
    """Train the tower for some minutes; returns the dense head, which stays in use as a helper."""
    tower, head = model.model.vision_tower, m.Dense()
    named = [*tower.named_parameters(), *head.named_parameters()]
    optimisers = m.optimisers(named, lr)
    scenes = iter(DataLoader(Scenes(batch, TRAIN_SEED), batch_size=None, num_workers=1))
    begun, step, mean = time.time(), 0, torch.zeros(4)
    while (done := (time.time() - begun) / 60 / minutes) < 1:
        pixels, labels, boxes = next(scenes)
        set_rate(optimisers, rate(done))
        with torch.autocast("cpu", torch.bfloat16):
            hidden = m.see(tower, pixels)
        loss, seen = head(hidden, labels, boxes)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        step += 1
        mean = seen if step == 1 else mean.lerp(seen, 0.02)
        if step % 100 == 0:
            shape, color, glyph, error = mean.tolist()
            print(
                f"vision {(time.time() - begun) / 60:.1f} min step {step} loss {loss:.3f} "
                f"shape {shape:.3f} colour {color:.3f} glyph {glyph:.3f} box {error:.2f} px",
                flush=True,
            )
        if step % 500 == 0:
            save(model, head, out / "vision.pt")
    save(model, head, out / "vision.pt")
    return head


def save(model: Any, head: m.Dense, path: Path) -> None:
    """Write through a temporary name, so that a cut leaves the last good file."""
    torch.save({"model": model.state_dict(), "head": head.state_dict()}, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
