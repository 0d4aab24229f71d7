"""The work that the model gets: prompts and lengths of answers as in VQAv2, captions, and detection."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.gpu.random_model import InMemory
from benchmarks.rivals import EOS
from evalkit.types import Decode, ImageRef, Preparation, Request

LETTERS = "abcdefghijklmnopqrstuvwxyz "


@dataclass(frozen=True)
class Work:
    """Questions about one image, tokens of a prompt (lowest, highest), of an answer with its end token."""

    name: str
    questions: int
    prompt: tuple[int, int]
    new: tuple[int, int]

    def requests(self, side: int, start: int, count: int) -> list[Request]:
        """Samples `start` to `start + count`; no two calls with other numbers share a picture."""
        preparation, decode = Preparation(side, "bicubic", True, "precise"), Decode(self.new[1], None)
        found = []
        for number in range(start, start + count):
            draw = random.Random(number)
            low, high = self.prompt
            words = "".join(draw.choice(LETTERS) for _ in range(round(draw.triangular(low, high, low * 1.5))))
            picture = ImageRef(str(number // self.questions))
            found.append(Request(str(number), (picture,), words.strip() or "a", preparation, decode))
        return found

    @property
    def varies(self) -> bool:
        """Whether answers differ in length; otherwise the limit of new tokens ends them."""
        return self.new[0] != self.new[1]

    def length(self, number: str) -> int:
        """Tokens of the answer of this sample, end token included; most are short."""
        low, high = self.new
        factor: float = (high / low) ** random.Random(f"{number} long").random()
        return round(low * factor)


VQA = Work("VQA, 5 questions an image", 5, (6, 20), (3, 3))
CAPTIONS = Work("captions", 1, (9, 9), (10, 16))
DETECTION = Work("detection, 8 to 200 tokens", 1, (8, 16), (8, 200))


def script(backend: InMemory, work: Work) -> None:
    """Makes each answer end after the work's own number of tokens; random weights would never end one."""
    engine = backend.engine_
    engine.forbid = None
    if not work.varies:
        return
    going = torch.zeros(len(engine.decoder.table), dtype=torch.bool, device=engine.home)
    going[EOS] = True
    ending = ~going

    def forbid(row: Any) -> torch.Tensor:
        known = row.tag[0].request.id if row.tag else ""
        return going if len(row.tokens) + 1 < work.length(known) else ending

    engine.forbid = forbid
