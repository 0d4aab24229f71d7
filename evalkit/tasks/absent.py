"""Image files that samples name and that are not there. Opens none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from evalkit.data import sources
from evalkit.data.packed import Samples
from evalkit.types import Sample

NAMED = 3


class Absent(NamedTuple):
    """The paths of missing files, and how many files the samples name."""

    paths: Sequence[str]
    of: int

    def __str__(self) -> str:
        """`2 of 9 image files are not there: photos/a.png, photos/b.png`, with what may be meant instead."""
        n, first = len(self.paths), ", ".join(path[:300] for path in self.paths[:NAMED])
        files = "image file" if self.of == 1 else "image files"
        more = ", ..." if n > NAMED else ""
        are = "is" if n == 1 else "are"
        return f"{n:,} of {self.of:,} {files} {are} not there: {first}{more}{sources.missing(self.paths)}"


def absent(samples: Sequence[Sample]) -> Absent:
    """The missing files of the samples."""
    lost, last = dict[str, None](), ""
    every = samples.images if isinstance(samples, Samples) else [sample.images for sample in samples]
    for image in (image for images in every for image in images):
        if image.path != last and not os.path.exists(image.path):  # Path raises for absurd names
            lost[image.path] = None
        last = image.path
    of = len({image.path for images in every for image in images}) if lost else 0
    return Absent(list(lost), of)
