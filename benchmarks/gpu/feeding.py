"""Feeding: how fast images are read, resized and sent to the device, against what the tower takes."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks import reading, work
from benchmarks.gpu import device, load, random_model
from benchmarks.gpu.parts import Part
from evalkit.demo import world
from evalkit.images.cache import ENVIRONMENT
from evalkit.models.paligemma.batching import image_readers
from evalkit.models.paligemma.engine.fast import FastEngine
from evalkit.models.paligemma.engine.uploads import CudaCross, Uploads
from evalkit.types import Preparation

WAYS = {
    "paper": Preparation(224, "bilinear", False, "fast"),
    "hf": Preparation(224, "bicubic", True, "precise"),
}
IMAGES = 96
MOST = 32  # readers: a machine of hundreds of cores would take longer to start as many than to measure
PHOTO = "640×480"


def run(part: Part) -> None:
    """The tower at each resolution, then the readers by kind and number, then the bottleneck."""
    os.environ.pop(ENVIRONMENT, None)
    takes = _tower(part, (random_model.TOYS if part.toy else random_model.SHAPES)["PaliGemma 3B"])
    best: dict[tuple[int, str], float] = {}
    for row in _readings(part, list(takes)):
        part.add(**row, tower=takes[row["px"]])
        if row["images"] == PHOTO:
            case = row["px"], row["way"]
            best[case] = max(row["images_a_second"], best.get(case, 0.0))
    answers = _answers(part)
    for (side, way), read in best.items():
        rates = {"reading": read, "the tower": takes[side]}
        if side in answers:
            rates["the whole model"] = answers[side]
        told = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
        slowest = min(rates, key=rates.__getitem__)
        part.note(f"{side} px, {way}, {PHOTO}, images a second: {told}; the slowest: {slowest}")


def _answers(part: Part) -> dict[int, float]:
    """Samples a second of the whole model by resolution, if the part `throughput` has been run."""
    try:
        rows = json.loads((part.folder / "throughput.json").read_text())["rows"]
    except (OSError, ValueError, KeyError):
        return {}
    return {
        r["px"]: r["samples_a_second"]
        for r in reversed(rows)
        if r["who"] == "evalkit"
        and r["model"] == "PaliGemma 3B"
        and r["work"] == load.VQA.name
        and "share" in r
    }


def _readings(part: Part, sides: list[int]) -> Iterator[dict[str, Any]]:
    """Images a second, by pictures, resolution, preparation and readers."""
    cpus, send = min(MOST, len(image_readers._cores())), _sending(part)
    threads = [n for n in sorted({1, 2, 4, 8, 16, cpus}) if n <= cpus]
    readers = [("thread", threads[-1])] if part.toy else [("thread", n) for n in threads]
    for images, paths in _pictures(part).items():
        # A process takes seconds to start: one reading a case is enough.
        more = [] if part.toy or images != PHOTO else [("process", cpus)]
        for side, (way, preparation), (kind, workers) in itertools.product(
            sides, _ways(part).items(), readers + more
        ):
            if part.has(3, f"{images}, {side} px, {way}, {workers} of kind {kind}"):
                prepared = replace(preparation, resolution=side)
                found = reading.measure(kind, workers, paths, prepared, send if kind == "thread" else None)
                yield {
                    "images": images, "px": side, "way": way, "readers": kind, "workers": workers,
                    "images_a_second": found["images a second"], "parent_ms": found["parent"],
                }  # fmt: skip


def _ways(part: Part) -> dict[str, Preparation]:
    """Both preparations; the reference's decodes JPEG as only simplejpeg can."""
    if importlib.util.find_spec("simplejpeg"):
        return WAYS
    part.note("paper: left out, since simplejpeg is not installed")
    return {"hf": WAYS["hf"]}


def _tower(part: Part, shape: random_model.Shape) -> dict[int, float]:
    """Images a second through the vision tower alone, by resolution, in batches as the engine makes them."""
    small = replace(shape, text={**shape.text, "num_hidden_layers": 1}, rows=2048)
    model = random_model.build(small, part.device, torch.bfloat16)
    engine = FastEngine(model, (shape.sides[0] // random_model.PATCH) ** 2)
    found = {}
    for side in shape.sides:
        engine.image_tokens = (side // random_model.PATCH) ** 2
        shape_ = (engine.image_tokens, engine.tower.places.shape[1])
        engine.tower.places = torch.zeros(shape_, dtype=engine.dtype, device=part.device)
        images = 2 if part.toy else max(1, 16384 // engine.image_tokens)
        pixels = torch.randint(0, 256, (images, side, side, 3), dtype=torch.uint8, device=part.device)
        with torch.inference_mode():
            calls = device.rate(part.device, lambda p=pixels: engine.features(p), 0.01 if part.toy else 1.0)  # type: ignore[misc]
        found[side] = calls * images
        part.add(px=side, tower_images_a_second=found[side])
    return found


def _sending(part: Part) -> Callable[[str, Any], None] | None:
    """What sends a prepared image to a GPU through pinned memory, or None on a CPU."""
    if part.device.type != "cuda":
        return None
    uploads = Uploads(CudaCross(part.device))

    def send(key: str, pixels: Any) -> None:
        uploads.send(key, pixels)
        uploads.take(key)

    return send


def _pictures(part: Part) -> dict[str, list[str]]:
    """JPEG files: scenes of the demo's world, and synthetic ones of a photo's size."""
    folder, count = part.scratch / "pictures", 4 if part.toy else IMAGES
    return {
        PHOTO: [work.picture(folder / "synthetic", i) for i in range(count)],
        "demo scenes": [_scene(folder / "scenes", i) for i in range(count)],
    }


def _scene(folder: Path, index: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{index:04d}.jpg"
    Image.fromarray(world.render(world.make(index))).save(path, quality=90)
    return str(path)
