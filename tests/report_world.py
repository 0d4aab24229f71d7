"""Writes a report's folder as `evalkit report` lays it out, of invented samples: boxes, masks, questions, captions,
texts that are an attack, two runs.

The page's tests open what this writes; nothing of the builder is needed. `python tests/report_world.py FOLDER [N]`
writes one to look at.
"""

from __future__ import annotations

import base64
import colorsys
import gzip
import hashlib
import io
import json
import math
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

PAGE = Path(__file__).parent.parent / "evalkit" / "viewer" / "page"
CHUNK = 500
MEBI = 1 << 20
TYPES = {"float32": "Float32Array", "uint16": "Uint16Array", "uint32": "Uint32Array"}
HOSTILE = (
    "<script>window.hacked = 1</script>",
    '<img src=x onerror="window.hacked = 2">',
    "</script><script>window.hacked = 3</script>",
    "[a link](javascript:window.hacked=4) javascript:window.hacked=5",
    "left \u202egnp.exe\u202c right \u200bzero\u0000null\u001b[31mred\u0007",
    "line\u2028separator\u2029paragraph \ud800 half",
    "مرحبا بالعالم \u2067isolated\u2069",
    "{{constructor.constructor('window.hacked=6')()}} ${window.hacked=7} __proto__",
)


@dataclass
class Columns:
    """Arrays one after the other, each at a multiple of eight bytes, and the head that says where."""

    n: int
    head: list[dict[str, Any]] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)

    def _append(self, raw: bytes) -> int:
        self.data += b"\0" * (-len(self.data) % 8)
        place = len(self.data)
        self.data += raw
        return place

    def number(self, name: str, values: Any, **more: Any) -> None:
        array = np.asarray(values, np.float32)
        self._add(name, "number", array, **more)

    def code(self, name: str, values: Any, labels: Sequence[str], **more: Any) -> None:
        self._add(name, "code", np.asarray(values, np.uint16), labels=list(labels), **more)

    def flags(self, name: str, values: Any, labels: Sequence[str], **more: Any) -> None:
        self._add(name, "flags", np.asarray(values, np.uint32), labels=list(labels), **more)

    def _add(self, name: str, kind: str, array: Any, **more: Any) -> None:
        place = self._append(array.tobytes())
        self.head.append(
            {"name": name, "kind": kind, "type": TYPES[array.dtype.name], "offset": place, "length": array.nbytes,
             "run": run_of(name), **more}
        )  # fmt: skip

    def codes(self, name: str, values: Sequence[Sequence[int]], **more: Any) -> None:
        starts = np.cumsum([0, *map(len, values)]).astype(np.uint32)
        flat = np.asarray([c for one in values for c in one], np.uint16)
        first, second = self._append(starts.tobytes()), self._append(flat.tobytes())
        self.head.append(
            {"name": name, "kind": "codes", "type": "Uint16Array", "offset": first, "length": starts.nbytes,
             "values": {"offset": second, "length": flat.nbytes}, "run": run_of(name), **more}
        )  # fmt: skip

    def text(self, name: str, lines: Sequence[str]) -> None:
        raw = "\n".join(line.replace("\\", "\\\\").replace("\n", "\\n") for line in lines).encode()
        place = self._append(raw)
        self.head.append({"name": name, "kind": "text", "offset": place, "length": len(raw), "run": None})

    def value(self) -> dict[str, Any]:
        return {"head": {"n": self.n, "columns": self.head}, "data": packed(bytes(self.data))}


def run_of(name: str) -> int | None:
    return int(name.partition(":")[2]) if ":" in name else None


def packed(raw: bytes) -> str:
    return base64.b64encode(gzip.compress(raw, 6, mtime=0)).decode()


def script(path: Path, key: str, value: Any) -> None:
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"evalkit.put({json.dumps(key)}, {text});\n", encoding="utf-8")


@dataclass
class World:
    """What is written: the folder, chance, and the report's tasks so far."""

    folder: Path
    chance: random.Random
    tasks: list[dict[str, Any]] = field(default_factory=list)

    def write_task(
        self, page: dict[str, Any], columns: Columns, record: Callable[[int], dict[str, Any]], texts: Sequence[str]
    ) -> None:  # fmt: skip
        t, data = len(self.tasks), self.folder / "data"
        script(data / str(t) / "task.js", f"task/{t}", page)
        script(data / str(t) / "columns.js", f"columns/{t}", columns.value())
        lowered = json.dumps([s.lower() for s in texts]).encode()
        script(data / str(t) / "text.js", f"text/{t}", packed(lowered))
        for k in range(math.ceil(columns.n / CHUNK)):
            rows = [record(i) for i in range(k * CHUNK, min(columns.n, (k + 1) * CHUNK))]
            script(data / str(t) / "samples" / f"{k}.js", f"samples/{t}/{k}", rows)

    def picture(self, width: int, height: int, seed: int, shapes: Sequence[Sequence[float]] = ()) -> str:
        """A scene of the shapes that are boxes, on a soft ground; its place in the report."""
        chance = random.Random(seed)
        scale = 384 / max(width, height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        ground = Image.linear_gradient("L").resize(size)
        warm, cold = _colour(chance, 0.25, 0.95), _colour(chance, 0.35, 0.55)
        image = Image.composite(Image.new("RGB", size, warm), Image.new("RGB", size, cold), ground)
        draw = ImageDraw.Draw(image)
        for x0, y0, x1, y1, *_ in shapes:
            place = [x0 * scale, y0 * scale, x1 * scale, y1 * scale]
            form = draw.ellipse if chance.random() < 0.6 else draw.rectangle
            form(place, fill=_colour(chance, 0.6, 0.8), outline=(40, 40, 40))
        raw = io.BytesIO()
        image.save(raw, "JPEG", quality=75)
        digest = hashlib.sha256(raw.getvalue()).hexdigest()[:32]
        path = self.folder / "thumbs" / digest[:2] / f"{digest}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw.getvalue())
        return f"thumbs/{digest[:2]}/{digest}.jpg"


def _colour(chance: random.Random, saturation: float, value: float) -> tuple[int, int, int]:
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(chance.random(), saturation, value))  # type: ignore[return-value]


def answered(answer: str, **more: Any) -> dict[str, Any]:
    empty = {"parsed": answer, "boxes": [], "masks": [], "stop": "end", "margin": None, "invalid": "", "remark": "",
             "scores": [], "why": [], "fields": None}  # fmt: skip
    return {"answer": answer, **empty, **more}


def target(texts: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    return {"texts": list(texts), "boxes": [], "masks": [], "other": [], **more}


GROUPS = ("yes/no", "number", "other")
ANSWERS = {"yes/no": ("yes", "no"), "number": ("1", "2", "3", "7"), "other": ("red", "a dog", "on the table")}


@dataclass(frozen=True)
class Questions:
    """Invented questions, and how right each run is: what columns and records are both made of."""

    groups: list[str]
    targets: list[str]
    answers: list[list[str]]  # per run
    scores: np.ndarray[Any, Any]  # runs × n
    margins: np.ndarray[Any, Any]


def questions(chance: random.Random, n: int) -> Questions:
    groups = [GROUPS[min(2, int(chance.random() * 3.2))] for _ in range(n)]
    targets = [chance.choice(ANSWERS[g]) for g in groups]
    answers, scores = [], np.zeros((2, n))
    for run, skill in enumerate((0.62, 0.7)):
        said = [
            t if chance.random() < skill else chance.choice(ANSWERS[g])
            for t, g in zip(targets, groups, strict=True)
        ]
        scores[run] = [
            (1.0 if chance.random() < 0.8 else 2 / 3) if a == t else (1 / 3 if chance.random() < 0.1 else 0.0)
            for a, t in zip(said, targets, strict=True)
        ]
        answers.append(said)
    margins = np.asarray([[chance.expovariate(0.6) for _ in range(n)] for _ in range(2)])
    return Questions(groups, targets, answers, scores, margins)


def write_questions(world: World, n: int) -> None:
    """Task 0: questions with scores between 0 and 1, groups, and hostile text in the first samples."""
    chance, q = world.chance, questions(world.chance, n)
    for i, text in enumerate(HOSTILE):
        q.answers[0][i], q.scores[0][i] = text, 0.0
    q.answers[1][len(HOSTILE)], q.scores[1][len(HOSTILE)] = "word " * (MEBI // 5), 0.0
    pictures = [
        world.picture(640, 480, k, [_box(chance, 640, 480) for _ in range(4)]) for k in range(min(n, 40))
    ]
    ids = [f"q{i:06d}" for i in range(n)]
    ids[2], ids[9] = "odd id &?=#/%20 <b>", "two\nlines and a \\n"
    columns = Columns(n)
    columns.text("id", ids)
    columns.code("group", [GROUPS.index(g) for g in q.groups], GROUPS, title="question type")
    columns.code("cluster", [i % 4096 for i in range(n)], [str(i) for i in range(min(n, 4096))])
    for r in range(2):
        columns.number(f"score:{r}", q.scores[r], title="score", scale=100, digits=1)
        columns.number(f"right:{r}", q.scores[r] >= 0.5)
        state = [int(i % 41 == r) + 2 * int(i % 67 == r) for i in range(n)]
        columns.flags(f"state:{r}", state, ["invalid", "cut"])
        columns.number(f"length:{r}", [len(a) % 97 for a in q.answers[r]], title="answer length, characters")
        columns.number(f"margin:{r}", q.margins[r])
    both_wrong = (q.scores < 0.5).all(axis=0) & np.asarray([a == b for a, b in zip(*q.answers, strict=True)])
    columns.number("suspect", np.where(both_wrong, q.margins.min(axis=0), np.nan), title="suspicion")

    def record(i: int) -> dict[str, Any]:
        question = f"What is seen in picture {i}?"
        runs = [
            answered(
                q.answers[r][i],
                parsed=q.answers[r][i].lower()[:2000],
                invalid="empty after the prompt" if i % 41 == r else "",
                stop="length" if i % 67 == r else "end",
                margin=float(q.margins[r][i]),
                scores=[["vqa_accuracy", q.scores[r][i]], ["exact_match", float(q.scores[r][i] == 1)]],
                why=[["annotators who say the same", f"{round(q.scores[r][i] * 3)} of 10"], ["after normalisation", q.answers[r][i][:80].lower()]],
            )
            for r in range(2)
        ]  # fmt: skip
        image = {"src": pictures[i % len(pictures)], "width": 640, "height": 480, "name": f"picture_{i}.jpg"}
        wanted = target([q.targets[i]] * 7 + ["something else"] * 3)
        return {"id": ids[i], "question": question, "prompt": f"answer en {question}\n", "group": q.groups[i],
                "images": [image], "target": wanted, "runs": runs}  # fmt: skip

    texts = [
        f"what is seen in picture {i}? {q.targets[i]} {q.answers[0][i][:500]} {q.answers[1][i][:500]}"
        for i in range(n)
    ]
    page = described("vqa_world", "vqa_accuracy", "answer en {question}\n")
    page["sections"] = question_sections(q)
    world.write_task(page, columns, record, texts)
    world.tasks.append(
        summary(
            "vqa_world", "Questions about invented pictures", "vqa_accuracy", q.scores, 100, published=0.734
        )
    )


def question_sections(q: Questions) -> list[dict[str, Any]]:
    edges = [round(k / 10, 1) for k in range(11)]
    narrow, as_stored = np.asarray(edges, np.float32), q.scores.astype(np.float32)
    series = [{"run": r, "counts": np.histogram(as_stored[r], narrow)[0].tolist()} for r in range(2)]
    rows = []
    for g in GROUPS:
        of = np.asarray([x == g for x in q.groups])
        values = [interval(q.scores[r][of]) for r in range(2)]
        rows.append({"label": g, "n": int(of.sum()), "filter": f"group={g}", "values": values})
    bins = [(k / 10, (k + 1) / 10) for k in range(10)]
    points = [[(a + b) / 2, min(1, (a + b) / 2 + 0.07), (a + b) / 2 - 0.03, min(1, a + 0.2)] for a, b in bins]
    return [
        {"kind": "histogram", "title": "Scores", "about": "How often each score was given. Open a bar to see its samples.",
         "column": "score", "edges": edges, "series": series, "scale": 100, "digits": 0},
        {"kind": "bars", "title": "Question types", "about": "Where each run is strong or weak.", "of": "question type", "unit": "score", "rows": rows},
        {"kind": "curve", "title": "Calibration", "about": "On the diagonal, an answer is right as often as the run is sure.",
         "x": {"label": "confidence"}, "y": {"label": "right"}, "diagonal": True,
         "series": [{"name": "", "run": r, "points": [[x, y - 0.05 * r, low - 0.05 * r, high - 0.05 * r] for x, y, low, high in points],
                     "filters": [f"margin:{r}={a}..{b}" for a, b in bins]} for r in range(2)]},
        {"kind": "table", "title": "Frequent answers", "about": "What was said most.", "head": ["answer", "times"],
         "rows": [["yes", 31], ["no", 27], ["<b>bold</b>\u202e", 2]], "filters": ["group=yes/no", "group=yes/no", None]},
    ]  # fmt: skip


CLASSES = ("person", "dog", "bicycle", "traffic light")
ERRORS = ("missed", "background", "wrong class", "badly placed")


def _box(chance: random.Random, width: int, height: int) -> list[float]:
    w, h = chance.uniform(0.15, 0.5) * width, chance.uniform(0.15, 0.5) * height
    x, y = chance.uniform(0, width - w), chance.uniform(0, height - h)
    return [round(v, 1) for v in (x, y, x + w, y + h)]


def _moved(chance: random.Random, box: list[Any], by: float) -> list[float]:
    w, h = box[2] - box[0], box[3] - box[1]
    dx, dy = chance.uniform(-by, by) * w, chance.uniform(-by, by) * h
    return [round(v, 1) for v in (box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy)]


def _outline(box: Sequence[Any], wave: float) -> str:
    """A wavy ellipse in the box, as the path of a mask."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    rx, ry = (box[2] - box[0]) / 2, (box[3] - box[1]) / 2
    points = []
    for k in range(40):
        turn = k * math.tau / 40
        r = 0.92 + 0.08 * math.sin(5 * turn + wave)
        points.append(f"{x + rx * r * math.cos(turn):.1f} {y + ry * r * math.sin(turn):.1f}")
    return "M" + "L".join(points) + "Z"


def iou(a: Sequence[Any], b: Sequence[Any]) -> float:
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
    return w * h / area


def write_objects(world: World, n: int) -> None:
    """Task 1: boxes and masks of classes, a matrix with background, kinds of errors; no score of single samples
    is right or wrong."""
    chance = world.chance
    sizes = [(640, 480) if i % 3 else (480, 640) for i in range(n)]
    targets, found, pairs, errors = [], [[], []], [[], []], [[], []]
    k, background = len(CLASSES) + 1, len(CLASSES)
    for i in range(n):
        wanted = [[*_box(chance, *sizes[i]), chance.choice(CLASSES)] for _ in range(chance.randint(1, 4))]
        targets.append(wanted)
        for r in range(2):
            said, cells, kinds = [], [], 0
            for b in wanted:
                row = CLASSES.index(b[4])
                fate = chance.random() + 0.1 * r
                if fate < 0.15:
                    cells.append(row * k + background)
                    kinds |= 1
                    continue
                label = chance.choice(CLASSES) if fate < 0.25 else b[4]
                said.append(
                    [
                        *_moved(chance, b, 0.08 if fate > 0.4 else 0.35),
                        label,
                        round(0.5 + chance.random() / 2, 2),
                    ]
                )
                cells.append(row * k + CLASSES.index(label))
                kinds |= (4 if label != b[4] else 0) | (8 if fate <= 0.4 else 0)
            if chance.random() < 0.2:
                said.append([*_box(chance, *sizes[i]), chance.choice(CLASSES), 0.41])
                cells.append(background * k + CLASSES.index(said[-1][4]))
                kinds |= 2
            found[r].append(said)
            pairs[r].append(cells)
            errors[r].append(kinds)
    best = np.asarray(
        [
            [
                np.mean([max((iou(b, p) for p in found[r][i]), default=0) for b in targets[i]])
                for i in range(n)
            ]
            for r in range(2)
        ]
    )
    ids = [f"{i:012d}" for i in range(n)]
    columns = Columns(n)
    columns.text("id", ids)
    columns.codes("class", [[CLASSES.index(b[4]) for b in one] for one in targets], labels=list(CLASSES))
    columns.number("size", [max((b[2] - b[0]) * (b[3] - b[1]) for b in one) / (640 * 480) for one in targets])
    for r in range(2):
        columns.number(f"score:{r}", best[r], scale=100, digits=1)
        columns.number(f"iou:{r}", best[r])
        columns.flags(f"error:{r}", errors[r], ERRORS)
        columns.flags(f"state:{r}", [int(not p) for p in found[r]], ["invalid", "cut"])
        columns.codes(
            f"said:{r}", [[CLASSES.index(b[4]) for b in one] for one in found[r]], labels=list(CLASSES)
        )
        labels = [f"{a} → {b}" for a in (*CLASSES, "background") for b in (*CLASSES, "background")]
        columns.codes(
            f"pair:{r}", pairs[r], **({"labels": labels} if r else {})
        )  # one with names, one without

    def record(i: int) -> dict[str, Any]:
        width, height = sizes[i]
        src = world.picture(width, height, 1000 + i, targets[i]) if i % 17 else None
        runs: list[Any] = []
        for r in range(2):
            boxes = found[r][i]
            masks = [{"path": _outline(b, r), "label": b[4]} for b in boxes] if i % 2 else []
            text = " ; ".join(
                f"<loc{int(b[1]):04d}><loc{int(b[0]):04d}><loc{int(b[3]):04d}><loc{int(b[2]):04d}> {b[4]}"
                for b in boxes
            )
            runs.append(answered(text, parsed=f"{len(boxes)} boxes", boxes=boxes, masks=masks, invalid="" if boxes else "no box was read",
                                 scores=[["mean_iou", best[r][i]]], why=[["best IoU of each target", ", ".join(f"{max((iou(b, p) for p in boxes), default=0):.2f}" for b in targets[i])]]))  # fmt: skip
        if i % 29 == 5:
            runs[1] = None
        masks = [{"path": _outline(b, 0.5), "label": b[4]} for b in targets[i]] if i % 2 else []
        return {"id": ids[i], "question": None, "prompt": "detect person ; dog ; bicycle ; traffic light\n", "group": "",
                "images": [{"src": src, "width": width, "height": height, "name": f"{ids[i]}.jpg"}],
                "target": target(boxes=targets[i], masks=masks, other=[["crowd", "no"]]), "runs": runs}  # fmt: skip

    page = described("detect_world", "mean_iou", "detect {classes}\n")
    page["sections"] = object_sections(best, pairs, errors, n)
    world.write_task(page, columns, record, [" ".join(b[4] for b in one) for one in targets])
    world.tasks.append(
        summary("detect_world", "Objects in invented pictures", "mean_iou", best, 100, published=None)
    )


def object_sections(best: Any, pairs: Any, errors: Any, n: int) -> list[dict[str, Any]]:
    k = len(CLASSES) + 1
    edges = [round(x / 20, 2) for x in range(21)]
    stored = best.astype(np.float32)
    matrices = []
    for r in range(2):
        cells = np.zeros((k, k), int)
        for one in pairs[r]:
            for c in one:
                cells[divmod(c, k)] += 1
        matrices.append(
            {"kind": "matrix", "title": "What was taken for what", "about": "Rows are targets, columns answers; background is a missed object or an invented one.",
             "run": r, "rows": [*CLASSES, "background"], "columns": [*CLASSES, "background"], "cells": cells.tolist(), "filters": f"pair:{r}"}
        )  # fmt: skip
    kinds = [
        {"label": name, "n": [sum(e >> b & 1 for e in errors[r]) for r in range(2)], "filter": [f"error:{r}={name}" for r in range(2)],
         "values": [{"value": sum(e >> b & 1 for e in errors[r]) / n / 3, "low": None, "high": None} for r in range(2)]}
        for b, name in enumerate(ERRORS)
    ]  # fmt: skip
    recall = [x / 50 for x in range(51)]
    curve = [
        {
            "name": "",
            "run": r,
            "points": [[x, max(0, 1 - x ** (3 + r) - 0.05), None, None] for x in recall],
            "filters": None,
        }
        for r in range(2)
    ]
    return [
        {"kind": "bars", "title": "Kinds of errors", "about": "How much AP each kind of error costs.", "of": "error", "unit": "ΔAP", "rows": kinds},
        {"kind": "histogram", "title": "IoU", "about": "How well the best box of each target lies.", "column": "iou", "edges": edges,
         "series": [{"run": r, "counts": np.histogram(stored[r], np.asarray(edges, np.float32))[0].tolist()} for r in range(2)], "digits": 2, "scale": 1},
        {"kind": "curve", "title": "Precision and recall", "about": "At IoU 0.5, over all classes.", "x": {"label": "recall"}, "y": {"label": "precision"}, "series": curve, "diagonal": False},
        *matrices,
    ]  # fmt: skip


def write_captions(world: World, n: int) -> None:
    """Task 2: captions of picture pairs; one run only, no score by sample, JSON fields side by side."""
    ids = [f"cap/{i}\u202e" if i == 1 else f"cap/{i}" for i in range(n)]
    columns = Columns(n)
    columns.text("id", ids)
    columns.number("images", [2] * n)
    columns.number("length:0", [20 + i % 9 for i in range(n)])
    src = [world.picture(320, 240, 5000 + k) for k in range(4)]

    def record(i: int) -> dict[str, Any]:
        fields = [["menu.price", "12", "12", True], ["menu.name", "Tea <i>hot</i>", "Tee", False]]
        images = [
            {"src": src[(i + k) % 4], "width": 320, "height": 240, "name": f"{i}_{k}.png"} for k in range(2)
        ]
        one = answered(
            f"two pictures of number {i}", fields=fields, why=[["3-grams found", "two pictures of"]]
        )
        return {"id": ids[i], "question": None, "prompt": "caption en\n", "group": "", "images": images,
                "target": target([f"pictures numbered {i}", "two of them"]), "runs": [one, None]}  # fmt: skip

    page = described("caption_world", "cider", "caption en\n")
    page["sections"] = []
    world.write_task(page, columns, record, [f"caption {i}" for i in range(n)])
    scores = summary(
        "caption_world", "Captions of pairs", "cider", np.full((1, n), 1.137), 100, published=None
    )
    scores["scores"].append(None)
    world.tasks.append(scores)


def described(name: str, metric: str, prompt: str) -> dict[str, Any]:
    return {"name": name, "version": 1, "about": "", "license": "CC BY 4.0", "homepage": "https://example.org/data", "prompt": prompt,
            "exact_prompt": "answer en What is seen in picture 0?\n", "protocol": "paper: resized to 224 × 224, bilinear",
            "signature_words": [["metric", metric], ["samples", "all"], ["tool", "own"]], "signature": f"{metric}|n:all|v:1", "metrics": [metric]}  # fmt: skip


def interval(values: Any) -> dict[str, float]:
    mean = float(np.mean(values))
    half = 1.96 * float(np.std(values)) / math.sqrt(max(1, len(values)))
    return {"value": mean, "low": mean - half, "high": mean + half}


def summary(
    name: str, about: str, metric: str, scores: Any, scale: int, published: float | None
) -> dict[str, Any]:
    n = scores.shape[1]
    rows = [
        {**interval(s), "n": n, "coverage": "all", "invalid": n // 41, "cut": n // 67, "remarks": "2 answers were cut" if r else "", "stamps": [], "comparable": ""}
        for r, s in enumerate(scores)
    ]  # fmt: skip
    known = [
        {
            "model": "PaliGemma 3B 224",
            "value": published,
            "low": None,
            "high": None,
            "source": "the paper, table 1",
        }
    ]
    return {"name": name, "about": about, "n": n, "metric": metric, "lower_is_better": False, "maximum": 1, "scores": rows,
            "published": known if published else [], "scale": scale, "digits": 1}  # fmt: skip


def compared(world: World, q_scores: Any = None) -> list[dict[str, Any]]:
    a, b = world.tasks[0]["scores"]
    groups = [{"name": g, "difference": d, "low": d - 0.06, "high": d + 0.06, "n": 100, "filter": f"group={g}"}
              for g, d in zip(GROUPS, (0.11, -0.02, 0.04), strict=True)]  # fmt: skip
    difference = b["value"] - a["value"]
    return [
        {"task": 0, "a": 0, "b": 1, "difference": difference, "low": difference - 0.04, "high": difference + 0.04, "p": 0.0012, "significant": True,
         "verdict": "better", "notes": ["a note about it"], "gained": 60, "lost": 31, "same": 200, "groups": groups, "telling": [0, 3, 8, 12]}
    ]  # fmt: skip


def write(folder: Path, n: int = 400, title: str = "An invented report") -> Path:
    """The whole folder; gives index.html's path. `n` samples of questions, at most 240 of objects."""
    shutil.copytree(PAGE, folder / "page", ignore=shutil.ignore_patterns("index.html"))
    shutil.copy(PAGE / "index.html", folder / "index.html")
    world = World(folder, random.Random(7))
    write_questions(world, n)
    write_objects(world, min(n, 240))
    write_captions(world, min(n, 12))
    runs = [
        {"name": f"vqa_world__{name}", "model": f"models/{name}", "short": name, "identity": [["weights", "sha256 0123"], ["prompt", "answer en {question}"]],
         "resolution": 224, "precision": "bfloat16", "partial": [], "seconds": 75.0 + 1e4 * r, "samples_per_second": 12.3, "memory_bytes": 6.2e9 if r else None, "colour": r}
        for r, name in enumerate(("pt-224", "ft-224"))
    ]  # fmt: skip
    first = [{"text": "23 answers of pt-224 could not be read", "link": "/task/0/samples?state:0=invalid"},
             {"text": "detect_world: most AP is lost to missed objects", "link": "/task/1/samples?error:0=missed"}]  # fmt: skip
    trend = {"tasks": [{"name": "vqa_world", "points": [
        {"step": 500 * k, "value": 0.5 + 0.04 * k, "low": 0.46 + 0.04 * k, "high": 0.54 + 0.04 * k, "run": 1 if k == 5 else None, "cost_seconds": 12.0} for k in range(1, 6)]}]}  # fmt: skip
    report = {"version": 1, "title": title, "made": "2026-11-02 10:00 UTC", "command": "evalkit report runs/a runs/b", "evalkit": "0.9",
              "licence": ["pictures of detect_world: CC BY 4.0"], "redacted": False, "images": True, "runs": runs, "tasks": world.tasks,
              "look_first": first, "comparisons": compared(world), "trend": trend}  # fmt: skip
    script(folder / "data" / "report.js", "report", report)
    return folder / "index.html"


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), *map(int, sys.argv[2:])))
