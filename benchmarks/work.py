"""The work for the contenders: generated pictures on disk, and questions about them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

LETTERS = "abcdefghijklmnopqrstuvwxyz "


@dataclass(frozen=True)
class Question:
    """One prompt about one picture."""

    id: str
    image: str
    prompt: str


def picture(folder: Path, index: int) -> str:
    """The path of a 640×480 JPEG with smooth shades and some noise, written once."""
    path = folder / f"{index:04d}.jpg"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        random_ = np.random.default_rng(index)
        small = Image.fromarray(random_.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        shades = np.asarray(small.resize((640, 480), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = shades + random_.integers(-12, 13, shades.shape)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(path, quality=90)
    return str(path)


def vqa(folder: Path, images: int) -> list[Question]:
    """Five questions per image, of about fifteen different lengths, as in VQAv2."""
    random_ = random.Random(1)
    return [
        Question(f"{i}-{k}", picture(folder, i), _words(random_, round(random_.triangular(6, 20, 9))))
        for i in range(images)
        for k in range(5)
    ]


def captions(folder: Path, images: int) -> list[Question]:
    """One question per image, with the same prompt for all."""
    return [Question(f"{i}", picture(folder, i), "caption en") for i in range(images)]


def detection(folder: Path, images: int) -> list[Question]:
    """One question per image, with prompts of a few lengths."""
    random_ = random.Random(2)
    return [
        Question(f"{i}", picture(folder, i), "detect " + _words(random_, random_.choice([4, 6, 9])))
        for i in range(images)
    ]


def lengths(questions: Sequence[Question], low: int, high: int) -> dict[str, int]:
    """Tokens of each answer, end token included; most are short, as with lists of boxes."""
    random_ = random.Random(3)
    return {q.id: round(low * (high / low) ** random_.random()) for q in questions}


def _words(random_: random.Random, n: int) -> str:
    return "".join(random_.choice(LETTERS) for _ in range(n)).strip() or "a"
