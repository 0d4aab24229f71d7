"""Copies of a run below the same folder: each run counts once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def originals(found: Sequence[tuple[Path, str, Any]], say: bool = True) -> list[int]:
    """The positions of the runs that are no copies, given each one's folder, digest and content.

    Of copies the one whose folder still has the digits of its digest counts, and of several the one that
    lies least deep. Each other is a warning, where it is to `say` so. Runs of one digest and different
    contents (one was gone on with) are all kept.
    """
    kept: list[int] = []
    by_digest: dict[str, list[int]] = {}
    for i in sorted(range(len(found)), key=lambda i: _rank(*found[i][:2])):
        path, digest, content = found[i]
        alike = by_digest.setdefault(digest, [])
        original = next((k for k in alike if found[k][2] == content), None)
        if original is None:
            alike.append(i)
            kept.append(i)
        elif say:
            warnings.warn(f"{path}: is a copy of {found[original][0]}; left out", stacklevel=3)
    return sorted(kept)


def _rank(path: Path, digest: str) -> tuple[bool, int]:
    return not path.name.endswith(f".{digest[:8]}"), len(path.parts)
