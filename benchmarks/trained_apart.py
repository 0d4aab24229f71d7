"""PaliGemmas trained by one convention each, for benchmarks.protocol_detective: fine-tunes of the demo
model, or smaller ones from nothing.

The masks, token ids and the loop are written here once more and not taken from the engines, so that a mistake
in these shows.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from evalkit import conventions, demo
from evalkit.demo import questions, world
from evalkit.demo.training.model import optimisers
from evalkit.demo.training.vision import rate, set_rate
from evalkit.images.prepare import prepare
from evalkit.types import Conventions, ImageRef, Preparation

SIDE, PATCH = 56, 14  # pixels of the model's input and of its patches
WIDTH, HEIGHT = 200, 150  # of an image: neither square nor as small as the model's input
COLOURS = {
    "red": (220, 40, 40), "blue": (40, 60, 220), "green": (40, 170, 60), "yellow": (230, 210, 40),
    "purple": (140, 50, 170), "orange": (240, 140, 30),
}  # fmt: skip
PARTS = {  # of an image, as (y0, x0, y1, x1); the edges are other tokens in 1023 and in 1024 steps
    "at the top": (0.0, 0.0, 0.8, 0.75),
    "on the right": (0.0, 0.75, 0.8, 1.0),
    "at the bottom": (0.8, 0.0, 1.0, 0.75),
    "on the left": (0.8, 0.75, 1.0, 1.0),
}
NOISE = 40.0  # standard deviation of a pixel's, so that ways to resize differ
SCENES = 3_000_000  # the first scene: the demo model was trained on others
EOS, IGNORED = 1, -100

CASES: Mapping[str, Conventions] = {
    "as usual": Conventions(),
    "causal": Conventions(prompt_mask="causal"),
    "causal, image too": Conventions(prompt_mask="causal_image"),
    "no newline": Conventions(newline=False),
    "no bos": Conventions(bos="none"),
    "bos before the image": Conventions(bos="image"),
    "bare questions": Conventions(question="bare"),
    "lower case": Conventions(prompt_case="lower"),
    "capital first": Conventions(prompt_case="capital"),
    "comma between classes": Conventions(class_separator=", "),
    "alphabetical classes": Conventions(class_order="alphabetical"),
    "padded": Conventions(pad="white"),
    "not antialiased": Conventions(resize="bilinear"),
    "no end token": Conventions(eos=False),
    "causal, no newline, bos first": Conventions(prompt_mask="causal", newline=False, bos="image"),
}


@dataclass(frozen=True)
class Line:
    """One training line: image by number, prompt as in the data, answer."""

    image: int
    prompt: str
    answer: str


def write(folder: Path, images: int, seed: int) -> Path:
    """Images of four coloured parts as PNG files, and two questions and a detection about each as PaliGemma's
    JSON lines; returns that file."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, noise, made = random.Random(seed), np.random.default_rng(seed), list[Line]()
    for number in range(images):
        colours = dict(zip(PARTS, rng.sample(list(COLOURS), 4), strict=True))
        pixels = np.zeros((HEIGHT, WIDTH, 3))
        for part, (y0, x0, y1, x1) in PARTS.items():
            place = slice(round(y0 * HEIGHT), round(y1 * HEIGHT)), slice(round(x0 * WIDTH), round(x1 * WIDTH))
            pixels[place] = COLOURS[colours[part]]
        pixels += noise.normal(0, NOISE, (HEIGHT, WIDTH, 1))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(
            folder / f"{number:05d}.png", compress_level=1
        )
        for part in rng.sample(list(PARTS), 2):
            made.append(Line(number, f"answer en What color is the shape {part}?", colours[part]))
        asked = rng.sample(list(PARTS), 2)
        answer = " ; ".join(f"{_locations(PARTS[part])} {colours[part]}" for part in sorted(asked))
        made.append(Line(number, "detect " + " ; ".join(colours[part] for part in asked), answer))
    return _kept(folder, made)


def write_scenes(folder: Path, images: int, seed: int) -> Path:
    """The same of the demo's scenes, which the demo model knows: questions, and a detection of the shapes and
    one that is absent, from left to right."""
    folder.mkdir(parents=True, exist_ok=True)
    made = list[Line]()
    for number in range(images):
        scene = world.make(SCENES * (1 + seed) + number)
        drawn = Image.fromarray(world.render(scene, 2 * world.SIZE)).resize((2 * world.SIZE, 320))
        drawn.save(folder / f"{number:05d}.png", compress_level=1)
        rng = random.Random(f"trained apart {scene.seed}")
        for q in questions.vqa(scene, rng):
            made.append(Line(number, f"answer en {q.text[0].upper()}{q.text[1:]}", q.answer))
        shapes = sorted({thing.shape for thing in scene.things})
        shapes.append(rng.choice([s for s in world.SHAPES if s not in shapes]))
        asked = "detect " + " ; ".join(rng.sample(shapes, len(shapes)))
        made.append(Line(number, asked, questions.detect_all(scene)[1]))
    return _kept(folder, made)


def _kept(folder: Path, made: Sequence[Line]) -> Path:
    file = folder / "lines.jsonl"
    named = ({"image": f"{x.image:05d}.png", "prefix": x.prompt, "suffix": x.answer} for x in made)
    file.write_text("".join(json.dumps(line) + "\n" for line in named), encoding="utf-8")
    return file


def _locations(box: tuple[float, float, float, float]) -> str:
    return "".join(f"<loc{round(1023 * edge):04d}>" for edge in box)


def read(file: Path) -> list[Line]:
    """The lines of such a file."""
    found = (json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line)
    return [Line(int(x["image"][:5]), x["prefix"], x["suffix"]) for x in found]


def pixels(folder: Path, images: int, side: int, trained: Conventions) -> torch.Tensor:
    """The images as the model gets them, (images, 3, side, side) from -1 to 1: by the convention, or `hf`."""
    usual = Preparation(side, "bicubic", True, jpeg="precise")
    how = conventions.preparation(usual, trained)
    made = [prepare(ImageRef(str(folder / f"{n:05d}.png")), how).pixels for n in range(images)]
    values = torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float()
    return values / 127.5 - 1


# --- training ------------------------------------------------------------------------------------


def fresh(tokenizer: Any, image_token: int) -> Any:
    """An untrained PaliGemma of two layers with the demo's vocabulary."""
    from transformers import (
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        SiglipVisionConfig,
    )

    torch.manual_seed(0)
    vision = SiglipVisionConfig(
        hidden_size=48, intermediate_size=96, num_hidden_layers=1, num_attention_heads=2, image_size=SIDE,
        patch_size=PATCH, projection_dim=64, vision_use_head=False,
    )  # fmt: skip
    text = GemmaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=1, head_dim=16, pad_token_id=0, eos_token_id=EOS,
        bos_token_id=2,
    )  # fmt: skip
    config = PaliGemmaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=image_token,
        projection_dim=64,
        hidden_size=64,
    )
    config._attn_implementation = "eager"
    return PaliGemmaForConditionalGeneration(config).float()


def row(tokenizer: Any, line: Line, trained: Conventions) -> tuple[list[int], list[int], list[int]]:
    """The ids before and after the image of a prompt, and those of its answer."""

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[no-any-return]

    bos = [tokenizer.bos_token_id]
    text = conventions.prompt(line.prompt, trained) + ("" if trained.newline is False else "\n")
    where = trained.bos or "prompt"
    answer = ids(line.answer) + ([] if trained.eos is False else [EOS])
    return bos * (where == "image"), bos * (where == "prompt") + ids(text), answer


def allowed(image: int, prefix: int, length: int, mask: str) -> torch.Tensor:
    """(length, length), true where a query (row) may see a key; the image ends at `image`, the prompt at
    `prefix`."""
    order = torch.arange(length)
    end = {"bidirectional": prefix, "causal": image, "causal_image": 0}[mask]
    together = (order[:, None] < end) & (order[None, :] < end)
    return (order[:, None] >= order[None, :]) | together


Rows = Sequence[tuple[list[int], list[int], list[int]]]


def loss_of(model: Any, rows: Rows, shown: torch.Tensor, mask: str) -> torch.Tensor:
    """Mean cross-entropy of the answers' tokens; `shown` are the rows' pixels (rows, 3, side, side)."""
    inner = model.model
    features = inner.multi_modal_projector(inner.vision_tower(shown).last_hidden_state)
    table, count = model.get_input_embeddings(), features.shape[1]
    length = max(sum(map(len, parts)) for parts in rows) + count
    embedded = torch.zeros(len(rows), length, features.shape[2])
    bias = torch.full((len(rows), 1, length, length), torch.finfo(torch.float32).min)
    labels = torch.full((len(rows), length), IGNORED)
    for n, (before, prompt, answer) in enumerate(rows):
        start, words = len(before) + count, table(torch.tensor([*before, *prompt, *answer]))
        whole = torch.cat([words[: len(before)], features[n], words[len(before) :]])
        embedded[n, : len(whole)] = whole
        prefix = start + len(prompt)
        bias[n, 0].masked_fill_(allowed(start, prefix, length, mask), 0.0)
        labels[n, prefix - 1 : prefix - 1 + len(answer)] = torch.tensor(answer)
    out = inner.language_model(
        inputs_embeds=embedded,
        attention_mask=bias,
        position_ids=torch.arange(length)[None] + 1,
        use_cache=False,
    )
    wanted = labels != IGNORED
    scores = model.lm_head(out.last_hidden_state[wanted]).float()
    return torch.nn.functional.cross_entropy(scores, labels[wanted])


def train(
    trained: Conventions, file: Path, out: Path, steps: int, base: Path | None = None, rows: int = 24
) -> float:
    """Trains `base`, or a fresh model, on the lines of `file` by a convention and saves it to `out`; returns
    the mean loss of the last 20 steps. The tower of a base stays as it is."""
    from transformers import AutoTokenizer, PaliGemmaForConditionalGeneration

    home = demo.checkpoint("later")
    tokenizer = AutoTokenizer.from_pretrained(home)
    if base is None:
        model = fresh(tokenizer, tokenizer.convert_tokens_to_ids("<image>"))
    else:
        model = PaliGemmaForConditionalGeneration.from_pretrained(base, attn_implementation="eager").float()
        model.model.vision_tower.requires_grad_(False)
    learnt = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    optimised = (
        [torch.optim.AdamW([p for _, p in learnt], 3e-3)] if base is None else optimisers(learnt, 2e-3)
    )
    every = read(file)
    side = model.config.vision_config.image_size
    shown = pixels(file.parent, 1 + max(line.image for line in every), side, trained)
    made = [row(tokenizer, line, trained) for line in every]
    rng, late = random.Random(0), list[float]()
    for step in range(steps):
        set_rate(optimised, rate(step / steps, warm=0.1))
        some = rng.sample(range(len(every)), rows)
        images = shown[[every[i].image for i in some]]
        loss = loss_of(model, [made[i] for i in some], images, trained.prompt_mask or "bidirectional")
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in learnt], 1.0)
        for one in optimised:
            one.step()
            one.zero_grad()
        late = [*late[-19:], float(loss.detach())]
    model.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(home / name, out / name)
    return sum(late) / len(late)
