"""COCO's detection JSON wherever it lies, as Roboflow, CVAT, Label Studio and others export it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from evalkit import door, registry
from evalkit.data.elements import Elements
from evalkit.data.faults import Faulty
from evalkit.data.same_images import Pictures
from evalkit.data.streamed import read_lists
from evalkit.errors import DataError
from evalkit.tasks.layouts import doubts, place
from evalkit.tasks.layouts.place import Place
from evalkit.tasks.layouts.reading import Draft, Reading, object_tokens, task
from evalkit.types import Source

NAME = "COCO detection"
KEYS = (b'"images"', b'"annotations"', b'"categories"')
_WHERE = ("bbox", "segmentation")
_FILE = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')


def look(there: Place, asked: str | None, verb: str = "") -> list[Reading]:
    """One reading for the files of a folder that hold images, annotations and categories."""
    files = [name for name in there.named(".json") if _may_be(there.root / name)]
    found = (_reading(there, splits, asked, verb) for splits in place.by_split(files, asked))
    return [reading for reading in found if reading is not None]


def _reading(there: Place, splits: dict[str, str], asked: str | None, verb: str) -> Reading | None:
    split = place.preferred(splits, asked)
    name = splits[split]
    try:
        data = read_lists(there.root / name)
    except DataError:
        return None
    if not _is_one(data):
        return None
    data, broken = _complete(data)
    names = {c["id"]: c["name"] for c in data["categories"]}
    objects: dict[Any, list[str]] = {image["id"]: [] for image in data["images"]}
    masks = lost = 0
    for each in data["annotations"]:
        label = names.get(each.get("category_id"))
        if label is not None and each.get("image_id") in objects:
            objects[each["image_id"]].append(label)
            masks += bool(each.get("segmentation"))
        else:
            lost += 1
    unused, notes = _super(data["categories"], Counter(n for some in objects.values() for n in some))
    classes = [n for n in names.values() if n not in unused]
    empty = sum(not some for some in objects.values())
    if lost:
        names_none = "names" if lost == 1 else "name"
        said = f"{place.counted(lost, 'annotation')} {names_none} no image or category of the file"
        notes.append(f"{said}; --check says which")
    elif empty:
        notes.append(f"{empty:,} of {len(objects):,} images have no object; every box on them is wrong")
    if masks and verb != "segment":
        notes.append("there are masks too: --verb segment asks for them")
    wanted = "segment" if verb == "segment" else "detect"
    first = next(iter(data["images"]), {"file_name": ""})["file_name"]
    folder = there.folder_with(str(first), name)
    source = {"path": name, "images": folder or str(Path(name).parent)}
    spelled = f"coco_detection(leave_out={tuple(unused)!r})" if unused else "coco_detection"
    content = task(
        wanted, about=f"The objects of {name}", spelled=spelled, split=split, source=source,
        prompt=f"{wanted} {{categories}}", tokens=object_tokens(objects.values(), wanted == "segment"),
    )  # fmt: skip
    drafts = [Draft(wanted, len(objects), content)]
    wrong = _mistakes(there.root, name, source["images"], spelled) if broken else ()
    return Reading(
        NAME, there.root, name, split, splits, drafts, classes, notes, _repeated(name, data),
        wrong=wrong, pictures=lambda each: _pictures(there, splits[each]),
    )  # fmt: skip


def _repeated(name: str, data: dict[str, Any]) -> list[str]:
    """Images and objects that are listed twice."""

    def listed(key: str, said: Callable[[dict[str, Any]], str]) -> Callable[[], Iterator[tuple[str, str]]]:
        return lambda: ((f"id {each.get('id')}", said(each)) for each in data[key])

    def drawn(each: dict[str, Any]) -> str:
        return str([each.get(key) for key in ("image_id", "category_id", *_WHERE)])

    return [
        *doubts.repeated("category name", name, listed("categories", lambda each: str(each["name"]))),
        *doubts.repeated("image", name, listed("images", lambda each: str(each["file_name"]))),
        *doubts.repeated("annotation", name, listed("annotations", drawn)),
    ]


def _pictures(there: Place, name: str) -> Pictures:
    """The images that a file names. Of a training split with a million objects only these names are read."""
    with door.guarded(there.root / name):
        found = _FILE.findall(door.read(there.root / name))
        images = [str(json.loads(text)) for text in found]
    return doubts.named(there, name, images)


def _super(categories: Sequence[dict[str, Any]], used: Counter[str]) -> tuple[list[str], list[str]]:
    """Categories that stand for others and have no object of their own, as Roboflow writes one at id 0."""
    above = {c.get("supercategory") for c in categories}
    found = [c["name"] for c in categories if c["name"] in above and not used[c["name"]]]
    if len(found) == len(categories):  # each is its own super-category
        return [], []
    notes = [f"category {name!r} stands for the others and has no box: left out" for name in found]
    return found, notes


def _may_be(path: Path) -> bool:
    """Whether the beginning of a file looks like such a file."""
    head = place.head(path)
    return head.startswith(b"{") and any(key in head for key in KEYS)


def _is_one(data: Any) -> bool:
    if not isinstance(data, dict) or not all(
        isinstance(data.get(k), Elements) for k in ("images", "annotations", "categories")
    ):
        return False
    first = next(iter(data["annotations"]), {"bbox": [], "category_id": 0})
    categories, images = (
        any(isinstance(one, dict) and keys <= one.keys() for one in data[of])
        for of, keys in (("categories", {"id", "name"}), ("images", {"id", "file_name"}))
    )
    return categories and images and isinstance(first, dict) and "category_id" in first


def _complete(data: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The file without entries that lack what is needed to look at it, and whether there were such."""
    wanted = {"categories": {"id", "name"}, "images": {"id", "file_name"}, "annotations": set[str]()}
    kept = {of: _those(data[of], keys) for of, keys in wanted.items()}
    return kept, any(kept[of] is not data[of] for of in wanted)


def _those(entries: Sequence[Any], keys: set[str]) -> Sequence[Any]:
    """The entries that have the keys; the same sequence where all have."""
    if all(isinstance(one, dict) and keys <= one.keys() for one in entries):
        return entries
    return [one for one in entries if isinstance(one, dict) and keys <= one.keys()]


def _mistakes(root: Path, name: str, folder: str, spelled: str) -> tuple[str, ...]:
    """What is wrong with a file, in the words of the format that reads it."""
    source = Source(root.absolute(), {"path": name, "images": folder})
    try:
        for _ in registry.make("formats", spelled).samples(source, ""):
            pass
    except Faulty as error:
        return error.said
    return ()
