"""A report's tasks of texts: questions about pictures, some answers an attack; captions of pairs."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from report_folder import Columns, World, answered, box, described, interval, summary, target

MEBI = 1 << 20
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
        world.picture(640, 480, k, [box(chance, 640, 480) for _ in range(4)]) for k in range(min(n, 40))
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
                why=[
                    ["annotators who say the same", f"{round(q.scores[r][i] * 3)} of 10"],
                    ["after normalisation", q.answers[r][i][:80].lower()],
                ],
            )
            for r in range(2)
        ]
        image = {"src": pictures[i % len(pictures)], "width": 640, "height": 480, "name": f"picture_{i}.jpg"}
        wanted = target([q.targets[i]] * 7 + ["something else"] * 3)
        return {
            "id": ids[i],
            "question": question,
            "prompt": f"answer en {question}\n",
            "group": q.groups[i],
            "images": [image],
            "target": wanted,
            "runs": runs,
        }

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
    sure = q.margins.astype(np.float32)
    inside = [[int(((m >= np.float32(a)) & (m < np.float32(b))).sum()) for a, b in bins] for m in sure]
    return [
        {
            "kind": "histogram",
            "title": "Scores",
            "about": "How often each score was given. Open a bar to see its samples.",
            "column": "score",
            "edges": edges,
            "series": series,
            "scale": 100,
            "digits": 0,
        },
        {
            "kind": "bars",
            "title": "Question types",
            "about": "Where each run is strong or weak.",
            "of": "question type",
            "unit": "score",
            "rows": rows,
        },
        {
            "kind": "curve",
            "title": "Calibration",
            "about": "On the diagonal, an answer is right as often as the run is sure.",
            "x": {"label": "confidence"},
            "y": {"label": "right"},
            "diagonal": True,
            "series": [
                {
                    "name": "",
                    "run": r,
                    "points": [
                        [x, y - 0.05 * r, low - 0.05 * r, high - 0.05 * r] for x, y, low, high in points
                    ],
                    "filters": [f"margin:{r}={a}..{b}" for a, b in bins],
                    "n": inside[r],
                }
                for r in range(2)
            ],
        },
        {
            "kind": "table",
            "title": "Frequent answers",
            "about": "What was said most.",
            "head": ["answer", "times"],
            "rows": [["yes", 31], ["no", 27], ["<b>bold</b>\u202e", 2]],
            "filters": ["group=yes/no", "group=yes/no", None],
        },
    ]


def write_captions(world: World, n: int) -> None:
    """Task 2: captions of picture pairs; the second run only, no score by sample, fields side by side."""
    ids = [f"cap/{i}\u202e" if i == 1 else f"cap/{i}" for i in range(n)]
    columns = Columns(n)
    columns.text("id", ids)
    columns.number("images", [2] * n)
    columns.number("length:1", [20 + i % 9 for i in range(n)])
    src = [world.picture(320, 240, 5000 + k) for k in range(4)]

    def record(i: int) -> dict[str, Any]:
        fields = [["menu.price", "12", "12", True], ["menu.name", "Tea <i>hot</i>", "Tee", False]]
        images = [
            {"src": src[(i + k) % 4], "width": 320, "height": 240, "name": f"{i}_{k}.png"} for k in range(2)
        ]
        one = answered(
            f"two pictures of number {i}", fields=fields, why=[["3-grams found", "two pictures of"]]
        )
        return {
            "id": ids[i],
            "question": None,
            "prompt": "caption en\n",
            "group": "",
            "images": images,
            "target": target([f"pictures numbered {i}", "two of them"]),
            "runs": [None, one],
        }

    page = described("caption_world", "cider", "caption en\n")
    short = {"label": "short answers", "n": n, "filter": "length:1=..24", "values": [None, {"value": 0.4}]}
    page["sections"] = [
        {"kind": "bars", "title": "Lengths", "about": "By length.", "unit": "score", "rows": [short]}
    ]
    world.write_task(page, columns, record, [f"caption {i}" for i in range(n)])
    scores = summary(
        "caption_world", "Captions of pairs", "cider", np.full((1, n), 1.137), 100, published=None
    )
    scores["scores"].insert(0, None)
    world.tasks.append(scores)
