"""Preparing images against the transformers processor and Pillow: bytes are compared, CPU time in turns."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import work
from evalkit.images import prepare, resize
from evalkit.models.paligemma.engine.vision import normalise

SIDES = (224, 448, 896)


def rows(folder: Path, rounds: int, quick: bool) -> list[dict[str, Any]]:
    """The rows of the table as plain dicts."""
    count = 4 if quick else 16
    data = [Path(work.picture(folder / "images", i)).read_bytes() for i in range(count)]
    decoded = [prepare.decode(d, "precise") for d in data]
    found = [row for side in SIDES for row in _at(side, decoded, rounds)]

    def fast(d: bytes) -> Any:
        return prepare.decode(d, "fast")

    def pillow(d: bytes) -> Any:
        return np.asarray(Image.open(io.BytesIO(d)).convert("RGB"))

    return [*found, _row("reference's JPEG decode", "Pillow", 1.0, fast, pillow, data, rounds, "")]


def _at(side: int, decoded: list[Any], rounds: int) -> list[dict[str, Any]]:
    """The rows of one resolution."""
    processor, (whole, encode) = _processor(side), _whole(side)
    prompt = "answer en what is it"

    def theirs(array: Any) -> Any:
        return processor(Image.fromarray(array), return_tensors="pt")["pixel_values"][0]

    def ours(array: Any) -> Any:
        small = resize.resize(array, side, "bicubic", True)
        return normalise(torch.from_numpy(small)).permute(2, 0, 1)

    def reference(array: Any) -> Any:
        return normalise(torch.from_numpy(resize.resize(array, side, "bilinear", False)))

    def smooth(array: Any) -> Any:
        return normalise(torch.from_numpy(resize.resize(array, side, "bilinear", True)))

    def bicubic(image: Image.Image) -> Any:
        return image.resize((side, side), Image.Resampling.BICUBIC)

    def processed(picture: Any) -> Any:
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        return whole(images=image, text=f"<image>{prompt}", return_tensors="pt")

    def prepared(array: Any) -> Any:
        return ours(array), encode(prompt, None, "hf")

    same = sum(bool((ours(a) == theirs(a)).all()) for a in decoded)
    shown = f"{same}/{len(decoded)} bit-equal"
    opened = [Image.fromarray(array) for array in decoded]
    all_of, alone = "PaliGemmaProcessor", "transformers' image processor"
    return [
        _row(f"{name}, {side} px", against, least, made, rival, data, rounds, same_bytes)
        for name, against, least, made, rival, data, same_bytes in (
            ("resize, normalise and prompt ids, hf", all_of, 2.0, prepared, processed, decoded, shown),
            ("Pillow's bicubic alone, which both call", all_of, 1.0, bicubic, processed, opened, ""),
            ("resize and normalise, hf", alone, 1.0, ours, theirs, decoded, shown),
            ("reference's resize", alone, 1.0, reference, theirs, decoded, ""),
            ("reference's resize, antialiased", alone, 1.0, smooth, theirs, decoded, ""),
        )
    ]


def _whole(side: int) -> tuple[Any, Any]:
    """The processor as it is usually called, and the function that makes the prompt's ids in the backend."""
    from transformers import PaliGemmaProcessor, SiglipImageProcessorPil

    from benchmarks.models import tokenizer
    from evalkit.models.paligemma.tokenizer import Prompter

    part = SiglipImageProcessorPil(
        size={"height": side, "width": side}, image_mean=[0.5] * 3, image_std=[0.5] * 3,
        image_seq_length=(side // 14) ** 2,
    )  # fmt: skip
    return PaliGemmaProcessor(part, tokenizer()), Prompter(tokenizer()).encode


def _processor(side: int) -> Any:
    from transformers import SiglipImageProcessorPil

    return SiglipImageProcessorPil(
        size={"height": side, "width": side}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )


def _row(
    name: str,
    against: str,
    at_least: float,
    ours: Callable[[Any], Any],
    theirs: Callable[[Any], Any],
    inputs: list[Any],
    rounds: int,
    same: str,
) -> dict[str, Any]:
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):
        for run, into in zip((ours, theirs), times, strict=True):
            begun = time.process_time()
            for one in inputs:
                run(one)
            into.append((time.process_time() - begun) / len(inputs))
    mine, their = times[0][1:], times[1][1:]  # the first round warms up
    ratios = [b / a for a, b in zip(mine, their, strict=True)]
    return {
        "name": name,
        "against": against,
        "ratio": round(statistics.median(ratios), 3),
        "at_least": at_least,
        "spread": (min(ratios), max(ratios)),
        "same": same,
        "each": f"{1e3 * statistics.median(mine):.2f} against {1e3 * statistics.median(their):.2f} ms",
    }
