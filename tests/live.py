"""A tiny PaliGemma in memory, its processor and a task, for tests of evaluation inside a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import stub
import tiny


def task(folder: Path) -> Path:
    """A task of 20 questions to 10 pictures below `folder`."""
    file = stub.colours(folder)
    file.write_text(file.read_text() + "decode: {max_new_tokens: 6}\n")
    return file


def processor() -> Any:
    import transformers

    images = tiny.image_processor(size={"height": 28, "width": 28}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    images.image_seq_length = 4
    return transformers.PaliGemmaProcessor(images, tiny.tokenizer())


def model(family: int = 1, **options: Any) -> Any:
    """A copy of its own of the tiny checkpoint, in training mode."""
    import transformers

    found = transformers.PaliGemmaForConditionalGeneration.from_pretrained(tiny.checkpoint(family), **options)
    return found.train()
