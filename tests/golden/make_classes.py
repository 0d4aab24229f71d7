"""Makes classes.json: figures of classes by the packages that publish them, from the detections and the label
sets of measures.json.

pip install supervision==0.31.2 scikit-learn==1.9.1 pycocotools==2.0.11
python tests/golden/make_classes.py
"""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import precision_recall_fscore_support
from sklearn.preprocessing import MultiLabelBinarizer
from supervision import Detections
from supervision.metrics import F1Score, Precision, Recall
from supervision.metrics.core import AveragingMethod

HERE = Path(__file__).parent
NAMES = ("a", "b", "c", "d")
Images = list[dict[str, Any]]


def coco(images: Images, mode: str) -> dict[str, dict[str, float]]:
    """AP, AP50 and AR100 of each class as COCOeval counts them; masks are half of each box, a triangle."""
    objects, given = [], []
    for image in images:
        for o in image["objects"]:
            own = {"id": len(objects) + 1, "area": o["box"][2] * o["box"][3], "iscrowd": o["crowd"]}
            objects.append(annotation(image["image"], o) | own)
        for b in image["boxes"]:
            own = annotation(image["image"], b)
            shape = mask.merge(mask.frPyObjects(own["segmentation"], 512, 512))
            given.append(own | {"score": b["score"], "segmentation": shape})
    held = COCO()
    held.dataset = {
        "images": [{"id": i["image"], "height": 512, "width": 512} for i in images],
        "categories": [{"id": k, "name": name} for k, name in enumerate(NAMES)],
        "annotations": objects,
    }
    left_out = "bbox" if mode == "segm" else "segmentation"
    given = [{k: v for k, v in each.items() if k != left_out} for each in given]
    with contextlib.redirect_stdout(io.StringIO()):
        held.createIndex()
        judged = COCOeval(held, held.loadRes(given), mode)
        judged.evaluate()
        judged.accumulate()
    precision, recall = judged.eval["precision"][..., 0, 2], judged.eval["recall"][..., 0, 2]
    return {
        name: {
            "AP": float(precision[:, :, k].mean()),
            "AP50": float(precision[0, :, k].mean()),
            "AR100": float(recall[:, k].mean()),
        }
        for k, name in enumerate(NAMES)
        if (recall[:, k] > -1).all()
    }


def annotation(image: int, thing: dict[str, Any]) -> dict[str, Any]:
    x, y, w, h = thing["box"]
    corners = [[x, y, x + w, y, x, y + h]]
    return {
        "image_id": image, "category_id": thing["class"], "bbox": thing["box"], "segmentation": corners
    }  # fmt: skip


def made(things: Images) -> Detections:
    boxes = np.array([t["box"] for t in things], dtype=float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Detections(
        xyxy=boxes,
        class_id=np.array([t["class"] for t in things], dtype=int),
        confidence=np.ones(len(things)),
    )


def supervision(images: Images) -> dict[str, Any]:
    """Precision, recall and F1 at an IoU of .5: of all detections, and of each class; without crowds."""
    given = [made(image["boxes"]) for image in images]
    wanted = [made([o for o in image["objects"] if not o["crowd"]]) for image in images]
    found: dict[str, Any] = {"all": {}, "each": {}}
    for figure, kind, field in (
        ("precision", Precision, "precision"),
        ("recall", Recall, "recall"),
        ("F1", F1Score, "f1"),
    ):
        whole = kind(averaging_method=AveragingMethod.MICRO).update(given, wanted).compute()
        found["all"][figure] = float(getattr(whole, f"{field}_scores")[0])
        each = getattr(whole, f"{field}_per_class")[:, 0]
        classes = whole.matched_classes.tolist()
        found["each"][figure] = {NAMES[c]: float(v) for c, v in zip(classes, each, strict=True)}
    return found


def labels(given: list[list[str]], wanted: list[list[str]]) -> dict[str, list[float]]:
    """Precision, recall, F1 and how often it is wanted, of each label."""
    coded = MultiLabelBinarizer().fit([*wanted, *given])
    figures = precision_recall_fscore_support(
        coded.transform(wanted), coded.transform(given), zero_division=0.0
    )
    return {name: [float(f[k]) for f in figures] for k, name in enumerate(coded.classes_)}


def main() -> None:
    recorded = json.loads((HERE / "measures.json").read_text(encoding="utf-8"))
    images = [case["images"] for case in recorded["tide"]]
    content = {
        "bbox": [coco(some, "bbox") for some in images],
        "segm": [coco(some, "segm") for some in images],
        "supervision": [supervision(some) for some in images],
        "labels": labels(recorded["labels"]["given"], recorded["labels"]["wanted"]),
    }
    (HERE / "classes.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
