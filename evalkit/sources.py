"""Finds a task's files below the data roots, opens them (files, zip members) and hashes them once.

Knows no dataset's form: what a file means is its format's business.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import gc
import hashlib
import json
import os
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit import members
from evalkit.errors import DataError, ImageError, UserError
from evalkit.types import ImageRef, Mark, Source, Task

CONFIG = "evalkit.toml"
MAX_IMAGE_BYTES = 1 << 30  # a larger image file, or zip member, is refused unread
_FRAMES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm")
_NO_FILES = ("format", "name", "split", "revision", "stream", "rows")  # keys of a source that name none


# --- where data may lie ------------------------------------------------------------------------


def roots(given: Sequence[Path] | None = None) -> list[Path]:
    """Data roots in order: `given` (--data-root), EVALKIT_DATA (os.pathsep between), `evalkit.toml`.

    A `given` root that is no folder is an error; the others may come and go.
    """
    for root in given or ():
        if not root.is_dir():
            raise DataError(f"{root}: --data-root: no such folder; give the folder that holds the datasets")
    found = [*(given or ())]
    found += [
        Path(part).expanduser() for part in os.environ.get("EVALKIT_DATA", "").split(os.pathsep) if part
    ]
    found += _configured(Path.cwd())
    return list(dict.fromkeys(path.absolute() for path in found))


def _configured(start: Path) -> list[Path]:
    """The `data = [...]` of the nearest evalkit.toml upwards; relative entries lie beside that file."""
    for folder in (start, *start.parents):
        path = folder / CONFIG
        if not path.is_file():
            continue
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {error}; it must be TOML like data = ['/datasets']") from None
        for key in content:
            if key != "data":
                raise DataError(f"{path}: {key}: unknown key; the only one is data = ['/datasets']")
        listed = content.get("data", [])
        if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
            raise DataError(f"{path}: data: is no list of folders; write data = ['/datasets']")
        return [folder / Path(entry).expanduser() for entry in listed]
    return []


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One entry of a task's sources as looked for below one root."""

    entry: Mapping[str, Any]
    root: Path
    found: Mapping[str, Path]  # key -> the path that is there
    missing: Mapping[str, Path]  # key -> the path that is not
    note: str = ""

    @property
    def complete(self) -> bool:
        return bool(self.found) and not self.missing and not self.note


def status(task: Task, roots: Sequence[Path]) -> list[SourceStatus]:
    """Every source of the task below every root, in the order in which `locate` tries them.

    Without any root every file is missing, named as it would lie below one.
    """
    result = []
    for entry in task.data.sources:
        if "hub" in entry:
            result.append(_hub_status(entry, roots))
            continue
        for root in roots or (Path(),):
            paths = {key: root / name for key, name in _files_of(entry)}
            there = {key: path for key, path in paths.items() if roots and path.exists()}
            absent = {key: path for key, path in paths.items() if key not in there}
            result.append(SourceStatus(entry, root, there, absent))
    return result


def _hub_status(entry: Mapping[str, Any], roots: Sequence[Path]) -> SourceStatus:
    """A hub dataset: as a folder `org/name` below a root, in the Hugging Face cache, or streamed."""
    name, revision = str(entry["hub"]), str(entry.get("revision", ""))
    snapshot = _hub_cache() / f"datasets--{name.replace('/', '--')}" / "snapshots" / revision
    for root, folder in [*((root, name) for root in roots), (snapshot, ".")]:
        if (root / folder).is_dir():
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
    """(key, path) of what an entry names; a mapping of groups to files has a key each, `path.de`."""
    for key, value in entry.items():
        if key in _NO_FILES:
            continue
        if isinstance(value, Mapping):
            yield from ((f"{key}.{group}", str(name)) for group, name in value.items())
        else:
            yield key, str(value)


def locate(task: Task, roots: Sequence[Path]) -> Source:
    """The first source of the task that is wholly there; entries come before roots.

    Raises DataError listing every path that is missing, where to get the data and the licence.
    """
    looked = status(task, roots)
    for state in looked:
        if state.complete:
            return Source(root=state.root, entry=state.entry, task=task.name)
    tried = [str(path) for state in looked for path in state.missing.values() if not state.note]
    tried += [state.note for state in looked if state.note]
    where = f"; get it from {task.homepage}" if task.homepage else ""
    terms = f" ({task.license})" if task.license else ""
    folder = f"--data-root, EVALKIT_DATA or data = [...] in {CONFIG}"
    if not roots:
        names = [str(name) for entry in task.data.sources for name in entry.values()]
        raise DataError(
            f"{task.name}: no data root is set; name the folder that holds {names[0]} with {folder}"
            f"{where}{terms}"
        )
    raise DataError(
        f"{task.name}: data not found; missing: {', '.join(dict.fromkeys(tried)) or 'any source'}{where}"
        f"{terms}; name its folder with {folder}"
    )


# --- opening -----------------------------------------------------------------------------------


def read_json(path: Path, keep: Callable[[dict[str, Any]], bool] | None = None) -> Any:
    """A whole JSON file (UTF-8, byte order mark allowed); DataError with the line for anything wrong.

    Objects that `keep` turns down become None as soon as they are read, so that a few thousand
    annotations of COCO's 860,000 don't need memory for all.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start}: is not UTF-8; save the file as UTF-8 JSON") from None
    return parse_json(text, str(path), keep=keep)


def parse_json(
    text: str, where: str, line: int | None = None, keep: Callable[[dict[str, Any]], bool] | None = None
) -> Any:
    """JSON text to plain data; `line` is said in errors when the text is one line of a file."""
    if not text.strip():
        raise DataError(f"{where}: {'' if line is None else f'line {line}: '}is empty; it must hold JSON")
    collecting = gc.isenabled()
    gc.disable()  # a large file makes millions of objects and no cycles: collections would only cost time
    try:
        return json.loads(text, object_pairs_hook=functools.partial(_object, keep=keep) if keep else _object)
    except json.JSONDecodeError as error:
        at, problem = error.lineno if line is None else line, f"{error.msg} at column {error.colno}"
    except RecursionError:
        at, problem = line or 1, "is nested too deeply"
    except ValueError as error:  # a key twice, or an integer of thousands of digits
        at, problem = line or 1, str(error).split(";")[0]
    finally:
        if collecting:
            gc.enable()
    raise DataError(f"{where}: line {at}: is no valid JSON: {problem}")


def _object(
    pairs: list[tuple[str, Any]], keep: Callable[[dict[str, Any]], bool] | None = None
) -> dict[str, Any] | None:
    """Refuses a key said twice: json alone would silently keep the last."""
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return result if keep is None or keep(result) else None


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The lines of a JSON lines file as (line number from 0, data); blank lines are passed over."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file):
                try:
                    text = raw.decode("utf-8-sig" if number == 0 else "utf-8")
                except UnicodeDecodeError:
                    raise DataError(f"{path}: line {number + 1}: is not UTF-8; save it as UTF-8") from None
                if text.strip():
                    yield number, parse_json(text, str(path), number + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def read_table(path: Path, delimiter: str = ",") -> Iterator[tuple[int, dict[str, str]]]:
    """A CSV file's rows as (number, cells by the header's names); DataError for rows of another length."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=delimiter, strict=True)
            head = next(rows, None)
            if not head:
                raise DataError(f"{path}: is empty; it must be CSV with a header line")
            for number, row in enumerate(rows, 2):
                if row and len(row) != len(head):
                    raise DataError(f"{path}: row {number}: has {len(row)} cells, the header {len(head)}")
                if row:
                    yield number, dict(zip(head, row, strict=True))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start}: is not UTF-8; save the file as UTF-8 CSV") from None
    except csv.Error as error:
        raise DataError(f"{path}: is no valid CSV ({error})") from None


def image_ref(images: Path, name: str, marks: tuple[Mark, ...] = (), turn: int = 0) -> ImageRef:
    """The image `name` of a folder, or of an archive that stands for one (`val2014.zip`, `val2014.tar`)."""
    if not members.is_archive(images.name):
        return ImageRef(os.path.join(images, name), marks=marks, turn=turn)
    there = members.names(str(images))
    inside = f"{images.stem}/{name}"  # archives usually hold the folder itself
    return ImageRef(str(images), inside if inside in there and name not in there else name, marks, turn)


def read_bytes(ref: ImageRef) -> bytes:
    """The bytes of an image file, or of a member of an archive, table or video. ImageError names the path."""
    try:
        if not ref.member:
            with open(ref.path, "rb") as file:
                if os.fstat(file.fileno()).st_size > MAX_IMAGE_BYTES:
                    raise ImageError(f"{ref}: is larger than 1 GiB; this is no image to evaluate on")
                return file.read()
        return members.read(ref.path, ref.member, MAX_IMAGE_BYTES)
    except (KeyError, IndexError):
        raise ImageError(f"{ref}: the archive holds no such member") from None
    except OSError as error:
        raise ImageError(f"{ref}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile) as error:
        raise ImageError(f"{ref}: cannot be read ({error})") from None
    except ImageError:
        raise
    except DataError as error:  # the archive itself
        raise ImageError(str(error).replace(ref.path, str(ref), 1)) from None
    except UserError:  # a package that is missing
        raise
    except Exception as error:  # zlib.error, lzma.LZMAError: whatever a damaged member makes
        raise ImageError(f"{ref}: is damaged ({error})") from None


def frame_refs(
    videos: Path, name: str, count: int, stride: int, start: float = 0.0, end: float = 0.0
) -> tuple[ImageRef, ...]:
    """`count` frames of one video, every `stride`-th from its beginning; a short one is played again.

    `videos/<name>` is a folder of frame images, in the order of their names, or `videos/<name>.mp4`
    (any suffix of `members.VIDEOS`) a video, of which only the part from `start` to `end` seconds.
    """
    folder = videos / name
    if folder.is_dir():
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in _FRAMES)[::stride][:count]
        if files:
            return tuple(ImageRef(str(files[i])) for i in members.frame_order(len(files), count))
    suffixes = ["", *members.VIDEOS] if folder.suffix.lower() in members.VIDEOS else [*members.VIDEOS]
    file = next((f for s in suffixes if (f := videos / f"{name}{s}").is_file()), videos / f"{name}.mp4")
    part = f"@{start:g}-{end:g}" if end else ""
    return tuple(ImageRef(str(file), f"{i}/{count}x{stride}{part}") for i in range(count))


# --- hashing -----------------------------------------------------------------------------------


def file_digest(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """sha256 of a file, remembered by path, size, mtime and inode; `progress` hears of bytes read."""
    path = path.resolve()
    try:
        known = remembered_digest(path)
        if known:
            return known
        before, digest = path.stat(), hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            while block := file.read(1 << 22):
                digest.update(block)
                if progress:
                    progress(len(block))
        after = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    # A file still being written, or so young that a later write could keep its time, isn't remembered.
    if _key(before) == _key(after) and time.time_ns() - after.st_mtime_ns > 2_000_000_000:
        _remember(path, {"path": str(path), "key": _key(after), "sha256": digest.hexdigest()})
    return digest.hexdigest()


def remembered_digest(path: Path) -> str | None:
    """The digest if this very file was hashed before, without reading it (`hashing ...` is said if not)."""
    path = path.resolve()
    try:
        entry = json.loads(_memory(path).read_bytes())
        if entry["path"] == str(path) and entry["key"] == _key(path.stat()):
            return str(entry["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # absent or damaged: hash again
        pass
    return None


def spool(data: bytes) -> Path:
    """Keeps an image that came over the network as a file of the cache, named by its content."""
    target = cache_folder() / "images" / hashlib.sha256(data).hexdigest()
    if not target.is_file():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".tmp", delete=False) as file:
                file.write(data)
            os.replace(file.name, target)
        except OSError as error:
            raise DataError(f"{target}: cannot be written ({error.strerror}); set EVALKIT_CACHE") from None
    return target


def cache_folder() -> Path:
    """$EVALKIT_CACHE, or evalkit's folder in the user's cache."""
    given = os.environ.get("EVALKIT_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evalkit"


def _key(stat: os.stat_result) -> list[int]:
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def _memory(path: Path) -> Path:
    """One small file for each remembered path, so that writers never meet in one."""
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
    return cache_folder() / "digests" / f"{name}.json"


def _remember(path: Path, entry: Mapping[str, Any]) -> None:
    """Written whole under another name, then renamed; a cache that can't be written is no error."""
    target = _memory(path)
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=target.parent, suffix=".tmp", delete=False) as file:
            json.dump(entry, file)
        os.replace(file.name, target)
