"""The data.yaml of a YOLO dataset: its classes, the images of its splits, and where their labels are.

As ultralytics 8.4 reads it (data/utils.py: check_det_dataset, img2label_paths; data/base.py: get_img_files).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml

from evalkit import door
from evalkit.data import folders
from evalkit.data.readers import read_text
from evalkit.data.records import Record, check_split
from evalkit.errors import DataError
from evalkit.types import Remarks

ALL = (
    "all"  # the split of a data.yaml that names none, as supervision writes it: the folder `images` beside it
)
SPLITS = ("train", "val", "test", "minival", ALL)
_VAL = ("val", "validation", "valid")  # one split by three names
_MOST = 100_000  # classes
_ABSOLUTE = re.compile(r"/|[A-Za-z]:/")


def described(path: Path) -> Record:
    """The content of data.yaml, or of the one that a folder holds. Every scalar is a string, so that `no` or
    `1` may name a class."""
    if path.is_dir():
        there = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
        named = [file for file in there if file.stem in ("data", "dataset")]
        if len(named or there) != 1:
            found = ", ".join(file.name for file in there) or "no YAML file"
            raise DataError(f"{path}: must hold one data.yaml that lists the classes; there is {found}")
        path = (named or there)[0]
    try:
        data = yaml.load(door.text(path), Loader=yaml.BaseLoader)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())[:200]
        raise DataError(f"{path}: {where}is not valid YAML: {problem}") from None
    top = Record(data, str(path))
    if not any(top.data.get(key) for key in (*SPLITS, *_VAL)) and os.path.isdir(path.parent / "images"):
        top.data[ALL] = "images"
    return top


def names(top: Record, remarks: Remarks) -> tuple[str, ...]:
    """The classes' names by number: a list, or a mapping of numbers. Without `names`, `nc` counts them."""
    given, count = top.data.get("names"), str(top.data.get("nc", "")).strip()
    if given in (None, "") and re.fullmatch(r"\d{1,6}", count) and int(count) <= _MOST:
        return tuple(f"class_{number}" for number in range(int(count)))
    if isinstance(given, dict):
        known = [key for key in given if isinstance(key, str) and re.fullmatch(r"\s*\d{1,6}\s*", key)]
        if len(known) != len(given) or sorted(map(int, known)) != list(range(len(given))):
            top.wrong("names", f"must have the classes' numbers as keys, here 0 to {len(given) - 1}")
        given = [name for _, name in sorted(given.items(), key=lambda pair: int(pair[0]))]
    if type(given) is not list or not 0 < len(given) <= _MOST:
        top.wrong("names", "must list the classes, as [cat, dog] or {0: cat, 1: dog}")
    for number, name in enumerate(given):
        if type(name) is not str or not name.strip():
            top.wrong(f"names.{number}", "is not a name; it must be text")
    found = tuple(name.strip() for name in given)
    if count and count != str(len(found)):
        text = f"is {count[:20]}, but {len(found)} classes have names; the names count"
        remarks.add("nc", f"{top.file}: nc: {text}")
    first: dict[str, int] = {}
    for number, name in enumerate(found):
        if first.setdefault(name, number) != number:
            text = f"names.{number}: is {name!r}, as is names.{first[name]}; they are one class"
            remarks.add("name", f"{top.file}: {text}")
    return found


def keypoints(top: Record) -> int:
    """How many numbers of a label line are keypoints, which follow the box."""
    shape: Any = top.data.get("kpt_shape")
    known = type(shape) is list and len(shape) == 2 and all(re.fullmatch(r"\d{1,4}", str(s)) for s in shape)
    return int(shape[0]) * int(shape[1]) if known else 0


def places(top: Record, split: str) -> list[str]:
    """The folders of a split's images, or text files that list them. Raises DataError for a missing one."""
    key = next((k for k in (split, *(_VAL if split in _VAL else ())) if top.data.get(k)), split)
    check_split(top.file, key, {name for name in (*SPLITS, *_VAL, split) if top.data.get(name)})
    given = top.data[key] if type(top.data[key]) is list else [top.data[key]]
    return [_found(top, key, entry) for entry in given]


def images(top: Record, split: str, remarks: Remarks) -> list[tuple[str, str]]:
    """(path, id) of a split's images, sorted by path. Raises DataError where there is none.

    An id is the path below the split's folder, or below the dataset's where the split has several or a list.
    """
    searched = places(top, split)
    whole = searched[0] if len(searched) == 1 and os.path.isdir(searched[0]) else _bases(top)[0]
    paths = set[str]()
    for place in searched:
        for path in folders.files(place) if os.path.isdir(place) else _listed(place):
            kind = folders.suffix(path)
            if kind in folders.UNREAD:
                remarks.add("unread", f"{path}: {kind} images are not read; it is left out")
            elif kind in folders.IMAGES and path in paths:
                remarks.add("listed twice", f"{place}: names {path} again; it counts once", usual=True)
            elif kind in folders.IMAGES:
                paths.add(path)
    if not paths:
        raise DataError(
            f"{searched[0]}: names no image; {top.file} says that the images of {split} are there"
        )
    return [(path, folders.below(path, whole)) for path in sorted(paths)]


def labels_of(image: str) -> str:
    """The label file of an image: below `labels` in place of the last `images`, or beside it."""
    part = os.sep + "images" + os.sep
    return os.path.splitext((os.sep + "labels" + os.sep).join(image.rsplit(part, 1)))[0] + ".txt"


def label_files(place: str) -> Iterator[str]:
    """The label files of a folder of images; none of a list, which may leave some out on purpose."""
    if os.path.isdir(place):
        for path in folders.files(os.path.dirname(labels_of(os.path.join(place, "x")))):
            name = os.path.basename(path).lower()
            if name.endswith(".txt") and name != "classes.txt" and not name.startswith("readme"):
                yield path


def _bases(top: Record) -> list[str]:
    """Where entries of data.yaml begin: at its `path`, where that is there, and at its own folder."""
    own = os.path.dirname(os.path.abspath(top.file))
    stated = top.data.get("path")
    base = os.path.normpath(os.path.join(own, stated)) if type(stated) is str and "\0" not in stated else own
    return list(dict.fromkeys([base, own] if os.path.isdir(base) else [own]))


def _found(top: Record, key: str, entry: Any) -> str:
    """The folder or list that an entry names.

    A `../` too many, as Roboflow writes it, is dropped, as ultralytics does. Of an absolute path that is not
    there, another machine's, the longest end of two names or more is taken.
    """
    if type(entry) is not str or not entry.strip() or "\0" in entry:
        top.wrong(key, "must be a folder, a list of folders or a .txt file that lists images")
    name, bases = entry.strip().replace("\\", "/"), _bases(top)
    tried = [name, name.removeprefix("../")]
    if _ABSOLUTE.match(name):
        parts = [part for part in name.split("/")[1:] if part]
        tried += ["/".join(parts[n:]) for n in range(len(parts) - 1)]
    found = [path for each in tried for base in bases if os.path.exists(path := os.path.join(base, each))]
    if not found:
        _not_there(top, key, entry, os.path.normpath(os.path.join(bases[0], name)))
    return os.path.normpath(found[0])


def _not_there(top: Record, key: str, entry: str, path: str) -> NoReturn:
    top.wrong(key, f"names {entry[:200]!r}, but {path[:300]} is not there; it must be a folder of images")


def _listed(place: str) -> Iterator[str]:
    """The images that a text file names, a line each; relative names begin at its folder."""
    text = read_text(Path(place), "it must list one image a line")
    if "\0" in text:
        raise DataError(f"{place}: is not a text file; it must list one image a line")
    own = os.path.dirname(place)
    return (os.path.normpath(os.path.join(own, line.strip())) for line in text.split("\n") if line.strip())
