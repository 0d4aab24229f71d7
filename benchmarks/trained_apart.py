"""Fine-tunes of the demo model by one convention each, for benchmarks.protocol_detective.

The masks, token ids and the loop are written here once more and not taken from the engines, so that a mistake
in these shows.
"""

from __future__ import annotations

import dataclasses
import json
import math
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
from evalkit.demo.training.vision import rate, set_rate
from evalkit.evaluation.detective import Floats, values
from evalkit.images.prepare import prepare
from evalkit.types import Conventions, ImageRef, Preparation

WIDTH, HEIGHT = 896, 448  # of an image: four and two pixels for one of the model's
TONES = ((205, 160), (190, 235), (205, 250), (175, 130))
"""Backgrounds: the mean of its stripes, four pixels a period, and what their middle is. Who resizes with
antialiasing sees the first, who reads two pixels of four sees the second."""
SIGNS = "cehjklopt"  # letters of which the demo's tokenizer has a token each
MARKS = 4  # of a part: the first letters of SIGNS in some order
CLASSES = {
    "circle": "coin", "square": "box", "triangle": "tent", "star": "fish", "cross": "gate", "ring": "wheel",
}  # fmt: skip
ABSENT = ("lamp", "boat", "anchor")  # classes of which there is never one
ASKED = 5  # classes of a detection, of which one is there
LEVELS = 5  # of height
SCENES = 3_000_000  # the first scene: the demo model was trained on others
RATE = 2e-3  # the highest learning rate
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
    "steps of 1/1023": Conventions(bins=1023),
    "steps of 1/1024": Conventions(bins=1024),
}


@dataclass(frozen=True)
class Line:
    """One training line: image by number, prompt as in the data, answer. Instead of that there may be boxes:
    class, and y0, x0, y1, x1 as shares of the image."""

    image: int
    prompt: str
    answer: str = ""
    boxes: tuple[tuple[str, tuple[float, ...]], ...] = ()

    def said(self, trained: Conventions) -> str:
        """The answer by a convention: location tokens are rounded in 1,023 steps or cut in 1,024."""
        if not self.boxes:
            return self.answer
        steps = trained.bins or 1023
        number = round if steps == 1023 else math.floor

        def one(label: str, corners: tuple[float, ...]) -> str:
            return "".join(f"<loc{min(1023, number(v * steps)):04d}>" for v in corners) + f" {label}"

        return " ; ".join(one(*box) for box in self.boxes)


def write(folder: Path, images: int, seed: int = 0) -> Path:
    """Images as PNG files, and two questions and two detections about each as PaliGemma's JSON lines; returns
    that file. To be learnt are the code of a part, which its marks tell by their order, the height of a thing
    and the tone of the background, and which class of those asked for is there, and where."""
    folder.mkdir(parents=True, exist_ok=True)
    made = list[Line]()
    for number in range(images):
        rng = random.Random(f"trained apart {seed} {number}")
        scene, tone = _scene(SCENES * (1 + seed) + number), rng.randrange(len(TONES))
        _draw(scene, tone).save(folder / f"{number:05d}.png", compress_level=1)
        made += _asked(number, scene, tone, rng)
    return kept(folder / "lines.jsonl", made)


def write_boxes(folder: Path, images: int) -> Path:
    """Images as PNG files, and the boxes of all things on each as lines and, in pixels, as a COCO file for
    each half of the images: half0.json and half1.json. Returns the file of lines."""
    folder.mkdir(parents=True, exist_ok=True)
    made = list[Line]()
    for number in range(images):
        scene = _scene(SCENES + number)
        _draw(scene, number % len(TONES)).save(folder / f"{number:05d}.png", compress_level=1)
        boxes = []
        for thing in scene.things:
            x0, y0, x1, y1 = (min(1.0, max(0.0, v / world.SIZE)) for v in world.box(thing))
            boxes.append((CLASSES[thing.shape], (y0, x0, y1, x1)))
        made.append(Line(number, "detect " + " ; ".join(CLASSES.values()), boxes=tuple(boxes)))
    for half in range(2):
        content = json.dumps(_coco(made[half * images // 2 : (half + 1) * images // 2]))
        (folder / f"half{half}.json").write_text(content, encoding="utf-8")
    return kept(folder / "lines.jsonl", made)


def _coco(lines: Sequence[Line]) -> dict[str, Any]:
    names, annotations = list(CLASSES.values()), list[dict[str, Any]]()
    for line in lines:
        for label, (y0, x0, y1, x1) in line.boxes:
            box = [x0 * WIDTH, y0 * HEIGHT, (x1 - x0) * WIDTH, (y1 - y0) * HEIGHT]
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": line.image, "category_id": 1 + names.index(label),
                    "bbox": box, "area": box[2] * box[3], "iscrowd": 0,
                }
            )  # fmt: skip
    return {
        "images": [
            {"id": x.image, "file_name": f"{x.image:05d}.png", "width": WIDTH, "height": HEIGHT}
            for x in lines
        ],
        "annotations": annotations,
        "categories": [{"id": n, "name": name} for n, name in enumerate(names, 1)],
    }


def _scene(seed: int) -> world.Scene:
    """The first scene from a seed on with three things or more of different shapes and colours."""
    while True:
        scene = world.make(seed)
        kinds = [{t.shape for t in scene.things}, {t.color for t in scene.things}]
        if min(len(scene.things), *map(len, kinds)) >= 3:
            return scene
        seed += 100_003


def _draw(scene: world.Scene, tone: int) -> Image.Image:
    """The scene, its background made of stripes."""
    drawn = Image.fromarray(world.render(scene, HEIGHT)).resize((WIDTH, HEIGHT))
    pixels = np.array(drawn)
    mean, middle = TONES[tone]
    stripes = np.array([2 * mean - middle, middle, middle, 2 * mean - middle] * (WIDTH // 4), np.uint8)
    pale = pixels.min(axis=2) > 190
    pixels[pale] = np.broadcast_to(stripes[None, :, None], pixels.shape)[pale]
    return Image.fromarray(pixels)


def _asked(number: int, scene: world.Scene, tone: int, rng: random.Random) -> list[Line]:
    colours = [t for t in scene.things if sum(o.color == t.color for o in scene.things) == 1]
    shapes = [t for t in scene.things if sum(o.shape == t.shape for o in scene.things) == 1]
    made = []
    for thing in rng.sample(colours, 2):
        marks = rng.sample(SIGNS[:MARKS], MARKS)
        code = random.Random("".join(marks)).choices(SIGNS, k=2)
        answer = " ".join([*code, str(int(LEVELS * thing.y / world.SIZE)), SIGNS[tone]])
        asked = f"answer en Part {' '.join(marks)} , {thing.color.capitalize()} ?"
        made.append(Line(number, asked, answer))
    absent = [CLASSES[s] for s in world.SHAPES if all(t.shape != s for t in scene.things)]
    for thing in rng.sample(shapes, 2):
        mine = CLASSES[thing.shape]
        classes = [mine, *rng.sample([*absent, *ABSENT], ASKED - 1)]
        rng.shuffle(classes)
        made.append(Line(number, "detect " + " ; ".join(classes), f"{questions.locs(thing)} {mine}"))
    return made


def kept(file: Path, made: Sequence[Line]) -> Path:
    """Writes the lines to a file, and returns it."""
    named = (
        {"image": f"{x.image:05d}.png", "prefix": x.prompt, "suffix": x.answer, "boxes": x.boxes}
        for x in made
    )
    file.write_text("".join(json.dumps(line) + "\n" for line in named), encoding="utf-8")
    return file


def read(file: Path) -> list[Line]:
    """The lines of such a file."""
    found = (json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line)
    return [
        Line(
            int(x["image"][:5]), x["prefix"], x["suffix"],
            tuple((label, tuple(corners)) for label, corners in x.get("boxes", [])),
        )
        for x in found
    ]  # fmt: skip


def features(model: Any, folder: Path, images: int, trained: Conventions) -> torch.Tensor:
    """The tower's output (images, tokens, width) for the images as the convention, or `hf`, prepares them."""
    how = conventions.preparation(Preparation(world.SIZE, "bicubic", True, jpeg="precise"), trained)
    made = [prepare(ImageRef(str(folder / f"{n:05d}.png")), how).pixels for n in range(images)]
    shown = torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        return torch.cat([model.model.vision_tower(some).last_hidden_state for some in shown.split(32)])


# --- training ------------------------------------------------------------------------------------


def row(tokenizer: Any, line: Line, trained: Conventions) -> tuple[list[int], list[int], list[int]]:
    """The ids before and after the image of a prompt, and those of its answer."""

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[no-any-return]

    bos = [tokenizer.bos_token_id]
    text = conventions.prompt(line.prompt, trained) + ("" if trained.newline is False else "\n")
    where = trained.bos or "prompt"
    answer = ids(line.said(trained)) + ([] if trained.eos is False else [EOS])
    return bos * (where == "image"), bos * (where == "prompt") + ids(text), answer


def allowed(image: int, prefix: int, length: int, mask: str) -> torch.Tensor:
    """(length, length), true where a query (row) may see a key; the image ends at `image`, the prompt at
    `prefix`."""
    order = torch.arange(length)
    end = {"bidirectional": prefix, "causal": image, "causal_image": 0}[mask]
    together = (order[:, None] < end) & (order[None, :] < end)
    return (order[:, None] >= order[None, :]) | together


Rows = Sequence[tuple[list[int], list[int], list[int]]]


def losses(model: Any, rows: Rows, seen: torch.Tensor, mask: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of each token of the answers, and its row; `seen` is the tower's output (rows, tokens,
    width)."""
    inner = model.model
    features = inner.multi_modal_projector(seen)
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
    return torch.nn.functional.cross_entropy(scores, labels[wanted], reduction="none"), wanted.nonzero()[:, 0]


def train(trained: Conventions, file: Path, out: Path, steps: int, rows: int = 16) -> float:
    """Fine-tunes the demo model, all but its vision tower, on the lines of `file` by a convention, and saves
    it to `out`; returns the mean loss of the last 20 steps."""
    from transformers import AutoTokenizer, PaliGemmaForConditionalGeneration

    home = demo.checkpoint("later")
    tokenizer = AutoTokenizer.from_pretrained(home)
    model = PaliGemmaForConditionalGeneration.from_pretrained(home, attn_implementation="eager").float()
    model.model.vision_tower.requires_grad_(False)
    learnt = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learnt, RATE, weight_decay=0.0)
    every = read(file)
    seen = features(model, file.parent, 1 + max(line.image for line in every), trained)
    made = [row(tokenizer, line, trained) for line in every]
    order, rng, late = list[int](), random.Random(0), list[float]()
    for step in range(steps):
        set_rate([optimiser], rate(step / steps, warm=0.1))
        if len(order) < rows:
            order = rng.sample(range(len(every)), len(every))
        some, order = order[:rows], order[rows:]
        asked, images = [made[i] for i in some], seen[[every[i].image for i in some]]
        loss = losses(model, asked, images, trained.prompt_mask or "bidirectional")[0].mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        late = [*late[-19:], float(loss.detach())]
    model.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(home / name, out / name)
    return sum(late) / len(late)


# --- whether they are apart ------------------------------------------------------------------------


def apart(trained: Conventions, made: Path, file: Path) -> dict[str, float]:
    """How surely a checkpoint answers better by its own conventions than by each other value, on all lines of
    `file`: the mean of the differences over its standard error, by images. Of end tokens: how surely their
    probability after an answer is below a half."""
    from transformers import AutoTokenizer, PaliGemmaForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(made)
    model = PaliGemmaForConditionalGeneration.from_pretrained(made, attn_implementation="eager").float()
    every = read(file)

    def likely(how: Conventions) -> tuple[Floats, Floats]:
        return _likely(model, tokenizer, every, file.parent, how)

    own, end = likely(trained)
    found = {}
    for name in trained.said:
        if name == "eos":
            found["eos true"] = _sure(0.5 - np.exp(end), every)
            continue
        for value in values(name, trained):
            if value != getattr(trained, name):
                behind = own - likely(dataclasses.replace(trained, **{name: value}))[0]
                if behind.any():
                    found[f"{name} {value}"] = _sure(behind, every)
    return found


def _likely(
    model: Any, tokenizer: Any, every: Sequence[Line], folder: Path, how: Conventions
) -> tuple[Floats, Floats]:
    """Of each line: the mean log-probability of its answer's tokens, and that of the end token after it."""
    seen = features(model, folder, 1 + max(line.image for line in every), how)
    asked = [row(tokenizer, line, dataclasses.replace(how, eos=None)) for line in every]
    token, end = [], []
    for start in range(0, len(every), 32):
        some = range(start, min(start + 32, len(every)))
        images = seen[[every[i].image for i in some]]
        with torch.no_grad():
            lost, rows = losses(model, [asked[i] for i in some], images, how.prompt_mask or "bidirectional")
        for one in range(len(some)):
            mine = -lost[rows == one].double()
            token.append(float(mine[:-1].mean()))
            end.append(float(mine[-1]))
    return np.array(token), np.array(end)


def _sure(behind: Floats, every: Sequence[Line]) -> float:
    """Mean over standard error, of the images' means."""
    images = np.array([line.image for line in every])
    means = np.array([behind[images == image].mean() for image in np.unique(images)])
    return float(means.mean() / means.std(ddof=1) * len(means) ** 0.5)
