"""Finds a task's files below the data roots, and reads images (files, archive members).

Does not know what a file means: that is the task of its format.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit import door
from evalkit.data import containers
from evalkit.errors import DataError, ImageError
from evalkit.options import config
from evalkit.types import ImageRef, Mark, Source, Task

MAX_IMAGE_BYTES = 1 << 30  # a larger image file or archive member is refused without reading it
_LOOKED = 20  # missing images for whose reason folders are listed
_FRAMES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm")
_NO_FILES = ("format", "name", "split", "revision", "stream", "rows")  # keys of a source that name no file


# --- where data may be -------------------------------------------------------------------------


def roots(given: Sequence[Path] | None = None) -> list[Path]:
    """Data roots in order: `given` (--data-root), EVALKIT_DATA (separated by os.pathsep), `evalkit.toml`.

    Raises DataError if a `given` root is not a folder; the others may be missing.
    """
    for root in given or ():
        if not os.path.isdir(root):
            raise DataError(f"{root}: --data-root: no such folder; give the folder that holds the datasets")
    found = [*(given or ())]
    found += [door.home(part) for part in os.environ.get("EVALKIT_DATA", "").split(os.pathsep) if part]
    found += config.read().data
    return list(dict.fromkeys(path.absolute() for path in found))


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """What was found of one source of a task below one root."""

    entry: Mapping[str, Any]
    root: Path
    found: Mapping[str, Path]  # key -> existing path
    missing: Mapping[str, Path]  # key -> missing path
    note: str = ""

    @property
    def complete(self) -> bool:
        return bool(self.found) and not self.missing and not self.note


def status(task: Task, roots: Sequence[Path]) -> list[SourceStatus]:
    """Every source of the task below every root, in the order in which `locate` tries them.

    Without any root every file is missing, and its path is relative to a root.
    """
    result = []
    for entry in task.data.sources:
        if "hub" in entry:
            result.append(_hub_status(entry, roots))
            continue
        for root in roots or (Path(),):
            paths = {key: root / name for key, name in _files_of(entry)}
            there = {
                key: path
                for key, path in paths.items()
                if (roots or Path(dict(_files_of(entry))[key]).is_absolute()) and door.is_there(path)
            }
            absent = {key: path for key, path in paths.items() if key not in there}
            result.append(SourceStatus(entry, root, there, absent))
    return result


def _hub_status(entry: Mapping[str, Any], roots: Sequence[Path]) -> SourceStatus:
    """A hub dataset: as a folder `org/name` below a root, in the Hugging Face cache, or streamed."""
    name, revision = str(entry["hub"]), str(entry.get("revision", ""))
    snapshot = _hub_cache() / f"datasets--{name.replace('/', '--')}" / "snapshots" / revision
    for root, folder in [*((root, name) for root in roots), (snapshot, ".")]:
        if os.path.isdir(root / folder):
            return SourceStatus({**entry, "folder": folder}, root, {"hub": root / folder}, {})
    if entry.get("stream") and not os.environ.get("HF_HUB_OFFLINE"):
        return SourceStatus(entry, Path(), {"hub": Path(f"hub:{name}@{revision[:12]}, streamed")}, {})
    how = f"hf download --repo-type dataset {name} --revision {revision}"
    return SourceStatus(entry, Path(), {}, {"hub": snapshot}, note=f"hub:{name} is not downloaded: {how}")


def _hub_cache() -> Path:
    """Where huggingface_hub keeps what it downloads."""
    if given := os.environ.get("HF_HUB_CACHE"):
        return Path(given)
    home = os.environ.get("HF_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "huggingface") / "hub"


def _files_of(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, path) of every file that an entry names; a mapping of groups to files has keys like `path.de`."""
    for key, value in entry.items():
        if key in _NO_FILES:
            continue
        if isinstance(value, Mapping):
            yield from ((f"{key}.{group}", str(name)) for group, name in value.items())
        else:
            yield key, str(value)


def places(source: Source, roots: Sequence[Path]) -> door.Places:
    """What a dataset may open: what lies in the data roots, what the task's source names itself and what is
    beside its files; of a dataset of the hub also where its cache keeps the files."""
    named = [source.root / name for _, name in _files_of(source.entry)]
    beside = [path.parent for path in named if path.is_absolute() and not os.path.isdir(path)]
    cached = [path.parent.parent for path in named if path.parent.name == "snapshots"]
    cached += [path.parents[1] for path in [source.root] if path.parent.name == "snapshots"]
    return door.places([*roots, *named, *beside, *cached])


def locate(task: Task, roots: Sequence[Path]) -> Source:
    """The first complete source of the task; all roots are tried for an entry before the next entry.

    Raises DataError that lists every missing path, where to get the data, and the licence.
    """
    states = status(task, roots)
    for state in states:
        if state.complete:
            return Source(root=state.root, entry=state.entry, task=task.name)
    tried = [", ".join(map(str, state.missing.values())) for state in states if not state.note]
    tried += [state.note for state in states if state.note]
    where = f"; get it from {task.homepage}" if task.homepage else ""
    terms = f" ({task.license})" if task.license else ""
    folder = f"--data-root, EVALKIT_DATA or data = [...] in {config.FILE}"
    files = [name for entry in task.data.sources for _, name in _files_of(entry)]
    names = [name for name in files if not Path(name).is_absolute()]
    if names and not roots:
        raise DataError(
            f"{task.name}: no data root is set; name the folder that holds {names[0]} with {folder}"
            f"{where}{terms}"
        )
    if (near := _near(task, roots)) is not None:
        raise DataError(
            f"{task.name}: data not found below {', '.join(map(str, roots))}, but below {near}: "
            f"--data-root {shlex.quote(str(near))}"
        )
    raise DataError(
        f"{task.name}: data not found; missing: {'; or '.join(dict.fromkeys(tried)) or 'any source'}{where}"
        f"{terms}; name its folder with {folder}"
    )


def _near(task: Task, roots: Sequence[Path]) -> Path | None:
    """The folder a level or two above a data root, or just below it, that holds the task's data whole: a
    dataset's own folder is often named in place of the one that it lies in."""
    for root in (root.absolute() for root in roots):
        inner = sorted(os.listdir(root))[:_ENTRIES] if os.access(root, os.R_OK) and root.is_dir() else []
        for path in (*root.parents[:2], *(root / name for name in inner)):
            if any(state.complete for state in status(task, [path])):
                return path
    return None


_ENTRIES = 50  # of a data root, which may be one themselves
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")


def below(images: Path, name: str) -> str:
    """The name below `images` of an absolute path of another machine (`C:\\data\\a.jpg`, `/home/x/a.jpg`):
    its longest end that is there. Any other name, or one that this machine opens, is returned as it is."""
    ends = moved_ends(name)
    at_last = ends[-1] if ends and _WINDOWS.match(name) else name
    return next((end for end in ends if _is_there(images, end)), at_last)


def moved_to(images: Path, name: str, moved: dict[str, str]) -> tuple[str, str]:
    """As `below`, and what is wrong with it, or '': an absolute path that leads elsewhere, or one that would
    be the same file as another, of which `moved` keeps those that were found."""
    found = below(images, name)
    if found != name and (before := moved.setdefault(found, name)) != name:
        return (
            found,
            f"is {name[:200]!r}; {found[:200]} is what {before[:200]!r} is already; give other names",
        )
    if found.startswith("/") and not found.startswith(f"{images}/"):
        return found, f"is {name[:200]!r}; it must be a name below the images folder"
    return found, ""


def moved_ends(name: str) -> list[str]:
    """The ends of an absolute path that is of another machine, the longest first; [] for any other name."""
    if _WINDOWS.match(name):
        parts = [] if os.name == "nt" else [part for part in re.split(r"[\\/]+", name) if part][1:]
    else:
        parts = name.split("/")[1:] if name.startswith("/") and not door.is_there(name) else []
    parts = [part for part in parts if part]
    return [] if ".." in parts else ["/".join(parts[n:]) for n in range(len(parts))]


def _is_there(images: Path, name: str) -> bool:
    ref = image_ref(images, name)
    return ref.member in containers.names(ref.path) if ref.member else os.path.exists(ref.path)


@functools.lru_cache(maxsize=64)
def _folder(images: Path) -> tuple[str, bool]:
    """A folder of images as text, and whether it is an archive in its place."""
    return str(images), containers.is_archive(images.name)


def image_ref(images: Path, name: str, marks: tuple[Mark, ...] = (), turn: int = 0) -> ImageRef:
    """The image `name` of a folder, or of an archive in its place (`val2014.zip`, `val2014.tar`).

    `a\\b.jpg`, as Windows writes it, is `a/b.jpg` unless a file is called so.
    """
    folder, archive = _folder(images)
    if "\\" in name and not os.path.exists(os.path.join(folder, name)):
        name = name.replace("\\", "/")
    if not archive:
        return ImageRef(os.path.join(folder, name), marks=marks, turn=turn)
    there = containers.names(str(images))
    inside = f"{images.stem}/{name}"  # archives usually hold the folder itself
    return ImageRef(str(images), inside if inside in there and name not in there else name, marks, turn)


def missing_image(path: str) -> str:
    """Why no image may be at `path`, or ''; for a message that says that there is none."""
    name = os.path.basename(path)
    if "data:image/" in path or len(name) > 255:
        return "; that is no file name but the image itself: save it as a file and write its name"
    if "://" in path:
        return "; that is an address: download the images and write their file names"
    try:
        there = os.listdir(os.path.dirname(path) or ".")
    except OSError:
        return ""
    alike = [each for each in there if each.strip().casefold() == name.strip().casefold()]
    return f"; there is {alike[0]!r} instead of {name!r}" if alike else ""


def missing(paths: Iterable[str]) -> str:
    """The same of the first of some paths of which it is known."""
    return next(filter(None, map(missing_image, itertools.islice(paths, _LOOKED))), "")


def read_bytes(ref: ImageRef) -> bytes:
    """The bytes of an image file, or of a member of an archive, table or video. Raises ImageError with the
    path."""
    allowed = ref.within or None
    try:
        with door.guarded(ref, kind=ImageError):
            if not ref.member:
                return door.read(ref.path, MAX_IMAGE_BYTES, allowed)
            return containers.read(ref.path, ref.member, MAX_IMAGE_BYTES, allowed)
    except ImageError:
        raise
    except DataError as error:  # the archive itself
        raise ImageError(str(error).replace(ref.path, str(ref), 1)) from None


def frame_refs(
    videos: Path, name: str, count: int, stride: int, start: float = 0.0, end: float = 0.0
) -> tuple[ImageRef, ...]:
    """`count` frames of one video, every `stride`-th from its beginning; a short video is repeated.

    Either `videos/<name>` is a folder of frame images, in the order of their names, or `videos/<name>.mp4`
    (any suffix of `containers.VIDEOS`) is a video, of which only `start` to `end` seconds are used.
    """
    folder = videos / name
    if os.path.isdir(folder):
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in _FRAMES)[::stride][:count]
        if files:
            return tuple(ImageRef(str(files[i])) for i in containers.frame_order(len(files), count))
    suffixes = (
        ["", *containers.VIDEOS] if folder.suffix.lower() in containers.VIDEOS else [*containers.VIDEOS]
    )
    file = next((f for s in suffixes if os.path.isfile(f := videos / f"{name}{s}")), videos / f"{name}.mp4")
    part = f"@{start:g}-{end:g}" if end else ""
    return tuple(ImageRef(str(file), f"{i}/{count}x{stride}{part}") for i in range(count))
