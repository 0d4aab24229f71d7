"""Scoring against the reference packages: scores must be equal; CPU time, child processes included, in turns.

    python -m benchmarks.metrics [--json FILE] [--only NAME ...] [--rounds 5] [--quick]

Workloads are generated and as large as real datasets: 40,000 VQA answers, captions of 5,000 images,
10,000 masks at 640×480, detections on 5,000 images. Both sides begin with cold caches in every round.
pycocoevalcap and pycocotools are called in the usual way; scorers that are in no package are restated in
`benchmarks/references.py`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import resource
import shutil
import statistics
import string
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
from pycocotools import mask as cocomask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks import references, table
from benchmarks.table import Row
from evalkit import demo, registry
from evalkit.geometry import mask_decoder
from evalkit.text import ngrams, ptb
from evalkit.text import vqa as vqa_text
from evalkit.types import Box, Mask, Prediction

os.environ.setdefault("OMP_NUM_THREADS", "1")

HEIGHT, WIDTH = SIZE = (480, 640)
SQUARE = 512  # a power of two, so that pixels divided by it and multiplied again are the same floats
Side = Callable[[], Any]


def race(
    name: str,
    ours: Side,
    theirs: dict[str, tuple[Side, float, float]],
    rounds: int,
    forget: Side = lambda: None,
) -> list[Row]:
    """One row per rival, each given as (function, lowest ratio accepted, how far scores may differ)."""
    times: dict[str, list[float]] = {key: [] for key in ("", *theirs)}
    rows = []
    for _ in range(rounds):
        forget()
        seconds, mine = _timed(ours)
        times[""].append(seconds)
        for key, (rival, _, tolerance) in theirs.items():
            seconds, found = _timed(rival)
            times[key].append(seconds)
            difference = float(np.abs(np.asarray(mine, float) - np.asarray(found, float)).max())
            assert difference <= tolerance, f"{name}: {key}: scores differ by {difference}"
    for key, (_, least, tolerance) in theirs.items():
        ratios = [b / a for a, b in zip(times[""], times[key], strict=True)]
        each = f"{statistics.median(times['']):.2f} against {statistics.median(times[key]):.2f} s"
        spread = min(ratios), max(ratios)
        same = f"all within {tolerance:g}"
        rows.append(Row(name, key, round(statistics.median(ratios), 3), least, spread, same, each))
    return rows


def _timed(run: Side) -> tuple[float, Any]:
    begun = _spent()
    found = run()
    return _spent() - begun, found


def _spent() -> float:
    """CPU seconds of this process and its finished children (the tokenizer's Java)."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def _words(rng: np.random.Generator, count: int) -> list[str]:
    """Distinct words; drawn with `_zipf`, the first are the frequent ones."""
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(rng.choice([*string.ascii_lowercase], rng.integers(4, 10)))] = None
    return list(found)


def _zipf(rng: np.random.Generator, words: int, size: Any) -> Any:
    return np.minimum(rng.zipf(1.3, size) - 1, words - 1)


# --- VQA ------------------------------------------------------------------------------------------------


def vqa(rounds: int, quick: bool) -> list[Row]:
    """Ten human answers per question: two questions in five ask for yes or no, the others agree in part."""
    rng, count = np.random.default_rng(1), 2000 if quick else 40_000
    words = _words(rng, 8000)
    odd = ["the {}", "{}, {}", "{} and {}", "{}?", "a {}", "no. {}", "1,{}", "dont {}", "two {}"]
    targets, answers = [], []
    for _ in range(count):
        first, second = (words[i] for i in _zipf(rng, len(words), 2))
        if rng.random() < 0.4:
            first, second = "yes", "no"
        third = odd[rng.integers(len(odd))].format(first, second)
        drawn = rng.choice(3, 10, p=[0.7, 0.2, 0.1])
        targets.append(tuple((first, second, third)[i] for i in drawn))
        answers.append((first, second, third)[rng.choice(3, p=[0.7, 0.2, 0.1])])
    metric = registry.make("metrics", "vqa_accuracy(variant='official')")

    def ours() -> Any:
        return metric.rows(answers, targets)[:, 0]

    def official() -> Any:
        return references.OfficialVqa().score(answers, targets)

    name = f"{count:,} VQA answers"
    return race(
        name, ours, {"the official script": (official, 4.0, 1e-12)}, rounds, vqa_text.official.cache_clear
    )


# --- captions -------------------------------------------------------------------------------------------


def caption_metrics(rounds: int, quick: bool) -> list[Row]:
    """Five references and one answer per image, about eleven words each, similar within an image."""
    rng, count = np.random.default_rng(2), 250 if quick else 5000
    words = _words(rng, 12_000)
    small = ["a", "the", "of", "on", "in", "with", "and", "is", "sitting", "near", "man", "it's", "people's"]

    def caption(topic: Any) -> str:
        picked = [
            small[rng.integers(len(small))] if rng.random() < 0.5 else words[topic[rng.integers(len(topic))]]
            for _ in range(max(5, round(rng.normal(10.5, 2.5))))
        ]
        picked.append(
            words[topic[0]]
        )  # a last word "a." would be joined with the next line, which is not measured here
        if rng.random() < 0.1:
            picked[2] += ","
        text = " ".join(picked).capitalize()
        return text + "." * int(rng.random() < 0.7)

    topics = [_zipf(rng, len(words), 12) for _ in range(count)]
    targets = [tuple(caption(topic) for _ in range(5)) for topic in topics]
    answers = [caption(topic) for topic in topics]
    metrics = [registry.make("metrics", f"{n}(ptb='caption')") for n in ("bleu", "rouge_l", "cider")]

    def ours() -> list[float]:
        rows = [metric.rows(answers, targets) for metric in metrics]
        bleu = list(metrics[0].details(rows[0]).values())
        return [*bleu, *(m.reduce(r) for m, r in zip(metrics[1:], rows[1:], strict=True))]

    def pycocoevalcap() -> list[float]:
        tokenizer = PTBTokenizer()
        res = tokenizer.tokenize({i: [{"caption": text}] for i, text in enumerate(answers)})
        gts = tokenizer.tokenize({i: [{"caption": text} for text in some] for i, some in enumerate(targets)})
        return [
            *Bleu(4).compute_score(gts, res, verbose=0)[0],
            *(s().compute_score(gts, res)[0] for s in (Rouge, Cider)),
        ]

    def forget() -> None:
        ptb.caption.cache_clear()
        ngrams.grams.cache_clear()

    name = f"{count:,} × 5 captions: tokenizer, BLEU, ROUGE-L, CIDEr"
    rivals = {"pycocoevalcap": (pycocoevalcap, 3.0, 1e-9)} if shutil.which("java") else {}
    return race(name, ours, rivals, rounds, forget)


# --- masks ----------------------------------------------------------------------------------------------


def mask_metrics(rounds: int, quick: bool) -> list[Row]:
    """Masks of the embedded decoder, all different, in boxes of many sizes."""
    rng, count = np.random.default_rng(3), 300 if quick else 10_000
    path = demo.mask_decoder()
    weights = mask_decoder._weights(str(path), path.read_bytes())
    corners = np.sort(rng.integers(0, 1024, (count, 2, 2)), axis=1)  # (y0, x0), (y1, x1)
    corners[:, 1] = np.maximum(corners[:, 1], corners[:, 0] + 1)
    tokens = [(*c.ravel().tolist(), *rng.integers(0, 128, 16).tolist()) for c in corners]
    texts = ["".join(f"<loc{v:04}>" for v in t[:4]) + "".join(f"<seg{v:03}>" for v in t[4:]) for t in tokens]
    pool = _blobs(rng, 64)
    coded = [cocomask.encode(np.asfortranarray(blob.astype(np.uint8))) for blob in pool]
    truth = [pool[i % 64] for i in range(count)]
    targets = [{"size": SIZE, "segmentation": coded[i % 64]} for i in range(count)]
    predictions = [Prediction(str(i), "", text, sizes=(SIZE,)) for i, text in enumerate(texts)]
    parser = registry.make("parsers", f"masks(decoder={str(path)!r})")
    metric = registry.make("metrics", "mask_iou")

    def ours() -> Any:
        return metric.rows(parser.answers(predictions, [SIZE] * count), targets)[:, 0]

    def reference(batch: int) -> Side:
        return functools.partial(references.SegmentationMasks(weights, batch).score, tokens, truth)

    rivals = {
        "big_vision's steps in torch, a mask at a time": (reference(1), 1 / 0.7, 2e-3),
        "the same, 64 decoded at a time": (reference(64), 0.0, 2e-3),
    }
    name = f"{count:,} masks decoded, pasted and scored at {WIDTH}×{HEIGHT}"
    return race(name, ours, rivals, rounds, mask_decoder._load.cache_clear)


def _blobs(rng: np.random.Generator, count: int) -> list[Any]:
    """Dense masks: a few ellipses each."""
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    found = []
    for _ in range(count):
        blob = np.zeros(SIZE, bool)
        for cy, cx, ry, rx in rng.uniform((60, 80, 20, 20), (420, 560, 150, 200), (3, 4)):
            blob |= ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
        found.append(blob)
    return found


# --- average precision ----------------------------------------------------------------------------------


def average_precision(rounds: int, quick: bool) -> list[Row]:
    """About seven objects per image in 80 categories, and seven detections, most of them near an object."""
    return [row for region in ("boxes", "masks") for row in _precision(region, rounds, quick)]


def _precision(region: str, rounds: int, quick: bool) -> list[Row]:
    truth, detections = _detections(region, 200 if quick else 5000)
    answers, targets = _as_answers(truth, detections)
    metric = registry.make("metrics", f"coco_ap(rank='logprob', region='{region}')")
    # loadRes treats a detection with a box as a box, whatever else it has
    kind, left_out = ("bbox", "segmentation") if region == "boxes" else ("segm", "bbox")

    def ours() -> list[float]:
        rows = metric.rows(answers, targets)
        found = {"AP": metric.reduce(rows), **metric.details(rows)}
        order = "AP AP50 AP75 AP_small AP_medium AP_large AR1 AR10 AR100 AR_small AR_medium AR_large"
        return [found[key] for key in order.split()]

    def pycocotools() -> list[float]:
        with contextlib.redirect_stdout(io.StringIO()):
            held = COCO()
            held.dataset = truth
            held.createIndex()
            given = [{k: v for k, v in d.items() if k != left_out} for d in detections]
            judged = COCOeval(held, held.loadRes(given), kind)
            judged.evaluate()
            judged.accumulate()
            judged.summarize()
        return [float(v) for v in judged.stats]

    name = f"COCO AP of {region}, {len(targets):,} images, {len(detections):,} detections"
    return race(name, ours, {"pycocotools": (pycocotools, 3.0, 1e-9)}, rounds)


def _detections(region: str, images: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth and detections in the form of COCO's files."""
    rng = np.random.default_rng(4)
    objects: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for image in range(images):
        for _ in range(rng.poisson(7.2)):
            box, category = _box(rng), int(rng.integers(1, 81))
            thing = {"image_id": image, "category_id": category, **_shape(box, region)}
            area = 0.8 * box[2] * box[3]
            objects.append(
                {"id": len(objects) + 1, "area": area, "iscrowd": int(rng.random() < 0.01), **thing}
            )
            if rng.random() < 0.7:
                detections.append({**thing, **_shape(_moved(rng, *box), region)})
        for _ in range(rng.poisson(2.0)):
            category = int(rng.integers(1, 81))
            detections.append({"image_id": image, "category_id": category, **_shape(_box(rng), region)})
    for each in detections:
        each["score"] = round(float(rng.random()), 3)
    truth = {
        "images": [{"id": i, "height": SQUARE, "width": SQUARE} for i in range(images)],
        "categories": [{"id": i, "name": f"category {i:02}"} for i in range(1, 81)],
        "annotations": objects,
    }
    return truth, detections


def _shape(box: tuple[int, ...], region: str) -> dict[str, Any]:
    """A box, and for masks the ellipse inside it as run lengths."""
    shape: dict[str, Any] = {"bbox": list(box)}
    if region == "masks":
        x, y, w, h = box
        turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        points = np.stack([x + w / 2 * (1 + np.cos(turn)), y + h / 2 * (1 + np.sin(turn))], axis=1)
        shape["segmentation"] = cocomask.frPyObjects([points.ravel().tolist()], SQUARE, SQUARE)[0]
    return shape


def _as_answers(truth: dict[str, Any], detections: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """The same as a parser's answers and a format's targets."""
    names = {each["id"]: each["name"] for each in truth["categories"]}
    size = (SQUARE, SQUARE)
    answers: list[list[Any]] = [[] for _ in truth["images"]]
    targets: list[dict[str, Any]] = [
        {"size": size, "image_id": each["id"], "categories": tuple(names.values()), "objects": []}
        for each in truth["images"]
    ]
    for each in truth["annotations"]:
        kept = {k: each[k] for k in ("area", "iscrowd", "segmentation") if k in each}
        thing = {"category": names[each["category_id"]], "box": tuple(each["bbox"]), **kept}
        targets[each["image_id"]]["objects"].append(thing)
    for each in detections:
        x, y, w, h = (v / SQUARE for v in each["bbox"])
        label = names[each["category_id"]]
        answer: Any = Box(y, x, y + h, x + w, label, each["score"])
        if "segmentation" in each:
            answer = Mask(size, each["segmentation"]["counts"].decode(), answer, label)
        answers[each["image_id"]].append(answer)
    return answers, targets


def _box(rng: np.random.Generator) -> tuple[int, ...]:
    """x, y, width, height in whole pixels."""
    w, h = np.exp(rng.uniform(np.log(12), np.log(300), 2))
    x, y = rng.uniform(0, SQUARE - w), rng.uniform(0, SQUARE - h)
    return tuple(round(float(v)) for v in (x, y, w, h))


def _moved(rng: np.random.Generator, x: int, y: int, w: int, h: int) -> tuple[int, ...]:
    by = rng.normal(0, 0.08, 4)
    corner = max(0, round(x + by[0] * w)), max(0, round(y + by[1] * h))
    return *corner, max(1, round(w * (1 + by[2]))), max(1, round(h * (1 + by[3])))


ROWS = {"vqa": vqa, "captions": caption_metrics, "masks": mask_metrics, "coco_ap": average_precision}


if __name__ == "__main__":
    sys.exit(table.run(__doc__, ROWS))
