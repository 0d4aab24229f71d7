"""Three images with five objects of two classes, written in every layout that people's own data has."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from evalkit.types import Source

CLASSES = ("cat", "dog")  # in the order of the alphabet, which VOC's layout cannot state another than
SIZES = {"a.png": (48, 64), "b.png": (80, 100), "c.png": (40, 50)}  # height, width


@dataclass(frozen=True)
class Thing:
    image: str
    category: str
    polygon: tuple[float, ...]  # x, y, ... in pixels

    @property
    def box(self) -> tuple[float, float, float, float]:
        xs, ys = self.polygon[::2], self.polygon[1::2]
        return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)

    @property
    def area(self) -> float:
        xs, ys = self.polygon[::2], self.polygon[1::2]
        return abs(sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(len(xs)))) / 2


THINGS = (
    Thing("a.png", "cat", (10, 8, 42, 12, 30, 40, 12, 38)),
    Thing("a.png", "dog", (0, 0, 20, 0, 20, 10, 0, 10)),
    Thing("b.png", "dog", (7, 11, 93, 15, 80, 71, 50, 79, 9, 60)),
    Thing("b.png", "dog", (60, 3, 99, 5, 70, 33)),
    Thing("b.png", "cat", (33, 21, 67, 23, 61, 49, 35, 41)),
)  # c.png is empty


def of(image: str) -> list[Thing]:
    return [thing for thing in THINGS if thing.image == image]


def pictures(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (height, width) in SIZES.items():
        Image.new("RGB", (width, height)).save(folder / name)


def coco(root: Path, polygons: bool) -> Source:
    pictures(root / "images")
    objects = [
        {
            "id": number,
            "image_id": list(SIZES).index(thing.image),
            "category_id": CLASSES.index(thing.category),
            "bbox": thing.box,
            "iscrowd": 0,
            **({"segmentation": [thing.polygon], "area": thing.area} if polygons else {}),
        }
        for number, thing in enumerate(THINGS)
    ]
    images = [
        {"id": n, "file_name": name, "height": size[0], "width": size[1]}
        for n, (name, size) in enumerate(SIZES.items())
    ]
    classes = [{"id": n, "name": name} for n, name in enumerate(CLASSES)]
    (root / "coco.json").write_text(
        json.dumps({"images": images, "annotations": objects, "categories": classes})
    )
    return Source(root, {"path": "coco.json", "images": "images"}, "t")


def yolo_line(thing: Thing, polygons: bool) -> str:
    height, width = SIZES[thing.image]
    x, y, w, h = thing.box
    shares = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
    if polygons:
        shares = [part / (height if n % 2 else width) for n, part in enumerate(thing.polygon)]
    return " ".join(map(str, [CLASSES.index(thing.category), *shares]))


def yolo(root: Path, polygons: bool) -> Source:
    pictures(root / "images/val")
    (root / "labels/val").mkdir(parents=True)
    for name in SIZES:
        text = "".join(yolo_line(thing, polygons) + "\n" for thing in of(name))
        (root / "labels/val" / name).with_suffix(".txt").write_text(text)
    (root / "data.yaml").write_text("path: .\ntrain: images/val\nval: images/val\nnames: [cat, dog]\n")
    return Source(root, {"path": "data.yaml"}, "t")


def voc_xml(image: str, polygons: bool, one_based: bool = True) -> str:
    """An annotation as the devkit's: pixels counted from 1, xmax inside the box."""
    height, width = SIZES[image]
    text = (
        f"<annotation>\n<folder>VOC2007</folder>\n<filename>{image}</filename>\n"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n"
    )
    for thing in of(image):
        x, y, w, h = thing.box
        edges = {"xmin": x + one_based, "ymin": y + one_based, "xmax": x + w, "ymax": y + h}
        inside = "".join(f"<{key}>{value}</{key}>" for key, value in edges.items())
        corners = "".join(
            f"<{'xy'[n % 2]}{n // 2 + 1}>{part + one_based}</{'xy'[n % 2]}{n // 2 + 1}>"
            for n, part in enumerate(thing.polygon)
        )
        text += f"<object>\n<name>{thing.category}</name><difficult>0</difficult><bndbox>{inside}</bndbox>"
        text += f"<polygon>{corners}</polygon></object>\n" if polygons else "</object>\n"
    return text + "</annotation>\n"


def voc(root: Path, polygons: bool) -> Source:
    """The official folders."""
    pictures(root / "JPEGImages")
    (root / "Annotations").mkdir()
    (root / "ImageSets/Main").mkdir(parents=True)
    for name in SIZES:
        (root / "Annotations" / name).with_suffix(".xml").write_text(voc_xml(name, polygons))
    (root / "ImageSets/Main/val.txt").write_text("".join(f"{name[0]}\n" for name in SIZES))
    return Source(root, {"path": "."}, "t")


def voc_flat(root: Path, polygons: bool, one_based: bool = False) -> Source:
    """Images and XML files beside each other, as Roboflow writes them."""
    pictures(root / "valid")
    for name in SIZES:
        (root / "valid" / name).with_suffix(".xml").write_text(voc_xml(name, polygons, one_based))
    return Source(root, {"path": "."}, "t")


LAYOUTS: dict[str, tuple[str, Callable[[Path, bool], Source]]] = {
    "coco_detection": ("coco_detection", coco),
    "yolo": ("yolo", yolo),
    "voc": ("voc", voc),
    "voc, flat": ("voc(one_based=False)", voc_flat),
}
"""Name of a layout to how its format is spelled and what writes it, with polygons or with boxes alone."""
