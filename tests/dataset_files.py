"""Tiny datasets in exactly the official forms, for tests to write, change and read."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

from evalkit.types import Source

SQUARE = [[10.0, 20.0, 30.0, 20.0, 30.0, 40.0, 10.0, 40.0]]
_IMAGE = {"license": 1, "coco_url": "", "date_captured": "2013-11-14 17:02:52", "flickr_url": ""}


def _image(number: int, name: str) -> dict[str, Any]:
    return {**_IMAGE, "id": number, "file_name": name, "height": 48, "width": 64}


CAPTIONS: dict[str, Any] = {
    "info": {"year": 2017},
    "licenses": [],
    "type": "captions",
    "images": [_image(9, "000000000009.jpg"), _image(4, "000000000004.jpg")],
    "annotations": [
        {"image_id": 4, "id": 1, "caption": "A dog runs."},
        {"image_id": 9, "id": 2, "caption": "A cat sits. "},
        {"image_id": 4, "id": 3, "caption": "A dog runs."},
    ],
}
KARPATHY: dict[str, Any] = {
    "dataset": "coco",
    "images": [
        {
            "filepath": "val2014",
            "filename": f"COCO_val2014_{number:012d}.jpg",
            "imgid": index,
            "cocoid": number,
            "split": split,
            "sentids": [index],
            "sentences": [{"raw": f"Image {number}.", "tokens": ["image"], "imgid": index, "sentid": index}],
        }
        for index, (number, split) in enumerate([(42, "val"), (73, "test"), (74, "val"), (80, "restval")])
    ],
}
INSTANCES: dict[str, Any] = {
    "info": {},
    "licenses": [],
    "images": [_image(9, "000000000009.jpg"), _image(4, "000000000004.jpg")],
    "annotations": [
        {
            "id": 100,
            "image_id": 9,
            "category_id": 18,
            "bbox": [10.0, 20.0, 20.0, 20.0],
            "area": 400.0,
            "iscrowd": 0,
            "segmentation": SQUARE,
        },
        {
            "id": 101,
            "image_id": 9,
            "category_id": 1,
            "bbox": [0, 0, 64, 48],
            "area": 72.0,
            "iscrowd": 1,
            "segmentation": {"size": [48, 64], "counts": [3000, 72]},
        },
    ],
    "categories": [
        {"supercategory": "person", "id": 1, "name": "person"},
        {"supercategory": "animal", "id": 18, "name": "dog"},
    ],
}
QUESTIONS: dict[str, Any] = {
    "info": {},
    "task_type": "Open-Ended",
    "data_type": "mscoco",
    "license": {},
    "data_subtype": "val2014",
    "questions": [
        {"image_id": 42, "question": "Is it day?", "question_id": 42000},
        {"image_id": 42, "question": "What is it?", "question_id": 42001},
    ],
}
ANSWERS: dict[str, Any] = {
    "info": {},
    "data_type": "mscoco",
    "data_subtype": "val2014",
    "annotations": [
        {
            "question_type": "is it",
            "multiple_choice_answer": "yes",
            "answers": [
                {"answer": "yes" if n < 9 else "no", "answer_confidence": "yes", "answer_id": n + 1}
                for n in range(10)
            ],
            "image_id": 42,
            "answer_type": kind,
            "question_id": number,
        }
        for number, kind in [(42001, "other"), (42000, "yes/no")]
    ],
}
TEXTVQA: dict[str, Any] = {
    "dataset_type": "val",
    "dataset_name": "textvqa",
    "dataset_version": "0.5.1",
    "data": [
        {
            "question": "what brand is this?",
            "image_id": "003a8ae2ef43b901",
            "image_classes": ["Camera"],
            "flickr_original_url": "",
            "flickr_300k_url": "",
            "image_width": 1024,
            "image_height": 664,
            "answers": ["dakota"] * 9 + ["nous les gosses"],
            "question_tokens": ["what"],
            "question_id": 34602,
            "set_name": "val",
        }
    ],
}
DOCVQA: dict[str, Any] = {
    "dataset_name": "docvqa",
    "dataset_version": "1.0",
    "dataset_split": "val",
    "data": [
        {
            "questionId": 49153,
            "question": "What is the value?",
            "image": "documents/pybv0228_81.png",
            "docId": 14465,
            "ucsf_document_id": "pybv0228",
            "ucsf_document_page_no": "81",
            "answers": ["0.28", ".28"],
            "data_split": "val",
        }
    ],
}
CHARTQA: list[Any] = [
    {"imgname": "41699051005347.png", "query": "How many bars?", "label": "14"},
    {"imgname": "41699051005347.png", "query": "Is it above 5?", "label": "Yes"},
]
REFS: list[Any] = [
    {
        "sent_ids": [0, 1],
        "file_name": "COCO_train2014_000000000009_0.jpg",
        "ann_id": 100,
        "ref_id": 0,
        "image_id": 9,
        "split": "val",
        "sentences": [
            {"tokens": ["the", "dog"], "raw": "The DOG", "sent_id": 0, "sent": "the dog"},
            {"tokens": ["left"], "raw": "left", "sent_id": 1, "sent": "left"},
        ],
        "category_id": 18,
    },
    {
        "sent_ids": [2],
        "file_name": "COCO_train2014_000000000009_1.jpg",
        "ann_id": 101,
        "ref_id": 1,
        "image_id": 9,
        "split": "testA",
        "sentences": [{"tokens": ["all"], "raw": "all", "sent_id": 2, "sent": "all"}],
        "category_id": 1,
    },
]
LINES: list[Any] = [
    {"id": "a", "image": "a.png", "question": "How many?", "answer": "3", "group": "count", "level": 2},
    {"id": 7, "images": ["a.png", "b.png"], "question": "Same?", "answers": ["no", "No"], "extra": [1, 2]},
    {"image": "c.png", "size": [48, 64], "bbox": [10, 20, 20, 20], "segmentation": SQUARE},
    {"image": "d.png", "size": [48, 64], "objects": [{"category": "dog", "bbox": [0, 0, 4, 4]}]},
    {"image": "e.png", "prefix": "caption en", "suffix": "a dog"},
    {"image": "f.png", "question": "And now?"},
]

# format -> (its spelling, split, source entry, {key of the entry: content})
DATASETS: dict[str, tuple[str, str, dict[str, str], dict[str, Any]]] = {
    "coco_captions": ("coco_captions", "val", {"path": "c.json", "images": "val2017"}, {"path": CAPTIONS}),
    "karpathy": ("coco_captions", "val", {"path": "k.json", "images": "coco"}, {"path": KARPATHY}),
    "coco_detection": ("coco_detection", "val", {"path": "i.json", "images": "val2017"}, {"path": INSTANCES}),
    "vqa_json": (
        "vqa_json",
        "val",
        {"questions": "q.json", "annotations": "a.json", "images": "val2014"},
        {"questions": QUESTIONS, "annotations": ANSWERS},
    ),
    "textvqa": ("textvqa", "val", {"path": "t.json", "images": "train_images"}, {"path": TEXTVQA}),
    "docvqa": ("docvqa", "val", {"path": "d.json", "images": "documents"}, {"path": DOCVQA}),
    "chartqa": ("chartqa", "test", {"path": "test_human.json", "images": "png"}, {"path": CHARTQA}),
    "refcoco": (
        "refcoco",
        "val",
        {"refs": "refs(unc).p", "instances": "instances.json", "images": "train2014"},
        {"refs": REFS, "instances": INSTANCES},
    ),
    "jsonl": ("jsonl", "test", {"path": "lines.jsonl", "images": "pictures"}, {"path": LINES}),
}


def contents(name: str) -> dict[str, Any]:
    """The contents of a dataset's files, free to be changed."""
    return copy.deepcopy(DATASETS[name][3])


def write(root: Path, name: str, given: dict[str, Any] | None = None) -> Source:
    """Writes the dataset (or other contents of its files) below `root`, without images."""
    _, _, entry, own = DATASETS[name]
    for key, content in (given or own).items():
        path = root / entry[key]
        if path.suffix == ".p":
            path.write_bytes(pickle.dumps(content, protocol=2))
        elif path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(line) + "\n" for line in content), encoding="utf-8")
        else:
            path.write_text(json.dumps(content), encoding="utf-8")
    return Source(root, entry, task="t")
