"""A report's task of boxes and masks: classes, a matrix with background, kinds of errors."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from report_folder import Columns, World, answered, box, described, summary, target

CLASSES = ("person", "dog", "bicycle", "traffic light")
ERRORS = ("missed", "background", "wrong class", "badly placed")


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
    """Task 1. No sample is right or wrong as a whole: flips are by the quality of the boxes."""
    chance = world.chance
    sizes = [(640, 480) if i % 3 else (480, 640) for i in range(n)]
    targets, found, pairs, errors = [], [[], []], [[], []], [[], []]
    k, background = len(CLASSES) + 1, len(CLASSES)
    for i in range(n):
        wanted = [[*box(chance, *sizes[i]), chance.choice(CLASSES)] for _ in range(chance.randint(1, 4))]
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
                said.append([*box(chance, *sizes[i]), chance.choice(CLASSES), 0.41])
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
        columns.number(f"quality:{r}", np.round(best[r], 1))
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
            runs.append(
                answered(
                    text,
                    parsed=f"{len(boxes)} boxes",
                    boxes=boxes,
                    masks=masks,
                    invalid="" if boxes else "no box was read",
                    scores=[["mean_iou", best[r][i]]],
                    why=[
                        [
                            "best IoU of each target",
                            ", ".join(
                                f"{max((iou(b, p) for p in boxes), default=0):.2f}" for b in targets[i]
                            ),
                        ]
                    ],
                )
            )
        if i % 29 == 5:
            runs[1] = None
        masks = [{"path": _outline(b, 0.5), "label": b[4]} for b in targets[i]] if i % 2 else []
        return {
            "id": ids[i],
            "question": None,
            "prompt": "detect person ; dog ; bicycle ; traffic light\n",
            "group": "",
            "images": [{"src": src, "width": width, "height": height, "name": f"{ids[i]}.jpg"}],
            "target": target(boxes=targets[i], masks=masks, other=[["crowd", "no"]]),
            "runs": runs,
        }

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
        cells, opens = np.zeros((k, k), int), np.zeros((k, k), int)
        for one in pairs[r]:
            for c in one:
                cells[divmod(c, k)] += 1
            for c in set(one):
                opens[divmod(c, k)] += 1
        matrices.append(
            {
                "kind": "matrix",
                "title": "What was taken for what",
                "about": "Rows are targets, columns answers.",
                "run": r,
                "rows": [*CLASSES, "background"],
                "columns": [*CLASSES, "background"],
                "cells": cells.tolist(),
                "opens": opens.tolist(),
                "filters": f"pair:{r}",
            }
        )
    kinds = [
        {
            "label": name,
            "n": [sum(e >> b & 1 for e in errors[r]) for r in range(2)],
            "filter": [f"error:{r}={name}" for r in range(2)],
            "values": [
                {"value": sum(e >> b & 1 for e in errors[r]) / n / 3, "low": None, "high": None}
                for r in range(2)
            ],
        }
        for b, name in enumerate(ERRORS)
    ]
    recall = [x / 40 for x in range(41)]
    least = [round(1 - x, 3) for x in recall]
    curve = [
        {
            "name": "",
            "run": r,
            "points": [[x, max(0, 1 - x ** (3 + r) - 0.05), None, None] for x in recall],
            "filters": [f"iou:{r}={x}..&sort=iou:{r}:asc" for x in least],
            "n": [int((stored[r] >= np.float32(x)).sum()) for x in least],
        }
        for r in range(2)
    ]
    return [
        {
            "kind": "bars",
            "title": "Kinds of errors",
            "about": "How much AP each kind of error costs.",
            "of": "error",
            "unit": "ΔAP",
            "rows": kinds,
        },
        {
            "kind": "histogram",
            "title": "IoU",
            "about": "How well the best box of each target lies.",
            "column": "iou",
            "edges": edges,
            "series": [
                {"run": r, "counts": np.histogram(stored[r], np.asarray(edges, np.float32))[0].tolist()}
                for r in range(2)
            ],
            "digits": 2,
            "scale": 1,
        },
        {
            "kind": "curve",
            "title": "Precision and recall",
            "about": "At IoU 0.5, over all classes.",
            "x": {"label": "recall"},
            "y": {"label": "precision"},
            "series": curve,
            "diagonal": False,
        },
        *matrices,
    ]
