"""The files below a folder, and which are images; opens none of them."""

from __future__ import annotations

import os
from collections.abc import Iterator

IMAGES = frozenset(
    {".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
UNREAD = frozenset({".avif", ".dng", ".heic", ".heif"})  # images, but of kinds that are not decoded


def files(folder: str) -> Iterator[str]:
    """The files below a folder, sorted in each, as full paths.

    Hidden ones are left out: macOS puts a `._a.jpg` beside each `a.jpg` on foreign disks.
    """
    for top, inside, names in os.walk(folder):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        yield from (os.path.join(top, name) for name in sorted(names) if not name.startswith("."))


def suffix(path: str) -> str:
    """`.jpg` of `a.JPG`."""
    return os.path.splitext(path)[1].lower()


def below(path: str, folder: str) -> str:
    """The part of a path below a folder, with / between its names; all of a path elsewhere."""
    inside = path.startswith(folder + os.sep)
    return path[len(folder) + 1 :].replace(os.sep, "/") if inside else path
