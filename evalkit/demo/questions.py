"""Questions about a scene with their right answers: captions, VQA, expressions, detection, segmentation.

The same functions serve training and the benchmark, on different scenes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evalkit.demo import world
from evalkit.demo.world import SIZE, Scene, Thing

CLEAR = 14.0
"""Canvas units by which two positions must differ for a question to compare them."""


@dataclass(frozen=True)
class Question:
    """A question, its one right answer, VQAv2's question and answer types, plausible wrong answers."""

    text: str
    answer: str
    question_type: str
    answer_type: str
    doubts: tuple[str, ...]


def _a(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def _mark(text: str) -> str:
    return f"the {'digit' if text.isdigit() else 'letter'} {text}"


def describe(thing: Thing) -> str:
    """A thing with its article, colour, shape and text."""
    return _a(thing.name) + (f" with {_mark(thing.text)}" if thing.text else "")


def listing(parts: Sequence[str]) -> str:
    """'x', 'x and y', 'x, y and z'."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def caption(scene: Scene) -> str:
    """The things from left to right."""
    return listing([describe(t) for t in scene.things])


def references(scene: Scene, rng: random.Random) -> list[str]:
    """Five captions as five people might write them; two of them are the plain listing."""
    plain = caption(scene)
    be = "is" if len(scene.things) == 1 else "are"
    frame = ("a picture of {}", "an image with {}", "{} on a plain background")[pick(rng, 3)]
    bare = [_a(t.name) for t in scene.things]
    loose = [
        frame.format(plain),
        f"there {be} {plain}",
        listing(bare) if rng.random() < 0.5 else listing([describe(t) for t in scene.things][::-1]),
    ]
    texts = [plain, plain, *loose]
    rng.shuffle(texts)
    # no full stop at the end: after a single letter the PTB tokenizer takes it for that of an initial
    return [t[0].upper() + t[1:] for t in texts]


def pick(rng: random.Random, count: int) -> int:
    """A number below count, from random(), whose stream is the same in every version of Python."""
    return int(rng.random() * count)


def _choose(rng: random.Random, options: Sequence[str]) -> str:
    return options[pick(rng, len(options))]


def plural(shape: str) -> str:
    return shape + ("es" if shape == "cross" else "s")


def _number(text: str, count: int) -> Question:
    near = tuple(str(n) for n in (count - 1, count + 1) if n >= 0)
    return Question(text, str(count), "how many", "number", near)


def _polar(text: str, right: bool) -> Question:
    kind = "is there a" if text.startswith("is there") else "is the"
    return Question(text, "yes" if right else "no", kind, "yes/no", ("no" if right else "yes",))


def counts(scene: Scene, rng: random.Random) -> list[Question]:
    """How many shapes in all, of one shape and of one colour (which may be absent)."""
    things = scene.things
    shape = things[pick(rng, len(things))].shape if rng.random() < 0.8 else _choose(rng, world.SHAPES)
    color = things[pick(rng, len(things))].color if rng.random() < 0.8 else _choose(rng, tuple(world.COLORS))
    return [
        _number("how many shapes are there?", len(things)),
        _number(f"how many {plural(shape)} are there?", sum(t.shape == shape for t in things)),
        _number(f"how many {color} shapes are there?", sum(t.color == color for t in things)),
    ]


_OTHER_NAMES = {
    "purple": "violet",
    "orange": "yellow",
    "yellow": "gold",
    "red": "orange",
    "blue": "purple",
    "green": "dark green",
    "ring": "donut",
    "circle": "round",
    "cross": "plus",
    "square": "rectangle",
    "triangle": "pyramid",
    "star": "starfish",
}


def _open(text: str, answer: str) -> Question:
    kind = "what color is the" if text.startswith("what color is the") else "what"
    return Question(text, answer, kind, "other", (_OTHER_NAMES[answer],))


def attributes(scene: Scene) -> list[Question]:
    """Colour of the only such shape, shape of the only thing of a colour, both for the outermost things."""
    things, out = scene.things, []
    for t in things:
        if sum(o.shape == t.shape for o in things) == 1:
            out.append(_open(f"what color is the {t.shape}?", t.color))
        if sum(o.color == t.color for o in things) == 1:
            out.append(_open(f"what shape is the {t.color} thing?", t.shape))
    for where, t in outermost(list(things)):
        out.append(_open(f"what color is the shape {where}?", t.color))
        out.append(_open(f"what shape is {where}?", t.shape))
    return out


def presence(scene: Scene, rng: random.Random) -> list[Question]:
    """Is there such a thing: one yes, and one no whose colour or shape is mostly in the scene."""
    names = {t.name for t in scene.things}
    here = scene.things[pick(rng, len(scene.things))]
    absent = here.name
    while absent in names:
        kind = rng.random()
        color = here.color if kind < 0.4 else _choose(rng, tuple(world.COLORS))
        shape = here.shape if kind > 0.6 else _choose(rng, world.SHAPES)
        absent = f"{color} {shape}"
    return [_polar(f"is there {_a(here.name)}?", True), _polar(f"is there {_a(absent)}?", False)]


_SIDES: dict[str, Callable[[Thing, Thing], float]] = {
    "left of": lambda a, b: b.x - a.x,
    "right of": lambda a, b: a.x - b.x,
    "above": lambda a, b: b.y - a.y,
    "below": lambda a, b: a.y - b.y,
}


def relations(scene: Scene, rng: random.Random) -> list[Question]:
    """Is A left of, right of, above or below B, for pairs that are clearly apart in that direction."""
    out = []
    for a in scene.things:
        for b in scene.things:
            side = _choose(rng, tuple(_SIDES))
            apart = _SIDES[side](a, b)
            if a is not b and abs(apart) > CLEAR:
                out.append(_polar(f"is the {a.name} {side} the {b.name}?", apart > 0))
    return out


def outermost(things: list[Thing]) -> list[tuple[str, Thing]]:
    """(where, thing) for the clearly leftmost, rightmost, top and bottom thing of two or more."""
    keys: list[tuple[str, Callable[[Thing], float]]] = [
        ("on the left", lambda t: t.x),
        ("on the right", lambda t: -t.x),
        ("at the top", lambda t: t.y),
        ("at the bottom", lambda t: -t.y),
    ]
    out = []
    for where, key in keys:
        ranked = sorted(things, key=key)
        if len(ranked) > 1 and key(ranked[1]) - key(ranked[0]) > CLEAR:
            out.append((where, ranked[0]))
    return out


def vqa(scene: Scene, rng: random.Random) -> list[Question]:
    """Up to five questions: a count, a presence, two attributes, a relation; yes and no equally often."""
    counted, polar = counts(scene, rng), presence(scene, rng)
    out = [counted[pick(rng, len(counted))], polar[pick(rng, len(polar))]]
    open_ones = attributes(scene)
    for _ in range(min(2, len(open_ones))):
        out.append(open_ones.pop(pick(rng, len(open_ones))))
    related = relations(scene, rng)
    wanted = "yes" if rng.random() < 0.5 else "no"
    related = [q for q in related if q.answer == wanted] or related
    if related:
        out.append(related[pick(rng, len(related))])
    return out


def reading(scene: Scene, rng: random.Random) -> list[Question]:
    """A question for every thing with text on it."""
    texted = [t for t in scene.things if t.text]
    out = []
    for t in texted:
        forms = [f"what is written on the {t.name}?", f"what character is on the {t.name}?"]
        if sum(o.shape == t.shape for o in scene.things) == 1:
            forms.append(f"what is written on the {t.shape}?")
        if len(texted) == 1:
            forms.append("what character is in the image?")
        out.append(Question(_choose(rng, forms), t.text, "what", "other", LOOKALIKE[t.text]))
    return out


LOOKALIKE = {
    "c": ("o",),
    "e": ("c",),
    "h": ("n",),
    "j": ("1",),
    "k": ("x",),
    "l": ("i",),
    "o": ("0",),
    "p": ("d",),
    "t": ("7",),
    "u": ("v",),
    "x": ("k",),
    "y": ("v",),
    "z": ("2",),
    "3": ("8",),
    "4": ("9",),
    "7": ("1",),
}


def expressions(scene: Scene, thing: Thing) -> list[str]:
    """Sentences that fit this thing of the scene and no other."""
    things = scene.things
    out = [thing.name]
    same = [t for t in things if t.shape == thing.shape]
    if len(same) == 1:
        out.append(thing.shape)
    if sum(t.color == thing.color for t in things) == 1:
        out.append(f"{thing.color} one")
    out += [f"{thing.shape} {where}" for where, t in outermost(same) if t is thing]
    out += [f"shape {where}" for where, t in outermost(list(things)) if t is thing]
    if thing.text and sum((t.shape, t.text) == (thing.shape, thing.text) for t in things) == 1:
        out.append(f"{thing.shape} with {_mark(thing.text)}")
    return out


def locs(thing: Thing) -> str:
    """The box as four loc tokens, ymin xmin ymax xmax."""
    x0, y0, x1, y1 = world.box(thing)
    numbers = (min(1023, max(0, round(v / SIZE * 1023))) for v in (y0, x0, y1, x1))
    return "".join(f"<loc{n:04d}>" for n in numbers)


def segs(codes: Sequence[int]) -> str:
    return "".join(f"<seg{c:03d}>" for c in codes)


def detect(thing: Thing, sentence: str) -> tuple[str, str]:
    """Prompt and answer of a referring expression."""
    return f"detect {sentence}", f"{locs(thing)} {sentence}"


def segment(thing: Thing, sentence: str, codes: Sequence[int]) -> tuple[str, str]:
    """Prompt and answer of a referring expression with the mask's codes."""
    return f"segment {sentence}", f"{locs(thing)}{segs(codes)} {sentence}"


def detect_all(scene: Scene) -> tuple[str, str]:
    """Prompt and answer of whole-scene detection, from left to right."""
    return "detect all classes", " ; ".join(f"{locs(t)} {t.shape}" for t in scene.things)
