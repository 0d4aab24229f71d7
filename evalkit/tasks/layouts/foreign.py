"""Layouts of other tools that evalkit does not read: which one it is, and what to export instead."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from evalkit.data import folders
from evalkit.tasks.layouts.place import Place

EXPORT = "export it as COCO, YOLO or Pascal VOC there"


def _inside(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The first object of a list, or {}."""
    held = data.get(key)
    first = held[0] if isinstance(held, list) and held else None
    return first if isinstance(first, dict) else {}


def _values(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first value of an object of objects, or {}."""
    first = next(iter(data.values()), None)
    return first if isinstance(first, dict) else {}


RECORDS: tuple[tuple[Callable[[Mapping[str, Any]], bool], str], ...] = (
    (lambda d: "shapes" in d and "imagePath" in d, f"labelme's JSON; {EXPORT} (labelme2coco)"),
    (lambda d: "regions" in _values(d) or "_via_img_metadata" in d,
     "VGG Image Annotator's JSON; export COCO there (Annotation, Export as COCO)"),
    (lambda d: "region_shape_attributes" in d,
     "VGG Image Annotator's CSV; export COCO there (Annotation, Export as COCO)"),
    (lambda d: "result" in _inside(d, "annotations") or "rectanglelabels" in _inside(d, "label"),
     "Label Studio's JSON; export COCO, YOLO or Pascal VOC there"),
    (lambda d: "coordinates" in _inside(d, "annotations"), f"CreateML's JSON; {EXPORT}"),
    (lambda d: {"image_id", "category_id", "score"} <= d.keys(),
     "a list of detections, as COCO's results; what was drawn by people is needed, with "
     "images, annotations and categories"),
    (lambda d: {"xmin", "ymin", "xmax", "ymax"} <= d.keys(),
     f"a table of a box a row, as TensorFlow's; {EXPORT}"),
    (lambda d: "image" in d and all(isinstance(value, list) for value in d.values()),
     "a list for each column; write a record for each sample, as JSON lines"),
    (lambda d: isinstance(d.get("image"), dict),
     "a record whose image is an object; write the file's name as `image`"),
    (lambda d: isinstance(_values(d).get("image"), str),
     "an object of records by their ids; write a list of them, or JSON lines, with the id as `id`"),
    (lambda d: os.path.splitext(str(next(iter(d), "")))[1].lower() in folders.IMAGES,
     "a table without a header line; write one, such as image,question,answer"),
    (lambda d: len(d) == 1 and isinstance(_inside(d, next(iter(d))).get("image"), str),
     "a list inside an object; write the list alone, or JSON lines"),
)  # fmt: skip


def of_record(first: Any) -> str:
    """What a file is by its first record, and what would be right; '' where that is not known."""
    if not isinstance(first, dict):
        return ""
    return next((said for test, said in RECORDS if test(first)), "")


def of_files(there: Place) -> str:
    """The same by the names of files and folders."""
    for name in there.named(".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"):
        return f"{there.root / name}: is an archive; unpack it and name its folder"
    for name in there.named(".xlsx", ".xls", ".ods"):
        return f"{there.root / name}: is a spreadsheet; save it as CSV (UTF-8)"
    for name in there.named(".tfrecord", ".tfrecords"):
        return f"{there.root / name}: is TensorFlow's; {EXPORT}, or as JSON lines"
    for name in there.named("_annotations.txt"):
        return f"{there.root / name}: is a table of YOLO for Keras; {EXPORT}"
    beside = (name for name in there.named(".txt") if os.path.basename(os.path.dirname(name)) == "labels")
    for name in (*there.named(".names", "classes.txt"), *beside):
        right = "write a data.yaml beside it: `val: images` and `names: [...]`, in the order of the classes"
        return f"{there.root / name}: is YOLO's without a data.yaml; {right}"
    if there.files or not there.images:
        return ""
    nested = [folder for folder in there.images if folder]
    if len(nested) > 1:
        classes = ", ".join(sorted({os.path.basename(folder) for folder in nested})[:3])
        right = 'write a metadata.jsonl of lines {"file_name": "cat/1.jpg", "question": ..., "answer": "cat"}'
        return f"{there.root}: holds folders of images alone ({classes}); for classes {right}"
    return f"{there.root}: holds images alone; annotations are missing, as in docs/my-data.md"


def of_xml(text: str) -> str:
    """The same by the beginning of an XML file."""
    return f"CVAT's XML of images; {EXPORT}" if "<annotations" in text and "<annotation>" not in text else ""
