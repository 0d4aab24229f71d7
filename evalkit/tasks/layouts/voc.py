"""Pascal VOC's XML files: the official folders, or XML beside images as Roboflow writes them."""

from __future__ import annotations

import html
import os
import re
from collections import Counter
from collections.abc import Sequence

from evalkit import door
from evalkit.data import folders, same_images
from evalkit.data.same_images import Pictures
from evalkit.data.split_names import split_of
from evalkit.errors import UserError
from evalkit.tasks.layouts import doubts, place
from evalkit.tasks.layouts.place import Place
from evalkit.tasks.layouts.reading import Draft, Reading, object_tokens, task

NAME = "Pascal VOC"
LOOKED = 1000  # XML files that are looked at
CLASSES = ("classes.txt", "labels.txt")
_ROOT = re.compile(r"<annotation[\s>]")
_OBJECT = re.compile(r"<object>.*?</object>", re.DOTALL)
_NAME = re.compile(r"<name>\s*([^<]*?)\s*</name>")
_EDGE = re.compile(r"<[xy]min>\s*(-?[0-9.]+)\s*<")


def look(there: Place, asked: str | None, verb: str = "") -> list[Reading]:
    """One reading for the folders with annotations."""
    files = [name for name in there.named(".xml") if there.alone or os.path.dirname(name) or there.images]
    if not files or there.alone or not _ROOT.search(_text(there, files[0])):
        return []
    by_folder: dict[str, list[str]] = {}
    for name in files:
        by_folder.setdefault(os.path.dirname(name), []).append(name)
    sets = {
        split_of(os.path.basename(name)) or os.path.splitext(os.path.basename(name))[0]: name
        for name in there.named(".txt")
        if os.path.basename(os.path.dirname(name)) == "Main" and "_" not in os.path.basename(name)
    }
    sets.pop("trainval", None)  # it is train and val together
    if sets:
        root = os.path.dirname(os.path.dirname(os.path.dirname(next(iter(sets.values())))))
        split = place.preferred(sets, asked)
        listed = [line for line in _text(there, sets[split]).split("\n") if line.strip()]
        return [_reading(there, root, files, split, sets, len(listed), verb)]
    folders = {split_of(folder): folder for folder in by_folder}
    if len(folders) < len(by_folder):
        return []
    split = place.preferred(folders, asked)
    chosen, folder = by_folder[folders[split]], folders[split]
    count = there.images.get(folder, len(chosen))
    root = "" if split else (os.path.dirname(folder) if _is_beside(folder) else folder)
    return [_reading(there, root, chosen, split, folders, count, verb)]


def _reading(
    there: Place, root: str, files: Sequence[str], split: str, splits: dict[str, str], count: int, verb: str
) -> Reading:
    found: Counter[str] = Counter()
    labels, lowest = [], 1.0
    some = files[:: max(1, len(files) // LOOKED)]
    for name in some:
        text = _text(there, name)
        mine = [html.unescape(m[1]) for o in _OBJECT.findall(text) if (m := _NAME.search(o))]
        labels.append(mine)
        found.update(mine)
        lowest = min([lowest, *(float(edge) for edge in _EDGE.findall(text) if edge.count(".") < 2)])
    notes = [] if len(some) == len(files) else [f"classes are those of {len(some):,} of {len(files):,} files"]
    classes = sorted({*found, *_listed(there, root)})
    more = [f"categories={tuple(classes)!r}"] if len(classes) > len(found) else []
    if more:
        notes.append(
            f"{len(classes) - len(found):,} of the classes are in no XML file, but named beside them: "
            f"{', '.join(name for name in classes if name not in found)}"
        )
    if lowest < 1:
        more.insert(0, "one_based=False")
        notes.append(f"a coordinate is {lowest:g}, so pixels are counted from 0 (the official data: from 1)")
    spelled = f"voc({', '.join(more)})" if more else "voc"
    wanted = verb or "detect"
    content = task(
        wanted, about=f"The objects of {root or there.root.name}", spelled=spelled, split=split,
        source={"path": root or "."}, prompt=f"{wanted} {{categories}}",
        tokens=object_tokens(labels, wanted == "segment"),
    )  # fmt: skip
    drafts = [Draft(wanted, count, content)]
    file = splits[split] if not splits[split].endswith(".txt") else root
    return Reading(
        NAME, there.root, file or ".", split, splits, drafts, classes, notes,
        pictures=lambda each: _pictures(there, root, splits[each]),
    )  # fmt: skip


def _listed(there: Place, root: str) -> list[str]:
    """The classes that lie beside the XML files: ImageSets/Main has a list of images for each in the official
    data; other tools write classes.txt or labels.txt."""
    names = []
    for name in there.named(".txt"):
        folder, file = os.path.split(name)
        stem, _, split = os.path.splitext(file)[0].rpartition("_")
        if os.path.basename(folder) == "Main" and stem and split in ("train", "val", "trainval", "test"):
            names.append(stem)
        elif folder == root and file.lower() in CLASSES:
            names += [line.strip() for line in _text(there, name).split("\n") if line.strip()]
    return [name for name in names if name.lower() not in ("__ignore__", "_background_", "background")]


def _pictures(there: Place, root: str, of: str) -> Pictures:
    """The images of a split: of a folder, or of a list of names without suffix."""
    if not of.endswith(".txt"):
        below = os.path.dirname(of) if _is_beside(of) else of
        return doubts.files(str(there.root / below))
    listed = {line.split()[0] for line in _text(there, of).split("\n") if line.strip()}
    inside = [folder for folder in there.images if os.path.dirname(folder) == root]
    images = (path for folder in inside for path in folders.files(str(there.root / folder)))
    return same_images.Files([p for p in images if os.path.splitext(os.path.basename(p))[0] in listed])


def _is_beside(folder: str) -> bool:
    """Whether a folder has XML files alone, with the images in another one beside it."""
    return os.path.basename(folder) in ("Annotations", "annotations", "labels", "xmls")


def _text(there: Place, name: str) -> str:
    path = there.root / name
    try:
        with door.guarded(path):
            return door.read(path, door.SMALL).decode("utf-8", "replace")
    except UserError:
        return ""
