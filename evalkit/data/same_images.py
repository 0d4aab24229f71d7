"""Which images of several splits have the same content: told by their sizes first, then by a block of each,
then by all bytes of what is left. Decodes none."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from evalkit import door

BLOCK = 4096  # bytes from the middle of a file: the beginnings of a camera's files are alike

Named = tuple[str, str]
"""A split, and the name of an image in it."""


class Pictures(Protocol):
    """The images of a split."""

    def sizes(self) -> Iterable[tuple[str, int]]:
        """Name and bytes of each image that is there, each once."""

    def missing(self) -> Sequence[str]:
        """The images that are named, but not there."""

    def block(self, name: str) -> bytes:
        """Some bytes of an image. Raises OSError."""

    def digest(self, name: str) -> bytes:
        """What stands for all of its bytes. Raises OSError."""


@dataclass(frozen=True)
class Files:
    """Images that are files, by their paths."""

    paths: Sequence[str]

    def sizes(self) -> Iterator[tuple[str, int]]:
        for path in dict.fromkeys(self.paths):
            try:
                found = os.stat(path)
            except (OSError, ValueError):
                continue
            if stat.S_ISREG(found.st_mode) and found.st_size:
                yield path, found.st_size

    def missing(self) -> list[str]:
        return [path for path in dict.fromkeys(self.paths) if not door.is_there(path)]

    def block(self, name: str) -> bytes:
        return door.block(name, BLOCK)

    def digest(self, name: str) -> bytes:
        return hashlib.sha256(door.read(name)).digest()


def groups(splits: Mapping[str, Pictures], first: str) -> list[list[Named]]:
    """Images of the same content, as far as one of them is of the split `first`, in its order."""
    by_size: dict[int, list[Named]] = {}
    for name, size in splits[first].sizes():
        by_size.setdefault(size, []).append((first, name))
    for split, pictures in splits.items():
        for name, size in pictures.sizes() if split != first else ():
            if size in by_size:
                by_size[size].append((split, name))
    alike = list(by_size.values())
    alike = _parted(alike, lambda one: splits[one[0]].block(one[1]))
    return _parted(alike, lambda one: splits[one[0]].digest(one[1]))


def _parted(groups: Iterable[list[Named]], content: Callable[[Named], bytes]) -> list[list[Named]]:
    """Each group of two or more, parted by content. An image that cannot be read is like no other."""
    found: list[list[Named]] = []
    for group in groups:
        parts: dict[bytes, list[Named]] = {}
        for one in group if len(group) > 1 else ():
            try:
                parts.setdefault(content(one), []).append(one)
            except OSError:
                continue
        found += [part for part in parts.values() if len(part) > 1]
    return found
