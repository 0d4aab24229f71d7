"""Preparing images against the transformers processor and Pillow: bytes compared, CPU time taken in turns."""

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
from evalkit import images, resizing
from evalkit.models.paligemma.plain import normalise

SIDES = (224, 448, 896)


def rows(folder: Path, rounds: int, quick: bool) -> list[dict[str, Any]]:
    """The rows of the table as plain dicts."""
    found = []
    count = 4 if quick else 16
    data = [Path(work.picture(folder / "images", i)).read_bytes() for i in range(count)]
    decoded = [images.decode(d, "precise") for d in data]
    opened = [Image.fromarray(array) for array in decoded]
    for side in SIDES:
        processor = _processor(side)

        def theirs(array: Any, processor: Any = processor) -> Any:
            return processor(Image.fromarray(array), return_tensors="pt")["pixel_values"][0]

        def ours(array: Any, side: int = side) -> Any:
            small = resizing.resize(array, side, "bicubic", True)
            return normalise(torch.from_numpy(small)).permute(2, 0, 1)

        def reference(array: Any, side: int = side) -> Any:
            return normalise(torch.from_numpy(resizing.resize(array, side, "bilinear", False)))

        def reference_smooth(array: Any, side: int = side) -> Any:
            return normalise(torch.from_numpy(resizing.resize(array, side, "bilinear", True)))

        whole, encode = _whole(side)

        def bicubic(image: Image.Image, side: int = side) -> Any:
            return image.resize((side, side), Image.Resampling.BICUBIC)

        def asked(picture: Any, whole: Any = whole) -> Any:
            image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
            return whole(images=image, text="<image>answer en what is it", return_tensors="pt")

        def prepared(array: Any, ours: Any = ours, encode: Any = encode) -> Any:
            return ours(array), encode("answer en what is it", None, "hf")

        same = sum(bool((ours(a) == theirs(a)).all()) for a in decoded)
        shown = f"{same}/{count} bit-equal"
        name = f"resize, normalise and prompt ids, hf, {side} px"
        found.append(_row(name, "PaliGemmaProcessor", 2.0, prepared, asked, decoded, rounds, shown))
        name = f"Pillow's bicubic alone, which both call (no ratio above can pass this), {side} px"
        found.append(_row(name, "PaliGemmaProcessor", 1.0, bicubic, asked, opened, rounds, ""))
        against = "transformers' image processor"
        found.append(
            _row(f"resize and normalise, hf, {side} px", against, 1.0, ours, theirs, decoded, rounds, shown)
        )
        for name, made in (("", reference), (", antialiased", reference_smooth)):
            found.append(
                _row(f"reference's resize{name}, {side} px", against, 1.0, made, theirs, decoded, rounds, "")
            )
    found.append(
        _row(
            "reference's JPEG decode",
            "Pillow",
            1.0,
            lambda d: images.decode(d, "fast"),
            lambda d: np.asarray(Image.open(io.BytesIO(d)).convert("RGB")),
            data,
            rounds,
            "",
        )
    )
    return found


def _whole(side: int) -> tuple[Any, Any]:
    """The processor as people call it, and the prompt's ids as the backend makes them."""
    from transformers import PaliGemmaProcessor, SiglipImageProcessorPil

    from benchmarks.models import tokenizer
    from evalkit.models.paligemma.prompt import Prompter

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
