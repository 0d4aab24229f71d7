"""Shapes world: seeded scenes of coloured shapes with drawn characters, and their rasteriser.

Pixels depend only on additions, products, square roots and rounded constants, so a scene is the
same to the byte on every machine. Questions and files are made elsewhere.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

SIZE = 224
"""Side of the canvas in units; in an image of this size a unit is a pixel."""

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (222, 52, 48),
    "green": (62, 172, 78),
    "blue": (58, 118, 232),
    "yellow": (240, 212, 52),
    "purple": (158, 82, 200),
    "orange": (244, 138, 44),
}
INK = (18, 18, 22)

# No "a": the VQA metric drops articles, so an answer "a" would be empty.
GLYPHS: dict[str, tuple[str, ...]] = {
    "c": (".####", "#....", "#....", "#....", "#....", "#....", ".####"),
    "e": ("#####", "#....", "#....", "####.", "#....", "#....", "#####"),
    "h": ("#...#", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"),
    "j": ("..###", "...#.", "...#.", "...#.", "...#.", "#..#.", ".##.."),
    "k": ("#...#", "#..#.", "#.#..", "##...", "#.#..", "#..#.", "#...#"),
    "l": ("#....", "#....", "#....", "#....", "#....", "#....", "#####"),
    "o": (".###.", "#...#", "#...#", "#...#", "#...#", "#...#", ".###."),
    "p": ("####.", "#...#", "#...#", "####.", "#....", "#....", "#...."),
    "t": ("#####", "..#..", "..#..", "..#..", "..#..", "..#..", "..#.."),
    "u": ("#...#", "#...#", "#...#", "#...#", "#...#", "#...#", ".###."),
    "x": ("#...#", "#...#", ".#.#.", "..#..", ".#.#.", "#...#", "#...#"),
    "y": ("#...#", "#...#", ".#.#.", "..#..", "..#..", "..#..", "..#.."),
    "z": ("#####", "....#", "...#.", "..#..", ".#...", "#....", "#####"),
    "3": ("####.", "....#", "....#", ".###.", "....#", "....#", "####."),
    "4": ("...#.", "..##.", ".#.#.", "#..#.", "#####", "...#.", "...#."),
    "7": ("#####", "....#", "...#.", "..#..", ".#...", ".#...", ".#..."),
}
_BITMAPS = {
    key: np.array([[c == "#" for c in row] for row in rows], dtype=np.float32) for key, rows in GLYPHS.items()
}

CELL = 0.155
"""Side of a glyph cell over the radius of its shape."""
HULL = 1.14
"""Every shape is inside a disc of HULL times its radius."""
SIDE, BAR, HOLE, STAR = 0.8, 0.36, 0.52, 0.5
"""Square half side, cross half width, ring inner radius, star inner radius over the radius."""


@dataclass(frozen=True)
class Thing:
    """One shape: centre and radius in canvas units, rotation as (cos, sin), text of one glyph or ''."""

    shape: str
    color: str
    x: float
    y: float
    r: float
    cos: float
    sin: float
    text: str
    rgb: tuple[int, int, int]

    @property
    def name(self) -> str:
        """Colour and shape, which no other thing of the scene shares."""
        return f"{self.color} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """Things from left to right on a background with a linear gradient between two colours."""

    seed: int
    things: tuple[Thing, ...]
    near: tuple[int, int, int]
    far: tuple[int, int, int]
    down: bool


def make(seed: int) -> Scene:
    """The scene of a seed. `random.Random` is used because its random() is the same in every version."""
    rng = random.Random(seed * 2654435761 % 2**32)
    count = 1 + int(rng.random() * 4)
    texts = [rng.random() < (0.55 if i == 0 else 0.15) for i in range(count)]
    things: list[Thing] = []
    while len(things) < count:
        thing = _thing(rng, things, texts[len(things)])
        if thing is None:  # no room left: start over, so that the last shape is not biased
            things = []
        else:
            things.append(thing)
    things.sort(key=lambda t: (t.x, t.y))
    near, far = _pale(rng), _pale(rng)
    return Scene(seed, tuple(things), near, far, rng.random() < 0.5)


def _pick(rng: random.Random, options: tuple[str, ...]) -> str:
    return options[int(rng.random() * len(options))]


def _pale(rng: random.Random) -> tuple[int, int, int]:
    level = 205 + int(rng.random() * 40)
    tint = [int(rng.random() * 9) - 4 for _ in range(3)]
    return (level + tint[0], level + tint[1], level + tint[2])


def _thing(rng: random.Random, placed: list[Thing], texted: bool) -> Thing | None:
    """One more thing clear of the placed ones, or None when sixty tries found no room."""
    for _ in range(60):
        shape, color = _pick(rng, SHAPES), _pick(rng, tuple(COLORS))
        if placed and rng.random() < 0.35:  # repeats make counting and distinguishing necessary
            other = placed[int(rng.random() * len(placed))]
            shape, color = (other.shape, color) if rng.random() < 0.5 else (shape, other.color)
        r = round((36 + rng.random() * 14) if texted else (22 + rng.random() * 26), 2)
        margin = HULL * r + 2
        x = round(margin + rng.random() * (SIZE - 2 * margin), 2)
        y = round(margin + rng.random() * (SIZE - 2 * margin), 2)
        angle = math.radians(round((rng.random() * 2 - 1) * 26, 1))
        text = _pick(rng, tuple(GLYPHS)) if texted else ""
        jitter = [int(rng.random() * 21) - 10 for _ in range(3)]
        if any(t.shape == shape and t.color == color for t in placed):
            continue
        if any(math.hypot(t.x - x, t.y - y) < HULL * (t.r + r) + 3 for t in placed):
            continue
        base = COLORS[color]
        rgb = (base[0] + jitter[0], base[1] + jitter[1], base[2] + jitter[2])
        return Thing(shape, color, x, y, r, round(math.cos(angle), 6), round(math.sin(angle), 6), text, rgb)
    return None


def _corners(shape: str) -> list[tuple[float, float]]:
    """Outline of a shape of radius 1, upright, y down."""
    if shape in ("circle", "ring"):
        turns = [2 * math.pi * i / 48 for i in range(48)]
        return [(math.cos(t), math.sin(t)) for t in turns]
    if shape == "square":
        return [(-SIDE, -SIDE), (SIDE, -SIDE), (SIDE, SIDE), (-SIDE, SIDE)]
    if shape == "triangle":
        turns = [math.pi * (4 * i - 3) / 6 for i in range(3)]
        return [(1.1 * math.cos(t), 1.1 * math.sin(t)) for t in turns]
    if shape == "star":
        turns = [math.pi * (i / 5 - 0.5) for i in range(10)]
        rad = [1.1, 1.1 * STAR] * 5
        return [(s * math.cos(t), s * math.sin(t)) for s, t in zip(rad, turns, strict=True)]
    b = BAR
    return [
        (-b, -1),
        (b, -1),
        (b, -b),
        (1, -b),
        (1, b),
        (b, b),
        (b, 1),
        (-b, 1),
        (-b, b),
        (-1, b),
        (-1, -b),
        (-b, -b),
    ]


_OUTLINES = {s: [(round(x, 6), round(y, 6)) for x, y in _corners(s)] for s in SHAPES}


def outline(thing: Thing, size: int = SIZE) -> list[tuple[float, float]]:
    """Outline in pixels of an image of `size`; for a ring only the outer edge."""
    k = size / SIZE
    c, s, r = thing.cos, thing.sin, thing.r
    return [
        (k * (thing.x + r * (c * u - s * v)), k * (thing.y + r * (s * u + c * v)))
        for u, v in _OUTLINES[thing.shape]
    ]


def box(thing: Thing, size: int = SIZE) -> tuple[float, float, float, float]:
    """Tight (xmin, ymin, xmax, ymax) in pixels of an image of `size`."""
    if thing.shape in ("circle", "ring"):  # the outline's corners are slightly inside the disc's box
        x, y, r = (v * size / SIZE for v in (thing.x, thing.y, thing.r))
        return (x - r, y - r, x + r, y + r)
    points = outline(thing, size)
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    return (min(xs), min(ys), max(xs), max(ys))


def _inside(thing: Thing, x: Floats, y: Floats) -> Bools:
    """Whether points (canvas units) are in the shape."""
    dx, dy = x - np.float32(thing.x), y - np.float32(thing.y)
    c, s, r = np.float32(thing.cos), np.float32(thing.sin), np.float32(thing.r)
    u, v = (c * dx + s * dy) / r, (c * dy - s * dx) / r
    if thing.shape == "circle":
        return u * u + v * v <= 1
    if thing.shape == "ring":
        d = u * u + v * v
        return (d <= 1) & (d >= HOLE * HOLE)
    au, av = np.abs(u), np.abs(v)
    if thing.shape == "square":
        return np.maximum(au, av) <= SIDE
    if thing.shape == "cross":
        return (np.maximum(au, av) <= 1) & (np.minimum(au, av) <= BAR)
    if thing.shape == "triangle":
        return (v <= np.float32(0.55)) & (np.float32(0.866025) * au - np.float32(0.5) * v <= 0.55)
    # star: the union of five kites, one per tip, each between two half planes
    hit = np.zeros(u.shape, dtype=np.bool_)
    points = _OUTLINES["star"]
    for i in range(0, 10, 2):
        (tx, ty), (lx, ly), (rx, ry) = points[i], points[i - 1], points[(i + 1) % 10]
        left = _side(lx, ly, tx, ty, u, v) & _side(0.0, 0.0, lx, ly, u, v)
        hit |= left & _side(tx, ty, rx, ry, u, v) & _side(rx, ry, 0.0, 0.0, u, v)
    return hit


def _side(ax: float, ay: float, bx: float, by: float, u: Any, v: Any) -> Any:
    """Points on the inner side of the edge a to b of a clockwise (y down) outline."""
    return np.float32(bx - ax) * (v - np.float32(ay)) >= np.float32(by - ay) * (u - np.float32(ax))


def _window(low: float, high: float, size: int) -> tuple[int, int]:
    k = size / SIZE
    return max(0, int(low * k) - 1), min(size, int(high * k) + 2)


def _grid(x0: int, x1: int, y0: int, y1: int, size: int, fine: int) -> tuple[Floats, Floats]:
    """Sample centres in canvas units, `fine` per pixel in each direction."""
    step = SIZE / size / fine
    x = ((np.arange(x0 * fine, x1 * fine) + 0.5) * step).astype(np.float32)
    y = ((np.arange(y0 * fine, y1 * fine) + 0.5) * step).astype(np.float32)
    return x[None, :], y[:, None]


def _shrink(hits: Floats, fine: int) -> Floats:
    h, w = hits.shape[0] // fine, hits.shape[1] // fine
    cells: Floats = hits.reshape(h, fine, w, fine).mean(axis=(1, 3), dtype=np.float32)
    return cells


def mask(thing: Thing, size: int = SIZE) -> Bools:
    """Pixels (size, size) whose centre is in the shape; text on it belongs to the shape."""
    full = np.zeros((size, size), dtype=np.bool_)
    reach = HULL * thing.r
    x0, x1 = _window(thing.x - reach, thing.x + reach, size)
    y0, y1 = _window(thing.y - reach, thing.y + reach, size)
    full[y0:y1, x0:x1] = _inside(thing, *_grid(x0, x1, y0, y1, size, 1))
    return full


def render(scene: Scene, size: int = SIZE, fine: int = 2) -> Bytes:
    """The scene as (size, size, 3) uint8, each pixel the mean of fine x fine samples."""
    near = np.array(scene.near, dtype=np.float32)
    far = np.array(scene.far, dtype=np.float32)
    ramp = ((np.arange(size) + 0.5) / size).astype(np.float32)[:, None]
    line = np.floor(near + (far - near) * ramp + np.float32(0.5))
    canvas = np.empty((size, size, 3), dtype=np.float32)
    canvas[:] = line[:, None, :] if scene.down else line[None, :, :]
    for thing in scene.things:
        reach = HULL * thing.r
        x0, x1 = _window(thing.x - reach, thing.x + reach, size)
        y0, y1 = _window(thing.y - reach, thing.y + reach, size)
        hits = _inside(thing, *_grid(x0, x1, y0, y1, size, fine)).astype(np.float32)
        _blend(canvas[y0:y1, x0:x1], _shrink(hits, fine), thing.rgb)
        if thing.text:
            _write(canvas, thing, size, fine)
    pixels: Bytes = np.floor(canvas + np.float32(0.5)).astype(np.uint8)
    return pixels


def _blend(window: Floats, alpha: Floats, rgb: tuple[int, int, int]) -> None:
    window += alpha[..., None] * (np.array(rgb, dtype=np.float32) - window)


def _write(canvas: Floats, thing: Thing, size: int, fine: int) -> None:
    """Draws the glyph of a thing, upright, on its centre."""
    cell = round(CELL * thing.r, 3)
    left, top = thing.x - 2.5 * cell, thing.y - 3.5 * cell
    x0, x1 = _window(left, left + 5 * cell, size)
    y0, y1 = _window(top, top + 7 * cell, size)
    x, y = _grid(x0, x1, y0, y1, size, fine)
    column = np.floor((x[0] - np.float32(left)) / np.float32(cell)).astype(np.int64)
    row = np.floor((y[:, 0] - np.float32(top)) / np.float32(cell)).astype(np.int64)
    padded = np.pad(_BITMAPS[thing.text], 1)
    hits = padded[np.clip(row + 1, 0, 8)[:, None], np.clip(column + 1, 0, 6)[None, :]]
    _blend(canvas[y0:y1, x0:x1], _shrink(hits, fine), INK)
