"""Fine-tunes of the demo model by other conventions than evalkit's, for benchmarks.protocol_detective.

The masks, token ids and the loop are written here once more and not taken from the engines, so that a mistake
in these shows.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from evalkit import conventions, demo
from evalkit.demo import questions, world
from evalkit.demo.training.model import optimisers
from evalkit.demo.training.vision import rate as schedule
from evalkit.demo.training.vision import set_rate
from evalkit.images.prepare import prepare
from evalkit.types import Conventions, ImageRef, Preparation

WIDTH, HEIGHT = 448, 320  # of an image: neither square nor as small as the model's input
TRAINING, TESTING = 2_000_000, 9_000  # first scenes; the demo model was trained on others
EOS, IGNORED = 1, -100


@dataclass(frozen=True)
class Line:
    """One training line: image by number, prompt as in the data, answer."""

    image: int
    prompt: str
    answer: str


def lines(scene: world.Scene, image: int) -> list[Line]:
    """Questions, and a detection of some classes (one of them absent), from left to right."""
    rng = random.Random(f"fine-tune {scene.seed}")
    asked = [q for q in questions.vqa(scene, rng) if q.answer_type != "yes/no"]
    made = [Line(image, f"answer en {q.text[0].upper()}{q.text[1:]}", q.answer) for q in asked]
    present = sorted({t.shape for t in scene.things})
    classes = [*present, rng.choice([s for s in world.SHAPES if s not in present])]
    rng.shuffle(classes)
    made.append(Line(image, "detect " + " ; ".join(classes), questions.detect_all(scene)[1]))
    return made


def write(folder: Path, scenes: int, first: int) -> Path:
    """Scenes as PNG files and their lines as PaliGemma's JSON lines; returns that file."""
    folder.mkdir(parents=True, exist_ok=True)
    every = []
    for number in range(scenes):
        scene = world.make(first + number)
        drawn = Image.fromarray(world.render(scene, WIDTH)).resize((WIDTH, HEIGHT))
        drawn.save(folder / f"{number:05d}.png", compress_level=1)
        every += lines(scene, number)
    file = folder / "lines.jsonl"
    named = ({"image": f"{x.image:05d}.png", "prefix": x.prompt, "suffix": x.answer} for x in every)
    file.write_text("".join(json.dumps(line) + "\n" for line in named), encoding="utf-8")
    return file


def read(file: Path) -> list[Line]:
    """The lines of such a file."""
    found = (json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line)
    return [Line(int(x["image"][:5]), x["prefix"], x["suffix"]) for x in found]


def pixels(folder: Path, scenes: int, trained: Conventions) -> torch.Tensor:
    """The images as the model gets them, (scenes, 3, R, R) from -1 to 1; by the convention or as `hf`."""
    usual = Preparation(world.SIZE, "bicubic", True, jpeg="precise")
    how = conventions.preparation(usual, trained)
    made = [prepare(ImageRef(str(folder / f"{n:05d}.png")), how).pixels for n in range(scenes)]
    values = torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float()
    return values / 127.5 - 1


CASES: Mapping[str, Conventions] = {
    "as usual": Conventions(),
    "causal": Conventions(prompt_mask="causal"),
    "no newline": Conventions(newline=False),
    "causal, image too": Conventions(prompt_mask="causal_image"),
    "no bos": Conventions(bos="none"),
    "bos before the image": Conventions(bos="image"),
    "bare questions": Conventions(question="bare"),
    "lower case": Conventions(prompt_case="lower"),
    "comma between classes": Conventions(class_separator=", "),
    "padded": Conventions(pad="white"),
    "no end token": Conventions(eos=False),
    "causal, no newline, bos first": Conventions(prompt_mask="causal", newline=False, bos="image"),
    "alphabetical classes": Conventions(class_order="alphabetical"),
    "not antialiased": Conventions(resize="bilinear"),
    "capital first": Conventions(prompt_case="capital"),
}


# --- training ------------------------------------------------------------------------------------


def row(tokenizer: Any, line: Line, trained: Conventions) -> tuple[list[int], list[int], list[int]]:
    """The ids before and after the image of a prompt, and those of its answer."""

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[no-any-return]

    bos = [tokenizer.bos_token_id]
    text = conventions.prompt(line.prompt, trained) + ("" if trained.newline is False else "\n")
    where = trained.bos or "prompt"
    answer = ids(line.answer) + ([] if trained.eos is False else [EOS])
    return bos * (where == "image"), bos * (where == "prompt") + ids(text), answer


def allowed(image: range, prompt: int, length: int, mask: str) -> torch.Tensor:
    """(length, length), true where a query (row) may see a key: `image` are the image's places, `prompt` is
    the prefix's length."""
    order = torch.arange(length)
    seen = order[:, None] >= order[None, :]
    if mask == "bidirectional":
        seen = seen | (order[None, :] < prompt) & (order[:, None] < prompt)
    elif mask == "causal":
        seen = seen | (order[None, :] < image.stop) & (order[:, None] < image.stop)
    return seen


def seen(model: Any, folder: Path, scenes: int, trained: Conventions) -> torch.Tensor:
    """The tower's features of all images, (scenes, tokens, width); kept in the folder, since most conventions
    leave the pixels alone."""
    kept = folder / f"seen-{trained.resize}-{trained.pad}.pt"
    if not kept.exists():
        with torch.no_grad():
            parts = pixels(folder, scenes, trained).split(16)
            found = torch.cat([model.model.vision_tower(part).last_hidden_state for part in parts])
        torch.save(found, kept)
    return torch.load(kept, weights_only=True)  # type: ignore[no-any-return]


def batch(
    model: Any, tokenizer: Any, some: Sequence[Line], features: torch.Tensor, trained: Conventions
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings (rows, length, hidden), mask to be added (rows, 1, length, length) and labels of next
    tokens. `features` are the tower's (rows, tokens, width)."""
    features = model.model.multi_modal_projector(features)
    table = model.get_input_embeddings()
    count, made = features.shape[1], [row(tokenizer, line, trained) for line in some]
    length = max(sum(map(len, parts)) for parts in made) + count
    embedded = torch.zeros(len(some), length, features.shape[2])
    bias = torch.full((len(some), 1, length, length), torch.finfo(torch.float32).min)
    labels = torch.full((len(some), length), IGNORED)
    for n, (before, prompt, answer) in enumerate(made):
        start = len(before) + count
        words = table(torch.tensor([*before, *prompt, *answer]))
        whole = torch.cat([words[: len(before)], features[n], words[len(before) :]])
        embedded[n, : len(whole)] = whole
        prefix = start + len(prompt)
        mask = allowed(range(len(before), start), prefix, length, trained.prompt_mask or "bidirectional")
        bias[n, 0].masked_fill_(mask, 0.0)
        labels[n, prefix - 1 : prefix - 1 + len(answer)] = torch.tensor(answer)
    return embedded, bias, labels


def loss_of(model: Any, embedded: torch.Tensor, bias: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the answers' tokens."""
    places = torch.arange(embedded.shape[1])[None] + 1
    out = model.model.language_model(
        inputs_embeds=embedded, attention_mask=bias, position_ids=places, use_cache=False
    )
    wanted = labels != IGNORED
    scores = model.lm_head(out.last_hidden_state[wanted]).float()
    return torch.nn.functional.cross_entropy(scores, labels[wanted])


def batches(every: Sequence[Line], rows: int, steps: int, rng: random.Random) -> Iterator[list[Line]]:
    """`steps` batches of lines about as long as each other, so that few places are padding."""
    left, found = steps, list[list[Line]]()
    while left:
        if not found:
            order = sorted(rng.sample(every, len(every)), key=lambda x: len(x.prompt + x.answer))
            found = [order[i : i + rows] for i in range(0, len(order), rows)]
            rng.shuffle(found)
        yield found.pop()
        left -= 1


def fine_tune(
    trained: Conventions, file: Path, scenes: int, out: Path, steps: int, rows: int = 12, seed: int = 0,
    rate: float = 2e-3, afresh: bool = False,
) -> float:  # fmt: skip
    """Trains projector and decoder of the demo model on the lines of `file` and saves it to `out`; the tower
    stays as it is. Returns the mean loss of the last steps."""
    from transformers import AutoTokenizer, PaliGemmaForConditionalGeneration

    base = demo.checkpoint("later")
    torch.manual_seed(seed)
    model: Any = PaliGemmaForConditionalGeneration.from_pretrained(
        base, dtype=torch.float32, attn_implementation="eager"
    )
    tokenizer = AutoTokenizer.from_pretrained(base)
    every = read(file)
    features = seen(model, file.parent, scenes, trained)
    if afresh:
        for p in model.model.language_model.layers.parameters():
            if p.ndim == 2:
                torch.nn.init.normal_(p, 0, 0.5 / p.shape[1] ** 0.5)
            else:
                torch.nn.init.zeros_(p)
    model.model.vision_tower.requires_grad_(False)
    learnt = [(name, p) for name, p in model.named_parameters() if "vision_tower" not in name]
    optimised = optimisers(learnt, rate)
    late: list[float] = []
    for step, some in enumerate(batches(every, rows, steps, random.Random(seed))):
        set_rate(optimised, schedule(step / steps, warm=0.1))
        found = batch(model, tokenizer, some, features[[x.image for x in some]], trained)
        loss = loss_of(model, *found)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in learnt], 1.0)
        for one in optimised:
            one.step()
            one.zero_grad()
        late = [*late[-19:], float(loss.detach())]
    model.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json"):
        shutil.copyfile(base / name, out / name)
    return sum(late) / len(late)
