"""Whether a sample still shows the image that its answer was made from: by a stamp first, else by content.

A stamp names the image (the file below the data root, its member) and the state of that file.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable
from pathlib import Path

from evalkit.data import containers, sources
from evalkit.data.by_name import Index
from evalkit.data.sequences import Texts
from evalkit.errors import ImageError
from evalkit.files import settled_state
from evalkit.runs.journal_lines import Entry
from evalkit.types import ImageRef, Sample

State = tuple[int, ...]
"""Of a file, as `files.settled_state` says."""


class Stamps:
    """Stamps the images of answers. `root` is the data root; questions about `images` will be asked.

    A file is looked at before its image is read and again when the answer is there. Only one that stayed
    as it was has its state in the stamp, so a stamp is always that of the bytes that were read.
    """

    def __init__(self, root: Path, images: Iterable[tuple[ImageRef, ...]] = ()) -> None:
        self._root = f"{root}{os.sep}"
        every, last, self._before = Texts(), "", array("q")
        for path in (image.path for some in images for image in some):
            if path != last:  # questions of one image follow each other
                every.append(path)
                self._before.append(hash(settled_state(path)))
            last = path
        self._places = Index(every)
        self._last: tuple[ImageRef | None, State | None, str] = (
            None,
            None,
            "",
        )  # an image, its state, its stamp

    def of(self, sample: Sample) -> tuple[str, ...]:
        """What is recorded with the answer: a stamp for each image."""
        return tuple(self._stamp(image) for image in sample.images)

    def _stamp(self, image: ImageRef) -> str:
        state = settled_state(image.path)
        place = self._places.get(image.path)
        if place is None or self._before[place] != hash(state):
            state = None
        last, before, stamp = self._last
        if image.member or image is not last or state != before:  # a member also hangs on its container
            stamp = _name(image, self._root) + _known(image, state)
            self._last = image, state, stamp
        return stamp


class Shown:
    """Finds the samples that no longer show what they were answered from. One for each plan: a file that
    several samples share is looked at, and read, once."""

    def __init__(self, root: Path) -> None:
        self._root = f"{root}{os.sep}"
        self._states: dict[str, State | None] = {}
        self._digests: dict[tuple[str, str], str] = {}

    def same(self, sample: Sample, entry: Entry) -> bool:
        """Whether the images are those of the answer. What is not there any more is the same if it has the
        same name; without digests in the answer only a stamp can tell."""
        digests = entry.prediction.image_digests
        now = tuple(self._stamp(image) for image in sample.images)
        if now == entry.stamps and all(map(_settled, now)):
            return True
        if not all(os.path.exists(image.path) for image in sample.images):
            return not entry.stamps or list(map(_named, now)) == list(map(_named, entry.stamps))
        if not digests:
            return not entry.stamps
        return tuple(self._digest(image) for image in sample.images) == digests

    def _stamp(self, image: ImageRef) -> str:
        return _name(image, self._root) + _known(image, self._state(image.path))

    def _state(self, path: str) -> State | None:
        if path not in self._states:
            self._states[path] = settled_state(path)
        return self._states[path]

    def _digest(self, image: ImageRef) -> str:
        """sha256 of the image's bytes; '' if they cannot be read: asking again says why."""
        key = (image.path, image.member)
        if key not in self._digests:
            try:
                self._digests[key] = hashlib.sha256(sources.read_bytes(image)).hexdigest()
            except ImageError:
                self._digests[key] = ""
        return self._digests[key]


def _name(image: ImageRef, root: str) -> str:
    """The first part of a stamp: which image it is. The same below another root."""
    name = f"{image.path.removeprefix(root)}\0{image.member}"
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _known(image: ImageRef, state: State | None) -> str:
    """The second part: the file's state and what else decides the image; '.' where that isn't known."""
    more = _beside(image) if state is not None else None
    return "." if more is None else "." + hashlib.sha256(repr((state, more)).encode()).hexdigest()[:12]


def _beside(image: ImageRef) -> str | None:
    try:
        return containers.beside(image.path, image.member) if image.member else ""
    except Exception:  # a table that cannot be read: reading the image says why
        return None


def _settled(stamp: str) -> bool:
    return not stamp.endswith(".")


def _named(stamp: str) -> str:
    return stamp.partition(".")[0]
