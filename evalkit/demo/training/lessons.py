"""Training batches of prompts and answers, packed behind one image or in PaliGemma's own layout.

Knows the layout [image][bos][prompt][newline][answer][eos]; nothing of the model's weights.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from evalkit.demo import questions, world
from evalkit.demo.training import model, vae

IMAGE = model.GRID * model.GRID
WEIGHTS = {"caption": 0.7, "vqa": 2.0, "text": 2.0, "detect": 1.0, "segment": 0.6, "all": 0.8}


@dataclass
class Batch:
    """Scenes and the rows of text asked about them; every tensor is ready for the model.

    `ids` (R, L) text only; `rows` the scene of each row; `bias` (R, 1, IMAGE + L, IMAGE + L) is
    zero where one may attend; `places` (R, IMAGE + L); `at` flat indices into R * L whose next
    token is `targets`, with `weights`.
    """

    pixels: Tensor
    labels: Tensor
    boxes: Tensor
    ids: Tensor
    rows: Tensor
    bias: Tensor
    places: Tensor
    at: Tensor
    targets: Tensor
    weights: Tensor


def lessons(
    scene: world.Scene, rng: random.Random, codes: dict[str, Sequence[int]], share: float
) -> list[tuple[str, str, str]]:
    """(task, prompt, answer) of one scene; `share` below 1 leaves some out at random."""
    vqa = questions.vqa(scene, rng)
    things = list(scene.things)
    rng.shuffle(things)
    out = [("caption", "caption en", questions.caption(scene))]
    out += [("vqa", f"answer en {q.text}", q.answer) for q in vqa]
    out += [("text", f"answer en {q.text}", q.answer) for q in questions.reading(scene, rng)]
    for thing in things[:2]:
        sentence = rng.choice(questions.expressions(scene, thing))
        out.append(("detect", *questions.detect(thing, sentence)))
    for thing in things[-2:]:
        sentence = rng.choice(questions.expressions(scene, thing))
        out.append(("segment", *questions.segment(thing, sentence, codes[thing.name])))
    out.append(("all", *questions.detect_all(scene)))
    return [lesson for lesson in out if rng.random() < share]


class Lessons(IterableDataset):  # type: ignore[type-arg]
    """Endless batches; every scene is new."""

    def __init__(self, tokenizer: Any, masks: vae.MaskVAE, scenes: int, first: int, packed: bool):
        self.tokenizer, self.masks = tokenizer, masks
        self.scenes, self.first, self.packed = scenes, first, packed

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        info = get_worker_info()
        number, step = (info.id, info.num_workers) if info else (0, 1)
        seed = self.first + number
        while True:
            group = [world.make(seed + i * step) for i in range(self.scenes)]
            seed += self.scenes * step
            yield self.batch(group)

    def batch(self, group: list[world.Scene]) -> Batch:
        """One batch: packed, every lesson of a scene shares its image; else a row a lesson."""
        rng = random.Random(group[0].seed)
        crops = [torch.from_numpy(vae.crop(t)) for s in group for t in s.things]
        codes = iter(self.masks.encode(torch.stack(crops)).tolist())
        texts: list[list[tuple[str, str, str]]] = []
        rows: list[int] = []
        for i, scene in enumerate(group):
            coded = {t.name: next(codes) for t in scene.things}
            asked = lessons(scene, rng, coded, 1.0 if self.packed else 0.4)
            rng.shuffle(asked)
            split = [asked] if self.packed else [[a] for a in asked]
            texts += [s for s in split if s]
            rows += [i] * sum(bool(s) for s in split)
        images = torch.stack([torch.from_numpy(world.render(s)) for s in group])
        dense = [model.dense_labels(s) for s in group]
        labels, boxes = (torch.stack([torch.from_numpy(d[i]) for d in dense]) for i in range(2))
        return Batch(model.patches(images), labels, boxes, *self._lay(texts, rows))

    def _lay(self, texts: list[list[tuple[str, str, str]]], rows: list[int]) -> tuple[Tensor, ...]:
        """ids, rows, bias, places, at, targets, weights of a `Batch`."""
        prompts = self._tokens(["<bos>" + p + "\n" for t in texts for _, p, _ in t])
        answers = self._tokens([a + "<eos>" for t in texts for _, _, a in t])
        pairs = iter(zip(prompts, answers, strict=True))
        cut = [[next(pairs) for _ in t] for t in texts]
        length = max(sum(len(p) + len(a) for p, a in c) for c in cut)
        ids = torch.zeros(len(texts), length, dtype=torch.long)
        part = torch.full((len(texts), IMAGE + length), -1)  # 0 image, 1.. question, -1 padding
        late = torch.zeros(len(texts), IMAGE + length, dtype=torch.bool)  # the answer's tokens
        places = torch.zeros(len(texts), IMAGE + length, dtype=torch.long)
        part[:, :IMAGE], places[:, :IMAGE] = 0, torch.arange(IMAGE)
        at: list[int] = []
        targets: list[int] = []
        weights: list[float] = []
        for row, (asked, tokens) in enumerate(zip(texts, cut, strict=True)):
            start = 0
            for number, ((task, _, _), (p, a)) in enumerate(zip(asked, tokens, strict=True)):
                end = start + len(p) + len(a)
                ids[row, start:end] = torch.tensor(p + a)
                part[row, IMAGE + start : IMAGE + end] = number + 1
                late[row, IMAGE + start + len(p) : IMAGE + end] = True
                places[row, IMAGE + start : IMAGE + end] = IMAGE + torch.arange(end - start)
                first = row * length + start + len(p) - 1
                at += range(first, first + len(a))
                targets += a
                weights += [WEIGHTS[task]] * len(a)
                start = end
        return (
            ids,
            torch.tensor(rows),
            mask(part, late, self.packed),
            places,
            torch.tensor(at),
            torch.tensor(targets),
            torch.tensor(weights),
        )

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False)["input_ids"]  # type: ignore[no-any-return]


def mask(part: Tensor, late: Tensor, packed: bool) -> Tensor:
    """Zero where one may attend, else far below.

    A question attends to the image and itself, its answer causally. In the unpacked layout the
    image attends to the prompt as well, as PaliGemma's prefix does.
    """
    mine, theirs = part[:, :, None], part[:, None, :]
    same = (mine == theirs) | (theirs == 0)
    if not packed:
        same |= mine == 0
    n = part.shape[1]
    order = torch.arange(n)[:, None] >= torch.arange(n)[None, :]
    allow = same & (theirs >= 0) & (~late[:, None, :] | order) | torch.eye(n, dtype=torch.bool)
    bias = torch.zeros(allow.shape, dtype=torch.bfloat16)
    return bias.masked_fill_(~allow, -1e9)[:, None]
