"""The samples' pictures as small files: found below the data roots, made once, several at a time.

An image that isn't there, or cannot be read, costs only itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit import door
from evalkit.data import sources
from evalkit.errors import ImageError
from evalkit.files import atomic_write, json_text
from evalkit.images.thumbnail import thumbnail
from evalkit.types import ImageRef, Size, Source

SIZES = ((500, 768), (5000, 384))  # up to so many images, so many pixels of a picture's longer side
SMALLEST = 256
INDEX = "index.json"  # which pictures there are, and how large their originals


@dataclass(frozen=True)
class Where:
    """The data roots below which a run's images are, and the places that they may not leave."""

    roots: tuple[Path, ...] = ()
    allowed: door.Places = ()

    @classmethod
    def of_run(cls, run: Mapping[str, Any], given: Sequence[Path]) -> Where:
        """`given` (--data-root) first, then where the run found its data."""
        source = run.get("source", {})
        own = [Path(source["root"])] if source.get("root") else []
        roots = tuple(dict.fromkeys([*(root.absolute() for root in given), *own]))
        named = [Source(root, source.get("entry", {})) for root in roots]
        return cls(roots, tuple(dict.fromkeys(p for s in named for p in sources.places(s, roots))))


@dataclass(frozen=True)
class Wanted:
    """An image of a sample: its key (the digest of its bytes, or where it is) and where it may be."""

    key: str
    path: str  # as rows.jsonl has it, `archive::member` for a member
    where: Where
    exif: str = "ignore"


@dataclass(frozen=True)
class Picture:
    """What a page shows of an image: `src` relative to the report, or the picture itself as `data:`."""

    src: str
    size: Size


def longest(images: int) -> int:
    """How large pictures are: a folder of many must still be one that can be sent."""
    return next((pixels for most, pixels in SIZES if images <= most), SMALLEST)


@dataclass
class Pictures:
    """The pictures of a report. With `inline` they are part of the page; without a folder none are made."""

    folder: Path | None
    longest: int = SMALLEST
    inline: bool = False
    made: dict[str, Picture] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # key to why
    _known: dict[str, Size] = field(default_factory=dict)

    def make(self, wanted: Iterable[Wanted]) -> None:
        """Makes those that are not there yet, in threads: decoding runs outside of Python's lock."""
        if self.folder is None:
            return
        new = {w.key: w for w in wanted if w.key not in self.made}
        self._known = self._known or _read_index(self.folder)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for key, found in zip(new, pool.map(self._one, new.values(), chunksize=1), strict=True):
                if isinstance(found, Picture):
                    self.made[key] = found
                else:
                    self.missing[key] = found
        if not self.inline:
            known = {p.src.rpartition("/")[2]: p.size for p in self.made.values()}
            atomic_write(self.folder / "thumbs" / INDEX, json_text({**self._known, **known}), sync=False)

    def _one(self, wanted: Wanted) -> Picture | str:
        assert self.folder is not None
        name = f"{hashlib.sha256(f'{wanted.key} {self.longest} {wanted.exif}'.encode()).hexdigest()[:32]}.jpg"
        place = f"thumbs/{name[:2]}/{name}"
        if name in self._known and (self.folder / place).is_file() and not self.inline:
            return Picture(place, self._known[name])
        try:
            data, size = thumbnail(_bytes(wanted), self.longest, wanted.exif, wanted.path)
        except ImageError as error:
            return str(error)
        if self.inline:
            return Picture(f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}", size)
        atomic_write(self.folder / place, data, sync=False)
        return Picture(place, size)


def _bytes(wanted: Wanted) -> bytes:
    """The image below the first root that has it. Raises ImageError."""
    path, _, member = wanted.path.partition("::")
    where, error = wanted.where, None
    for root in where.roots:
        try:
            return sources.read_bytes(ImageRef(os.path.join(root, path), member, within=where.allowed))
        except ImageError as problem:
            error = error or problem
    raise error or ImageError(f"{wanted.path}: the run does not say where its images are; name --data-root")


def _read_index(folder: Path) -> dict[str, Size]:
    """The pictures that an earlier report left here; what is damaged is made again."""
    try:
        found: Any = json.loads((folder / "thumbs" / INDEX).read_bytes())
        return {name: (int(size[0]), int(size[1])) for name, size in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, IndexError, KeyError, RecursionError):
        return {}
