"""Quick scores of a model on held-out scenes, for watching a training run.

Plain accuracies, not the official metrics: those are the harness's to compute.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from typing import Any

import numpy as np
import torch

from evalkit.demo import world
from evalkit.demo.training import lessons, vae

DEV_SEED = 500_000
"""Held out from training and from the benchmark alike."""


def generate(model: Any, processor: Any, images: list[Any], prompts: list[str], batch: int = 64) -> list[str]:
    """Greedy answers by transformers' own `generate`, batched by similar length."""
    size = int(model.config.vision_config.image_size)
    long = [i for i, p in enumerate(prompts) if not p.startswith("answer")]
    short = [i for i, p in enumerate(prompts) if p.startswith("answer")]
    out = [""] * len(prompts)
    for group, limit in ((short, 4), (long, 48)):
        group = sorted(group, key=lambda i: len(prompts[i]))
        for start in range(0, len(group), batch):
            part = group[start : start + batch]
            inputs = processor(
                images=[images[i] for i in part],
                text=["<image>" + prompts[i] for i in part],
                return_tensors="pt",
                padding=True,
            )
            inputs.pop("labels", None)
            assert inputs["pixel_values"].shape[-1] == size
            with torch.inference_mode():
                made = model.generate(**inputs, max_new_tokens=limit, do_sample=False)
            texts = processor.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            for i, text in zip(part, texts, strict=True):
                out[i] = text
    return out


def boxes(text: str) -> list[tuple[float, ...]]:
    """Every (ymin, xmin, ymax, xmax) of a text, 0 to 1."""
    found = re.findall(r"<loc(\d{4})>" * 4, text)
    return [tuple(int(n) / 1023 for n in row) for row in found]


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """IoU of two boxes."""
    h, w = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(h, 0.0) * max(w, 0.0)
    areas = sum((r[2] - r[0]) * (r[3] - r[1]) for r in (a, b))
    return both / (areas - both) if areas > both else 0.0


def draw(masks: vae.MaskVAE, text: str, size: int = world.SIZE) -> world.Bools:
    """The mask that a text's first box and sixteen codes stand for, on (size, size) pixels."""
    codes, box = [int(n) for n in re.findall(r"<seg(\d{3})>", text)][:16], boxes(text)
    if len(codes) < 16 or not box:
        return np.zeros((size, size), dtype=np.bool_)
    with torch.no_grad():
        mask = masks.decode(torch.tensor([codes]))[0].numpy()
    y0, x0, y1, x1 = (v * size for v in box[0])
    at = np.arange(size) + 0.5
    iy, ix = (at - y0) / max(y1 - y0, 1) * vae.SIDE, (at - x0) / max(x1 - x0, 1) * vae.SIDE
    inside = ((iy >= 0) & (iy < vae.SIDE))[:, None] & ((ix >= 0) & (ix < vae.SIDE))[None, :]
    rows, columns = (np.clip(i, 0, vae.SIDE - 1).astype(int) for i in (iy, ix))
    return (mask[rows[:, None], columns[None, :]] > 0) & inside  # type: ignore[no-any-return]


def mask_overlap(a: world.Bools, b: world.Bools) -> float:
    """IoU of two masks."""
    union = (a | b).sum()
    return float((a & b).sum() / union) if union else 0.0


def _found(truth: str, text: str) -> float:
    """F1 of labelled boxes at IoU .5, greedily matched."""

    def parse(t: str) -> list[tuple[str, tuple[float, ...]]]:
        return [(p.split(">")[-1].strip(), b) for p in t.split(";") for b in boxes(p)[:1]]

    want, got = parse(truth), parse(text)
    total, left = len(want) + len(got), list(want)
    for label, box in got:
        hit = next((w for w in left if w[0] == label and overlap(w[1], box) >= 0.5), None)
        if hit:
            left.remove(hit)
    return 2 * (len(want) - len(left)) / total


def score(
    model: Any,
    processor: Any,
    masks: vae.MaskVAE,
    scenes: int = 100,
    size: int = world.SIZE,
    first: int = DEV_SEED,
) -> dict[str, float]:
    """Mean score of each task."""
    model.eval()
    rows, pictures = [], []
    for i in range(first, first + scenes):
        scene = world.make(i)
        codes = masks.encode(torch.stack([torch.from_numpy(vae.crop(t)) for t in scene.things]))
        coded = {t.name: c for t, c in zip(scene.things, codes.tolist(), strict=True)}
        asked = lessons.lessons(scene, random.Random(i), coded, 1.0)
        rows += asked
        pictures += [world.render(scene, size)] * len(asked)
    texts = generate(model, processor, pictures, [p for _, p, _ in rows])
    model.train()
    scores: dict[str, list[float]] = defaultdict(list)
    for (task, _, truth), text in zip(rows, texts, strict=True):
        if task in ("detect", "segment"):
            iou = overlap(boxes(truth)[0], (boxes(text) or [(0.0,) * 4])[0])
            scores["P@.5"].append(iou >= 0.5)
            scores["box IoU"].append(iou)
        if task == "segment":
            scores["mask IoU"].append(mask_overlap(draw(masks, truth), draw(masks, text)))
        elif task == "all":
            scores["all F1"].append(_found(truth, text))
        elif task != "detect":
            scores[task].append(text == truth)
    return {key: round(float(np.mean(values)), 3) for key, values in scores.items()}
