"""The samples' pictures as small files: found below the data roots, made once, several at a time.

An image that isn't there, or cannot be read, costs only itself.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalkit import door
from evalkit.data import sources
from evalkit.errors import ImageError
from evalkit.files import atomic_write, json_text
from evalkit.images.thumbnail import thumbnail
from evalkit.types import ImageRef, Size, Source
from evalkit.viewer.pictured import Pictured

SIZES = ((500, 768), (5000, 384))  # up to so many images, so many pixels of a picture's longer side
SMALLEST = 256
INDEX = "index.json"  # which pictures there are, and how large their originals


@dataclass(frozen=True)
class Where:
    """The data roots below which a run's images are, and the places that they may not leave."""

    roots: tuple[Path, ...] = ()
    allowed: door.Places = ()
    font: str = ""  # of letters that are drawn in, where the source names one that is there

    @classmethod
    def of_run(cls, run: Mapping[str, Any], given: Sequence[Path]) -> Where:
        """`given` (--data-root) first, then where the run found its data."""
        source = run.get("source", {})
        own = [Path(source["root"])] if source.get("root") else []
        roots = tuple(dict.fromkeys([*(root.absolute() for root in given), *own]))
        named = [Source(root, source.get("entry", {})) for root in roots]
        allowed = tuple(dict.fromkeys(p for s in named for p in sources.places(s, roots)))
        return cls(roots, allowed, _font(named, allowed))


def _font(named: Sequence[Source], allowed: door.Places) -> str:
    """The source's `font`, below the first root that has it; '' where none has."""
    for source in named:
        path = str(source.path("font")) if isinstance(source.entry.get("font"), str) else ""
        with contextlib.suppress(OSError):
            if path:
                door.check(path, allowed)
                return path
    return ""


@dataclass(frozen=True)
class Wanted:
    """An image of a sample (its path as rows.jsonl has it, `archive::member` for a member), and where it may
    be."""

    image: Pictured
    where: Where
    exif: str = "ignore"


@dataclass(frozen=True)
class Picture:
    """What a page shows of an image: `src` relative to the report, or the picture itself as `data:`."""

    src: str
    size: Size


def wanted(
    runs: Sequence[Mapping[str, Any]], images: Mapping[str, tuple[Pictured, int]], roots: Sequence[Path]
) -> list[Wanted]:
    """Images of `runs` (run.json), each with which run names it. `roots` as of `Where.of_run`."""
    where = [Where.of_run(run, roots) for run in runs]
    exif = [str(run["identity"].get("preparation", {}).get("exif", "ignore")) for run in runs]
    return [Wanted(image, where[k], exif[k]) for image, k in images.values()]


def longest(images: int) -> int:
    """How large pictures are: a folder of many must still be one that can be sent."""
    return next((pixels for most, pixels in SIZES if images <= most), SMALLEST)


class Pictures:
    """The pictures of a report, made in threads beside whoever reads its rows: decoding runs outside of
    Python's lock. With `inline` they are part of the page; without a folder none are made."""

    def __init__(self, folder: Path | None, inline: bool = False) -> None:
        self.folder, self.inline = folder, inline
        self.longest = SMALLEST
        self._known = {} if folder is None or inline else _read_index(folder)
        self._pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
        self._asked: dict[str, Future[Picture | str]] = {}

    def ask(self, wanted: Iterable[Wanted]) -> None:
        """Begins to make those that are not there yet, in this order."""
        for each in wanted if self.folder is not None else ():
            if each.image.key not in self._asked:
                self._asked[each.image.key] = self._pool.submit(self._one, each, self.longest)

    def get(self, key: str) -> Picture | str:
        """The picture of an image, or why there is none; '' where none was asked for. Waits for it."""
        return self._asked[key].result() if key in self._asked else ""

    def finish(self) -> frozenset[str]:
        """Keeps what is known of the pictures for the next report; which files are used."""
        self._pool.shutdown(cancel_futures=True)
        if self.folder is None or self.inline or not self._asked:
            return frozenset()
        made = [p for f in self._asked.values() if isinstance(p := f.result(), Picture)]
        sizes = {picture.src.rpartition("/")[2]: picture.size for picture in made}
        place = f"thumbs/{INDEX}"
        atomic_write(self.folder / place, json_text(sizes), sync=False)
        return frozenset([place, *(picture.src for picture in made)])

    def close(self) -> None:
        """Makes no more."""
        self._pool.shutdown(cancel_futures=True)

    def _one(self, wanted: Wanted, longest: int) -> Picture | str:
        assert self.folder is not None
        image = wanted.image
        content = f"{image.key} {longest} {wanted.exif}".encode("utf-8", "surrogatepass")
        name = f"{hashlib.sha256(content).hexdigest()[:32]}.jpg"
        place = f"thumbs/{name[:2]}/{name}"
        if name in self._known and (self.folder / place).is_file() and not self.inline:
            return Picture(place, self._known[name])
        try:
            marks = tuple(replace(mark, font=wanted.where.font) for mark in image.marks)
            ref = ImageRef(image.path, marks=marks, turn=image.turn)
            data, size = thumbnail(_bytes(wanted), longest, wanted.exif, ref)
        except ImageError as error:
            return str(error)
        if self.inline:
            return Picture(f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}", size)
        atomic_write(self.folder / place, data, sync=False)
        return Picture(place, size)


def _bytes(wanted: Wanted) -> bytes:
    """The image below the first root that has it. Raises ImageError."""
    path, _, member = wanted.image.path.partition("::")
    where, error = wanted.where, None
    for root in where.roots:
        try:
            return sources.read_bytes(ImageRef(os.path.join(root, path), member, within=where.allowed))
        except ImageError as problem:
            error = error or problem
    raise error or ImageError(
        f"{wanted.image.path}: the run does not say where its images are; name --data-root"
    )


def _read_index(folder: Path) -> dict[str, Size]:
    """The pictures that an earlier report left here; what is damaged is made again."""
    try:
        found: Any = json.loads((folder / "thumbs" / INDEX).read_bytes())
        return {name: (int(size[0]), int(size[1])) for name, size in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, IndexError, KeyError, RecursionError):
        return {}
