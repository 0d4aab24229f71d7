"""Memory of a data set that is read: what a sample takes while reading and afterwards, for each layout.

    python -m benchmarks.memory [--samples 100000] [--only yolo coco ...] [--against CHECKOUT] [--folder KEPT]

Each layout is written as a folder, recognised as `evalkit run --data` does, and read by a process of its
own; what such a process has loaded is not counted. For each sample: bytes that Python holds at the end
(tracemalloc, by a second process), by which the resident memory has grown at the end and at most, and CPU
time of reading and of a pass over all samples. Linux only: memory is what the system says.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from evalkit.printing import put

HERE = Path(__file__).resolve().parent.parent
BOXES = 7
CLASSES = [f"class {i}" for i in range(80)]
HEIGHT, WIDTH = 480, 640
SMALL = 200  # samples of the data that are read before anything is counted


# --- what is written ---------------------------------------------------------------------------------


def _image(folder: Path) -> Callable[[int], str]:
    """Gives the name of a new image in a folder: all are one file."""
    folder.mkdir(parents=True)
    first = folder / "000000000000.jpg"
    Image.new("RGB", (WIDTH, HEIGHT)).save(first)

    def name(i: int) -> str:
        path = folder / f"{i:012d}.jpg"
        if i:
            os.link(first, path)
        return path.name

    return name


def _boxes(draw: random.Random) -> list[tuple[int, list[float]]]:
    """(class, [x, y, w, h] in pixels with two decimals) of an image."""
    found = []
    for _ in range(BOXES):
        x, y = draw.uniform(0, WIDTH - 50), draw.uniform(0, HEIGHT - 50)
        sides = draw.uniform(5, WIDTH - x), draw.uniform(5, HEIGHT - y)
        found.append((draw.randrange(len(CLASSES)), [round(v, 2) for v in (x, y, *sides)]))
    return found


def _words(draw: random.Random, n: int) -> str:
    return " ".join("".join(draw.choices("abcdefghijklmnop", k=draw.randint(2, 8))) for _ in range(n))


def yolo(root: Path, count: int, draw: random.Random) -> None:
    name = _image(root / "images" / "val")
    (root / "labels" / "val").mkdir(parents=True)
    (root / "data.yaml").write_text(f"path: .\nval: images/val\nnames: {json.dumps(CLASSES)}\n")
    for i in range(count):
        lines = []
        for label, (x, y, w, h) in _boxes(draw):
            shares = (x + w / 2) / WIDTH, (y + h / 2) / HEIGHT, w / WIDTH, h / HEIGHT
            lines.append(f"{label} " + " ".join(f"{v:.6f}" for v in shares))
        (root / "labels" / "val" / name(i).replace(".jpg", ".txt")).write_text("\n".join(lines) + "\n")


def voc(root: Path, count: int, draw: random.Random) -> None:
    name = _image(root / "JPEGImages")
    (root / "Annotations").mkdir()
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    for i in range(count):
        parts = []
        for label, (x, y, w, h) in _boxes(draw):
            corners = zip(("xmin", "ymin", "xmax", "ymax"), (x, y, x + w, y + h), strict=True)
            inner = "".join(f"<{tag}>{int(value) + 1}</{tag}>" for tag, value in corners)
            parts.append(f"<object><name>{CLASSES[label]}</name><bndbox>{inner}</bndbox></object>")
        image = name(i)
        text = f"<annotation><filename>{image}</filename>{size}{''.join(parts)}</annotation>"
        (root / "Annotations" / image.replace(".jpg", ".xml")).write_text(text)


def coco(root: Path, count: int, draw: random.Random, polygons: bool = False) -> None:
    name = _image(root / "images")
    images, annotations = [], list[dict[str, Any]]()
    for i in range(count):
        images.append({"id": 7 * i, "file_name": name(i), "height": HEIGHT, "width": WIDTH})
        for label, box in _boxes(draw):
            x, y, w, h = box
            one = {"id": len(annotations), "image_id": 7 * i, "category_id": label, "bbox": box,
                   "area": round(w * h * 0.7, 4), "iscrowd": 0}  # fmt: skip
            if polygons:
                points = [(x + w * draw.random(), y + h * draw.random()) for _ in range(20)]
                one["segmentation"] = [[round(v, 2) for point in points for v in point]]
            annotations.append(one)
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    (root / "instances_val.json").write_text(json.dumps(whole))


def coco_masks(root: Path, count: int, draw: random.Random) -> None:
    coco(root, count, draw, polygons=True)


def lines(root: Path, count: int, draw: random.Random) -> None:
    name = _image(root / "val")
    with (root / "_annotations.val.jsonl").open("w") as out:
        for i in range(count):
            some = []
            for label, (x, y, w, h) in _boxes(draw):
                edges = (y / HEIGHT, x / WIDTH, (y + h) / HEIGHT, (x + w) / WIDTH)
                tokens = "".join(f"<loc{min(1023, int(1024 * edge)):04d}>" for edge in edges)
                some.append(f"{tokens} {CLASSES[label]}")
            asked = "detect " + " ; ".join(CLASSES)
            told = {"image": f"val/{name(i)}", "prefix": asked, "suffix": " ; ".join(some)}
            out.write(json.dumps(told) + "\n")


def questions(root: Path, count: int, draw: random.Random) -> None:
    name = _image(root / "images")
    with (root / "val.jsonl").open("w") as out:
        for i in range(count):
            told = {"image": f"images/{name(i)}", "prefix": _words(draw, 7) + "?", "suffix": _words(draw, 1)}
            out.write(json.dumps(told) + "\n")


def conversations(root: Path, count: int, draw: random.Random) -> None:
    name = _image(root / "images")
    every = []
    for i in range(count):
        turns = [{"from": "human", "value": f"<image>\n{_words(draw, 7)}?"},
                 {"from": "gpt", "value": _words(draw, 1)}]  # fmt: skip
        every.append({"id": f"{i:012d}", "image": f"images/{name(i)}", "conversations": turns})
    (root / "val.json").write_text(json.dumps(every))


def table(root: Path, count: int, draw: random.Random) -> None:
    name = _image(root / "images")
    with (root / "val.csv").open("w") as out:
        out.write("image,question,answer\n")
        for i in range(count):
            out.write(f"images/{name(i)},{_words(draw, 7)}?,{_words(draw, 1)}\n")


def rows(root: Path, count: int, draw: random.Random) -> None:
    name = _image(root / "val")
    with (root / "val" / "metadata.jsonl").open("w") as out:
        for i in range(count):
            some = _boxes(draw)
            objects = {"bbox": [box for _, box in some], "category": [CLASSES[label] for label, _ in some]}
            told = {"file_name": name(i), "height": HEIGHT, "width": WIDTH, "objects": objects}
            out.write(json.dumps(told) + "\n")


LAYOUTS = {f.__name__: f for f in (yolo, voc, coco, coco_masks, lines, rows, questions, conversations, table)}


# --- what is measured --------------------------------------------------------------------------------


def _read(folder: Path) -> Any:
    """The samples of a folder's task, as `run --data` reads them."""
    from evalkit.evaluation import own_data
    from evalkit.tasks.dataset import dataset
    from evalkit.tasks.layouts.recognise import recognise

    found = recognise(folder, None, "", "xywh" if folder.name == "rows" else "")
    (draft,) = found.drafts
    return dataset(own_data.read(found, draft, {}), [found.root.absolute()])


def _resident() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _peak() -> int:
    stated = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    return int(stated.split()[0]) << 10


def measured(small: Path, folder: Path, traced: bool) -> dict[str, float]:
    """Of one layout, in this process: bytes and microseconds a sample."""
    data = _read(small)
    del data
    gc.collect()
    if traced:
        tracemalloc.start()
        data = _read(folder)
        gc.collect()
        return {"held": tracemalloc.get_traced_memory()[0] / len(data.samples)}
    before = _resident()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    begun = time.process_time()
    data = _read(folder)
    took, peak = time.process_time() - begun, _peak()
    count, after = len(data.samples), _resident()
    return {
        "resident": (after - before) / count,
        "peak": (peak - before) / count,
        "reading": 1e6 * took / count,
        "pass": 1e6 * min(_pass(data.samples) for _ in range(3)) / count,
        "of file": (peak - before) / _annotations(folder),
    }


def _annotations(folder: Path) -> int:
    """Bytes of all files but images."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and f.suffix != ".jpg")


def _pass(samples: Any) -> float:
    """CPU seconds."""
    begun = time.process_time()
    for sample in samples:
        assert sample.target is not None
    return time.process_time() - begun


def _child(checkout: Path, arguments: Sequence[str]) -> dict[str, float]:
    own = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), *arguments], env={**os.environ, **own},
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def written(folder: Path, name: str, count: int) -> Path:
    """The folder of a layout; it is written where it is not there."""
    root = folder / str(count) / name
    if not root.exists():
        root.mkdir(parents=True)
        LAYOUTS[name](root, count, random.Random(0))
    return root


def table_lines(folder: Path, names: Sequence[str], count: int, checkouts: Sequence[Path]) -> Iterator[str]:
    """A line for each layout and checkout."""
    head = f"{'layout':14} {'bytes a sample: held':>21} {'resident':>9} {'at most':>9}"
    yield f"{head} {'of file':>7}   µs: reading {'pass':>6}"
    for name in names:
        places = [str(written(folder, name, n)) for n in (SMALL, count)]
        for number, checkout in enumerate(checkouts):
            found = _child(checkout, ["--of", *places]) | _child(checkout, ["--of", *places, "--traced"])
            yield (
                f"{name if not number else '  before':14} {found['held']:21,.0f} {found['resident']:9,.0f} "
                f"{found['peak']:9,.0f} {found['of file']:7.2f} {found['reading']:13.1f} {found['pass']:6.1f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--only", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--folder", type=Path, help="kept, and used again where it is there")
    parser.add_argument("--of", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--traced", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.of:
        small, folder = given.of
        put(json.dumps(measured(small, folder, given.traced)))
        return
    checkouts = [HERE, *([given.against.resolve()] if given.against else [])]
    with tempfile.TemporaryDirectory() as temporary:
        for line in table_lines(given.folder or Path(temporary), given.only, given.samples, checkouts):
            put(line, flush=True)


if __name__ == "__main__":
    main()
