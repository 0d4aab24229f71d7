"""A folder or file looked at once: its files by name, its folders of images, and the splits of names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from evalkit import door
from evalkit.data import folders, sources
from evalkit.data.split_names import SPLITS, split_of
from evalkit.errors import UserError

DEEP = 5  # folders below each other that are looked into
PREFERRED = ("test", "valid", "", "train")
"""Which split is evaluated where none is asked for; '': a name that says none."""


@dataclass(frozen=True)
class Place:
    """The folder with the data, and the files in it, relative to it. Of a file: its folder, and itself."""

    root: Path
    files: tuple[str, ...]  # but for images
    images: dict[str, int] = field(default_factory=dict)  # folder -> how many image files it holds
    alone: bool = False  # whether one file was named

    def named(self, *suffixes: str) -> Iterator[str]:
        """The files with one of the suffixes."""
        return (name for name in self.files if name.lower().endswith(suffixes))

    def folder_with(self, image: str, near: str) -> str | None:
        """The folder below which an image of that name is: beside the file `near`, above it, or any other;
        None where none has it."""
        beside = os.path.dirname(near)
        above = os.path.dirname(beside)
        nearest = [os.path.join(beside, "images"), os.path.join(above, "images")]
        split = split_of(near)
        alike = [name for name in self.images if split and split_of(name) == split]
        for name in (image, *sources.moved_ends(image)):
            for folder in dict.fromkeys((beside, above, *nearest, *alike, *sorted(self.images), "")):
                if os.path.exists(self.root / folder / name):
                    return folder
        return None


def look(path: Path) -> Place:
    """Lists a folder, or takes one file. Raises UserError for neither."""
    if path.is_file():
        images: dict[str, int] = {}
        _list(path.parent, "", [], images, 2)
        return Place(path.parent, (path.name,), images, alone=True)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder or file; name what holds your data")
    files: list[str] = []
    images = {}
    _list(path, "", files, images, DEEP)
    return Place(path, tuple(sorted(files)), images)


def _list(root: Path, below: str, files: list[str], images: dict[str, int], deep: int) -> None:
    try:
        entries = sorted(os.scandir(root / below), key=lambda e: e.name)
    except OSError as error:
        raise UserError(f"{root / below}: cannot be read ({error.strerror or error})") from None
    for entry in entries:
        name = os.path.join(below, entry.name)
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if deep:
                _list(root, name, files, images, deep - 1)
        elif os.path.splitext(entry.name)[1].lower() in folders.IMAGES:
            images[below] = images.get(below, 0) + 1
        else:
            files.append(name)


def by_split(files: Iterable[str], asked: str | None = None) -> list[dict[str, str]]:
    """The files by the split that their names say; where two say one, each file alone, and of these only
    what is `asked` for."""
    every = list(files)
    splits = {split_of(name): name for name in every}
    if len(splits) == len(every):
        return [splits] if splits else []
    wanted = None if asked is None else SPLITS.get(asked.lower(), asked)
    return [{split: name} for name in every if wanted in (None, split := split_of(name))]


def head(path: Path) -> bytes:
    """As `door.head`; b'' where a file cannot be read."""
    try:
        return door.head(path)
    except OSError:
        return b""


def preferred(splits: Iterable[str], asked: str | None) -> str:
    """The split to evaluate: the one that is asked for, else test, valid, unnamed, train. Raises UserError
    where the one asked for is not there."""
    there = list(splits)
    if asked is not None:
        wanted = SPLITS.get(asked.lower(), asked)
        if wanted not in there:
            raise UserError(
                f"--split {asked}: there is no such split; there are: {', '.join(map(shown, there))}"
            )
        return wanted
    return min(there, key=lambda s: PREFERRED.index(s) if s in PREFERRED else len(PREFERRED))


def counted(n: int, what: str) -> str:
    """`1 sample`, `2 samples`."""
    return f"{n:,} {what}" + ("" if n == 1 else "es" if what.endswith("x") else "s")


def shown(split: str) -> str:
    """A split's name for people."""
    return split or "(unnamed)"
