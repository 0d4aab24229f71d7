"""Makes measures.json: random detections, JSON, labels and texts through the packages that publish the
measures.

pip install tidecv==1.0.1 supervision==0.31.2 scikit-learn==1.9.1 jiwer==4.0.0 anls_star==1.0.1 zss==1.2.0
python tests/golden/make_measures.py DONUT/util.py [PARITY/coco_ap.json]

DONUT/util.py is donut/util.py of clovaai/donut @ 11bc663f. With the recorded cases of pycocotools, tidecv's
figures of these are added by the cases' names.
"""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import zss
from anls_star import anls_score
from pycocotools import mask
from rapidfuzz.distance import Levenshtein
from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer
from supervision import Detections
from supervision.metrics.detection import ConfusionMatrix
from tidecv import TIDE, Data

HERE = Path(__file__).parent
WORDS = [
    "invoice",
    "total",
    "12.50",
    "cake",
    "juice",
    "Ann",
    "2024-03-01",
    "red",
    "bird",
    "the",
    "of",
    "a",
    "déjà",
    "vu",
    "42",
]


def donut(file: str) -> Any:
    """The class that measures, without what trains."""
    text = Path(file).read_text(encoding="utf-8")
    body = text[text.index("class JSONParseEvaluator") :]
    known = {"zss": zss, "Node": zss.Node, "edit_distance": Levenshtein.distance}
    exec("from typing import *\n" + body, known)
    return known["JSONParseEvaluator"]()


def tree(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.random()
    if depth > 2 or kind < 0.3:
        return " ".join(rng.choices(WORDS, k=rng.randint(1, 3)))
    if kind < 0.45:
        return [" ".join(rng.choices(WORDS, k=rng.randint(1, 2))) for _ in range(rng.randint(1, 3))]
    if kind < 0.65:
        return [fields(rng, depth + 1) for _ in range(rng.randint(1, 3))]
    return fields(rng, depth + 1)


def fields(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    return {
        key: tree(rng, depth)
        for key in rng.sample(["name", "n", "total", "items", "date"], rng.randint(1, 4))
    }


def damaged(rng: random.Random, value: Any) -> Any:
    """A value as a model might give it back."""
    if isinstance(value, dict):
        kept = [k for k in value if rng.random() > 0.15]
        more = {"extra": rng.choice(["", None, "x"])} if rng.random() < 0.1 else {}
        return {k: damaged(rng, value[k]) for k in kept} | more
    if isinstance(value, list):
        items = [damaged(rng, item) for item in value if rng.random() > 0.15]
        rng.shuffle(items)
        return items
    text = list(value)
    for _ in range(rng.choice([0, 0, 0, 1, 4])):
        text[rng.randrange(len(text))] = rng.choice("xyz ")
    return "".join(text)


def json_cases(evaluator: Any) -> list[dict[str, Any]]:
    rng, cases = random.Random(13), []
    for _ in range(150):
        wanted = fields(rng)
        given = damaged(rng, wanted) if rng.random() < 0.9 else fields(rng)
        texts = json.dumps(given), json.dumps(wanted)
        cases.append(
            {
                "given": texts[0],
                "wanted": texts[1],
                "anls_star": anls_score(wanted, given),
                "ted": float(evaluator.cal_acc(given, wanted)),
                "flat_f1": float(evaluator.cal_f1([given], [wanted])),
            }
        )
    return cases


def texts() -> dict[str, Any]:
    rng = random.Random(5)
    wanted = [" ".join(rng.choices(WORDS, k=rng.randint(1, 8))) for _ in range(60)]
    given = [damaged(rng, text) if rng.random() < 0.8 else " " + text + "  a" for text in wanted]
    return {
        "given": given,
        "wanted": wanted,
        "cer": jiwer.cer(wanted, given),
        "wer": jiwer.wer(wanted, given),
    }


def label_sets() -> dict[str, Any]:
    rng, names = random.Random(3), ["cat", "dog", "bird", "red bird", "cow"]
    wanted = [rng.sample(names, rng.randint(0, 3)) for _ in range(80)]
    given = [
        [n for n in w if rng.random() < 0.8] + rng.sample([*names, "owl"], rng.randint(0, 1)) for w in wanted
    ]
    coded = MultiLabelBinarizer().fit([*wanted, *given])
    truth, answer = coded.transform(wanted), coded.transform(given)
    scores = {
        average: float(
            f1_score(truth, answer, average=average, zero_division=1.0 if average == "samples" else 0.0)
        )
        for average in ("micro", "macro", "samples")
    }
    each = f1_score(truth, answer, average=None, zero_division=0.0)
    return {
        "given": given,
        "wanted": wanted,
        **scores,
        "each": dict(zip(coded.classes_.tolist(), each.tolist(), strict=True)),
    }


def detections(seed: int, images: int = 40) -> list[dict[str, Any]]:
    """Images with objects and scored detections of four classes, whole pixels, as x, y, w, h."""
    rng, found = random.Random(seed), []
    for image in range(images):
        objects = [
            {
                "class": rng.randrange(3),
                "box": [rng.randrange(300), rng.randrange(300), rng.randint(20, 200), rng.randint(20, 200)],
                "crowd": int(rng.random() < 0.08),
            }
            for _ in range(rng.choice([0, 1, 2, 4, 7]))
        ]  # fmt: skip
        boxes = []
        for each in objects:
            for _ in range(rng.choice([0, 1, 1, 1, 2])):
                jitter = rng.choice([3, 15, 40])
                box = [max(1, v + rng.randint(-jitter, jitter)) for v in each["box"]]
                boxes.append({"class": each["class"] if rng.random() < 0.8 else rng.randrange(4), "box": box})
        for _ in range(rng.choice([0, 0, 1, 3])):
            boxes.append({"class": rng.randrange(4), "box": [rng.randrange(400), rng.randrange(400), 30, 30]})
        found.append(
            {"image": image, "objects": objects, "boxes": [b | {"score": rng.random()} for b in boxes]}
        )
    return found


def tide_of(images: list[dict[str, Any]], mode: str = TIDE.BOX, key: str = "box") -> dict[str, Any]:
    truth, given = Data("truth", max_dets=100), Data("given")
    for image in images:
        truth.add_image(image["image"], str(image["image"]))
        for each in image["objects"]:
            add = truth.add_ignore_region if each["crowd"] else truth.add_ground_truth
            add(image["image"], each["class"], **{key: each["box"]})
        for each in image["boxes"]:
            given.add_detection(image["image"], each["class"], each["score"], **{key: each["box"]})
    run = TIDE(mode=mode).evaluate(truth, given)
    main = {kind.short_name: gain / 100 for kind, gain in run.fix_main_errors().items()}
    counts = {kind.short_name: n for kind, n in run.count_errors().items()}
    special = {kind.short_name: gain / 100 for kind, gain in run.fix_special_errors().items()}
    return {"AP": run.ap / 100, "gains": main | special, "counts": counts}


def confusion(images: list[dict[str, Any]]) -> list[list[int]]:
    """supervision's matrix without crowds: a row a true class, the last row and column the background."""

    def made(things: list[dict[str, Any]]) -> Detections:
        boxes = np.array([t["box"] for t in things], dtype=float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return Detections(
            xyxy=boxes,
            class_id=np.array([t["class"] for t in things], dtype=int),
            confidence=np.ones(len(things)),
        )

    matrix = ConfusionMatrix.from_detections(
        predictions=[made(image["boxes"]) for image in images],
        targets=[made([o for o in image["objects"] if not o["crowd"]]) for image in images],
        classes=["a", "b", "c", "d"], conf_threshold=0.0, iou_threshold=0.5,
    )  # fmt: skip
    return matrix.matrix.astype(int).tolist()


def recorded(file: str) -> dict[str, Any]:
    """tidecv's figures of the recorded cases of COCO's results, by the case's name. Equal scores are set
    apart by their places, since tidecv orders them in another way when it mends."""
    found = {}
    for case in json.loads(Path(file).read_text())["cases"]:
        inputs = case["inputs"]
        if "ground_truth" not in inputs:
            continue
        truth, masks = inputs["ground_truth"], inputs["iou_type"] == "segm"
        key = "segmentation" if masks else "bbox"
        by_image = {i["id"]: i | {"image": i["id"], "objects": [], "boxes": []} for i in truth["images"]}
        for a in truth["annotations"]:
            image = by_image[a["image_id"]]
            shape = rle(a[key], image["height"], image["width"]) if masks else a[key]
            image["objects"].append({"class": a["category_id"], "box": shape, "crowd": a.get("iscrowd", 0)})
        for k, d in enumerate(inputs["detections"]):
            score = d["score"] - 1e-9 * k
            by_image[d["image_id"]]["boxes"].append(
                {"class": d["category_id"], "box": d[key], "score": score}
            )
        mode = (TIDE.MASK, "mask") if masks else (TIDE.BOX, "box")
        found[case["id"]] = tide_of(list(by_image.values()), *mode)
    return found


def rle(segmentation: Any, height: int, width: int) -> Any:
    if isinstance(segmentation, list):
        return mask.merge(mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return mask.frPyObjects(segmentation, height, width)
    return segmentation


def main() -> None:
    images = [detections(seed) for seed in (1, 2, 3)]
    plain = [[i | {"objects": [o for o in i["objects"] if not o["crowd"]]} for i in some] for some in images]
    content = {
        "tide": [{"images": some, **tide_of(some)} for some in images],
        "confusion": [confusion(some) for some in plain],
        "json": json_cases(donut(sys.argv[1])),
        "texts": texts(),
        "labels": label_sets(),
        "recorded": recorded(sys.argv[2]) if len(sys.argv) > 2 else {},
    }
    text = json.dumps(content, ensure_ascii=False)
    (HERE / "measures.json").write_text(
        re.sub(r"(\]|\}), (\{\"(image|given|class)\")", r"\1,\n\2", text) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
