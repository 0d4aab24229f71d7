"""A model without a model: answers by a function, so that the runner can be tested in milliseconds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from evalkit.data import sources
from evalkit.errors import ImageError
from evalkit.types import Checkpoint, Model, Prediction, Request

Answer = Callable[[Request], str]


class Stub(Model):
    """Says what `answer` says; counts what it was asked; may break after some answers."""

    def __init__(self, answer: Answer, die_after: int | None = None) -> None:
        self.answer, self.die_after, self.asked = answer, die_after, list[str]()

    def identity(self) -> Mapping[str, Any]:
        return {"backend": "stub"}

    def predict(
        self,
        requests: Sequence[Request],
        on_bad_image: Callable[[Request, ImageError], None] | None = None,
    ) -> Iterator[Prediction]:
        for request in requests:
            if self.die_after is not None and len(self.asked) >= self.die_after:
                raise KeyboardInterrupt
            try:
                digests = tuple(hashlib.sha256(sources.read_bytes(i)).hexdigest() for i in request.images)
            except ImageError as error:
                if on_bad_image is None:
                    raise
                on_bad_image(request, error)
                continue
            self.asked.append(request.id)
            yield Prediction(
                request.id, request.prompt, self.answer(request), image_digests=digests, sizes=((8, 8),)
            )


def checkpoint(model: Stub, name: str = "stub") -> Checkpoint:
    return Checkpoint(
        name, "a stub", 224, lambda protocol: {**model.identity(), "p": protocol}, lambda protocol: model
    )


def colours(folder: Path, questions: int = 2, images: int = 10) -> Path:
    """A dataset of our own form: `images` pictures with `questions` questions each; returns the task file."""
    (folder / "pictures").mkdir(parents=True)
    lines = []
    for i in range(images):
        Image.new("RGB", (8, 8), (i * 20 % 260, i // 13, 0)).save(folder / "pictures" / f"{i}.png")
        lines += [
            {
                "id": f"q{i}-{j}",
                "image": f"{i}.png",
                "question": f"question {j}?",
                "answers": ["red" if i % 2 else "blue"],
            }
            for j in range(questions)
        ]
    (folder / "colours.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = folder / "colours_test.yaml"
    task.write_text(
        "version: 1\nabout: colours\nlicense: none\n"
        "data:\n  format: jsonl\n  split: test\n"
        "  sources: [{path: colours.jsonl, images: pictures}]\n"
        "prompt: 'answer en {question}'\nparser: text\nmetrics: [exact_match]\n"
    )
    return task
