"""Writes held-out scenes as a benchmark in the official formats: COCO, VQAv2, TextVQA, REFER.

Deterministic to the byte, except for the compression of PNG files, which depends on the installed library.
"""

from __future__ import annotations

import json
import pickle
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evalkit.demo import questions, world

Record = dict[str, Any]

NAME = "%012d.png"
INFO: Record = {
    "description": "Shapes world, generated",
    "url": "",
    "version": "1.0",
    "year": 2026,
    "contributor": "evalkit",
    "date_created": "2026/01/01",
}
LICENSE: Record = {"url": "", "id": 1, "name": "No rights reserved"}
CATEGORIES: list[Record] = [
    {"supercategory": "shape", "id": i, "name": name} for i, name in enumerate(world.SHAPES, 1)
]
MAX_SCENES = 10_000


def write(root: Path, scenes: int = 300, seed: int = 0, size: int = world.SIZE) -> Path:
    """Writes a benchmark of `scenes` scenes that training has not used under `root`; returns `root`.

    Every seed has its own scenes. At another `size` they are the same scenes, drawn at that size.
    Raises ValueError for numbers that would give scenes that training may have used.
    """
    if not (0 < scenes <= MAX_SCENES and 0 <= seed < 40):
        raise ValueError(f"scenes must be 1 to {MAX_SCENES} and seed 0 to 39: {scenes}, {seed}")
    drawn = [world.make(MAX_SCENES * seed + i) for i in range(scenes)]
    for folder in ("images", "coco", "vqav2", "textvqa", "refcoco"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    images = []
    for number, scene in enumerate(drawn, 1):
        picture = Image.fromarray(world.render(scene, size))
        picture.save(root / "images" / (NAME % number), compress_level=6)
        images.append(
            {
                "license": 1,
                "file_name": NAME % number,
                "coco_url": "",
                "height": size,
                "width": size,
                "date_captured": "",
                "flickr_url": "",
                "id": number,
            }
        )
    _write_coco(root, drawn, images, size)
    _write_vqav2(root, drawn)
    _write_textvqa(root, drawn, size)
    _write_refs(root, drawn)
    return root


def _rng(scene: world.Scene, purpose: str) -> random.Random:
    """A random stream for each scene and purpose, so that changes to one don't change another."""
    return random.Random(f"{purpose} {scene.seed}")


def _dump(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _things(drawn: list[world.Scene]) -> list[tuple[int, int, world.Scene, world.Thing]]:
    """(annotation id, image id, scene, thing) of every thing; both ids count from 1."""
    flat = [(i, s, t) for i, s in enumerate(drawn, 1) for t in s.things]
    return [(number, *row) for number, row in enumerate(flat, 1)]


def _write_coco(root: Path, drawn: list[world.Scene], images: list[Record], size: int) -> None:
    captions: list[Record] = []
    for number, scene in enumerate(drawn, 1):
        for text in questions.references(scene, _rng(scene, "captions")):
            captions.append({"image_id": number, "id": len(captions) + 1, "caption": text})
    head = {"info": INFO, "licenses": [LICENSE], "images": images}
    _dump(root / "coco/captions_demo.json", {**head, "type": "captions", "annotations": captions})
    boxes = [annotation(number, image, thing, size) for number, image, _, thing in _things(drawn)]
    instances = {**head, "annotations": boxes, "categories": CATEGORIES}
    _dump(root / "coco/instances_demo.json", instances)
    _dump(root / "refcoco/instances.json", instances)


def annotation(number: int, image: int, thing: world.Thing, size: int) -> Record:
    """A COCO instance with polygons, or for rings, whose hole needs them, run lengths (compressed where
    the id is even)."""
    x0, y0, x1, y1 = world.box(thing, size)
    mask = world.mask(thing, size)
    segmentation: Any
    if thing.shape == "ring":
        runs = run_lengths(mask)
        counts = runs if number % 2 else compress(runs)
        segmentation = {"counts": counts, "size": [size, size]}
    else:
        corners = world.outline(thing, size)
        segmentation = [[round(v, 2) for corner in corners for v in corner]]
    return {
        "segmentation": segmentation,
        "area": float(mask.sum()),
        "iscrowd": 0,
        "image_id": image,
        "bbox": [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)],
        "category_id": world.SHAPES.index(thing.shape) + 1,
        "id": number,
    }


def run_lengths(mask: world.Bools) -> list[int]:
    """COCO's run lengths of a mask: column by column, zeros first."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else list(runs)


def compress(runs: list[int]) -> str:
    """COCO's string of run lengths: differences from the last but one, five bits per character."""
    text = []
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != -1 if bits & 0x10 else value != 0
            text.append(chr((bits | 0x20 if more else bits) + 48))
    return "".join(text)


def people(question: questions.Question, rng: random.Random) -> list[str]:
    """Ten people's answers: most are right; for one question in seven they are less certain."""
    wrong = 0.2 if rng.random() < 0.15 else 0.03
    return [
        question.doubts[questions.pick(rng, len(question.doubts))]
        if rng.random() < wrong
        else question.answer
        for _ in range(10)
    ]


def _write_vqav2(root: Path, drawn: list[world.Scene]) -> None:
    head: Record = {
        "info": INFO,
        "license": {"url": "", "name": LICENSE["name"]},
        "data_type": "shapes",
        "data_subtype": "test",
    }
    question_records: list[Record] = []
    annotations: list[Record] = []
    for image, scene in enumerate(drawn, 1):
        rng = _rng(scene, "vqa")
        for i, q in enumerate(questions.vqa(scene, rng)):
            given, number = people(q, rng), image * 1000 + i
            sure = ["yes" if a == q.answer else "maybe" for a in given]
            question_records.append({"image_id": image, "question": q.text, "question_id": number})
            annotations.append(
                {
                    "question_type": q.question_type,
                    "multiple_choice_answer": Counter(given).most_common(1)[0][0],
                    "answers": [
                        {"answer": a, "answer_confidence": s, "answer_id": n}
                        for n, (a, s) in enumerate(zip(given, sure, strict=True), 1)
                    ],
                    "image_id": image,
                    "answer_type": q.answer_type,
                    "question_id": number,
                }
            )
    _dump(
        root / "vqav2/v2_OpenEnded_shapes_demo_questions.json",
        {**head, "task_type": "Open-Ended", "questions": question_records},
    )
    _dump(root / "vqav2/v2_shapes_demo_annotations.json", {**head, "annotations": annotations})


def _write_textvqa(root: Path, drawn: list[world.Scene], size: int) -> None:
    rows: list[Record] = []
    for image, scene in enumerate(drawn, 1):
        rng = _rng(scene, "text")
        for q in questions.reading(scene, rng):
            rows.append(
                {
                    "question": q.text,
                    "image_id": f"{image:012d}",
                    "image_classes": sorted({t.shape for t in scene.things}),
                    "flickr_original_url": "",
                    "flickr_300k_url": "",
                    "image_width": size,
                    "image_height": size,
                    "answers": people(q, rng),
                    "question_tokens": q.text.rstrip("?").split(),
                    "question_id": len(rows) + 1,
                    "set_name": "test",
                }
            )
    _dump(
        root / "textvqa/TextVQA_demo.json",
        {
            "dataset_type": "demo",
            "dataset_name": "textvqa",
            "dataset_version": "shapes 1.0",
            "data": rows,
        },
    )


def _write_refs(root: Path, drawn: list[world.Scene]) -> None:
    refs: list[Record] = []
    sentence_id = 0
    chosen = {}
    for image, scene in enumerate(drawn, 1):
        order = list(range(len(scene.things)))
        _rng(scene, "refs").shuffle(order)
        chosen[image] = set(order[:2])
    first: dict[int, int] = {}
    for number, image, scene, thing in _things(drawn):
        first.setdefault(image, number)
        if number - first[image] not in chosen[image]:
            continue
        rng = _rng(scene, f"sentences {number - first[image]}")
        texts = questions.expressions(scene, thing)
        rng.shuffle(texts)
        sentences = []
        for text in texts[: 2 + questions.pick(rng, 2)]:
            sentences.append({"tokens": text.split(), "raw": text, "sent_id": sentence_id, "sent": text})
            sentence_id += 1
        refs.append(
            {
                "sent_ids": [s["sent_id"] for s in sentences],
                "file_name": f"{image:012d}_{number}.png",
                "ann_id": number,
                "ref_id": len(refs),
                "image_id": image,
                "split": "test",
                "sentences": sentences,
                "category_id": world.SHAPES.index(thing.shape) + 1,
            }
        )
    with (root / "refcoco/refs(demo).p").open("wb") as file:
        pickler = pickle.Pickler(file, protocol=2)
        pickler.fast = True  # no memo: with one the bytes depend on which strings are the same object
        pickler.dump(refs)
