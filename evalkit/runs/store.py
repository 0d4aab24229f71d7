"""What a run leaves on disk: journals, run.json, rows, scores; no other code writes these files.

Handles files and their damage; does not predict or score. `results/README.md` lists every file
and column.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from evalkit.errors import ResultsError
from evalkit.files import _refusals, atomic_write
from evalkit.types import Prediction, Score

SCHEMA = 1  # raised when a file's meaning changes; older ones are migrated on reading
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From each schema to the next; schema 1 is the first, so there are none yet."""
SYNC_SECONDS = 2.0  # a power cut loses at most this much work


@dataclass(frozen=True, slots=True)
class Entry:
    """A journal line: the prediction and a stamp for each of its images, a quick first check on resume.

    Lines of older runs hold (bytes, mtime) of each file instead; that proves nothing and is left out.
    """

    prediction: Prediction
    stamps: tuple[str, ...] = ()


def _dump(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, indent=1, sort_keys=False) + "\n"


# --- one run -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunFolder:
    """`results/<run>/`: run.json, predictions/<part>.jsonl, rows.jsonl, scores.json."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    def read_run(self) -> dict[str, Any] | None:
        """run.json, or None when there is none. Raises ResultsError when it is damaged."""
        return _read_json(self.path / "run.json")

    def write_run(self, content: Mapping[str, Any]) -> None:
        atomic_write(self.path / "run.json", _dump({"schema": SCHEMA, **content}))

    def read_scores(self) -> dict[str, Any] | None:
        """scores.json, or None when the run is not scored yet."""
        return _read_json(self.path / "scores.json")

    def write_scores(
        self,
        scores: Sequence[Score],
        inputs: str,
        not_scored: Mapping[str, str],
        used: Mapping[str, str] | None = None,
    ) -> None:
        """Writes scores.json; `inputs` is the digest of everything that the scores were computed from, but
        for the files that own parsers and metrics have read: `used`, with their digests."""
        plain = [dataclasses.asdict(s) for s in scores]
        content = {"schema": SCHEMA, "inputs": inputs, "scores": plain, "not_scored": dict(not_scored)}
        content |= {"used": dict(used)} if used else {}
        atomic_write(self.path / "scores.json", _dump(content))

    def write_rows(self, lines: Iterable[Mapping[str, Any]]) -> None:
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        atomic_write(self.path / "rows.jsonl", text)

    def read_rows(self) -> list[dict[str, Any]]:
        path = self.path / "rows.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]

    def entries(self) -> dict[str, Entry]:
        """The journal's entries by sample id, the last one for each id; damaged lines are dropped."""
        found: dict[str, Entry] = {}
        for part in sorted((self.path / "predictions").glob("*.jsonl")):
            with open(part, "rb") as file:
                for line in file:
                    entry = _decode(line)
                    if entry is not None:
                        found[entry.prediction.id] = entry
        return found

    @property
    def kept(self) -> bool:
        """Whether it is to be kept: a baseline was made of it, or someone ran `evalkit runs keep`."""
        return (self.path / "keep").exists()

    def keep(self) -> None:
        atomic_write(self.path / "keep", "kept: `evalkit runs gc` and `rm` leave this run alone\n")

    def remove(self) -> None:
        """Removes the folder. Raises ResultsError while another process writes it."""
        if (self.path / "predictions").is_dir():
            for part in (self.path / "predictions").glob("*.jsonl"):
                with Journal(part):
                    pass
        with _refusals(self.path):
            shutil.rmtree(self.path)

    def journal(self, part: str = "0") -> Journal:
        return Journal(self.path / "predictions" / f"{part}.jsonl")


def scores_of(folder: RunFolder) -> list[Score]:
    """The scores of a run as objects; [] when it is not scored."""
    content = folder.read_scores()
    return [Score(**s) for s in content["scores"]] if content else []


def not_scored_of(folder: RunFolder) -> dict[str, str]:
    """The metrics of a scored run that have no score, and why."""
    return dict((folder.read_scores() or {}).get("not_scored", {}))


def find(paths: Iterable[Path]) -> list[RunFolder]:
    """The run folders given, and all runs below folders of runs, in order of name."""
    found: dict[Path, RunFolder] = {}
    for path in paths:
        if not path.exists():
            raise ResultsError(f"{path}: no such folder; `evalkit list runs` shows what there is")
        if path.name == "run.json":
            path = path.parent
        runs = [path] if (path / "run.json").is_file() else [p.parent for p in sorted(path.rglob("run.json"))]
        found.update((run, RunFolder(run)) for run in runs)
    return list(found.values())


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise ResultsError(f"{path.parent}: is a file; a run is a folder") from None
    except (ValueError, OSError) as error:
        raise ResultsError(f"{path}: damaged ({error}); move it away and run again") from None
    if not isinstance(content, dict) or not isinstance(content.get("schema"), int):
        raise ResultsError(f"{path}: not a file of evalkit's; choose another folder")
    if content["schema"] > SCHEMA:
        raise ResultsError(f"{path}: written by a newer evalkit (schema {content['schema']}); update evalkit")
    while content["schema"] < SCHEMA:
        step = MIGRATIONS.get(content["schema"])
        if step is None:
            raise ResultsError(
                f"{path}: schema {content['schema']} is too old to be read; run again into another folder"
            )
        content = {**step(content), "schema": content["schema"] + 1}
    return content


# --- journals ------------------------------------------------------------------------------------


class Journal:
    """Append-only predictions with a checksum per line; one writer at a time, synced every 2 s.

    Use as a context manager. Raises ResultsError when another process is writing the same part.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._synced = 0.0

    def __enter__(self) -> Journal:
        with _refusals(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = open(self.path, "ab+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise ResultsError(
                f"{self.path}: another process is writing this run; wait for it, or use another --output_path"
            ) from None
        self._file = file
        self._end_last_line(file)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._sync(self._file)
            self._file.close()
            self._file = None

    @staticmethod
    def _end_last_line(file: IO[bytes]) -> None:
        """Ends a line that was cut off by a kill, so that the next entry starts on its own line."""
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")

    def write(self, entry: Entry) -> None:
        assert self._file is not None, "a journal is written inside `with`"
        with _refusals(self.path):
            self._file.write(_encode(entry))
            self._file.flush()  # a killed process loses nothing; a power cut at most SYNC_SECONDS
            if time.monotonic() - self._synced > SYNC_SECONDS:
                self._sync(self._file)

    def _sync(self, file: IO[bytes]) -> None:
        file.flush()
        os.fsync(file.fileno())
        self._synced = time.monotonic()


_DEFAULTS = {f.name: f.default for f in dataclasses.fields(Prediction)}


def _encode(entry: Entry) -> bytes:
    """One line: the prediction without fields at their defaults, the stamps, and a crc32 at the end."""
    content = {k: v for k, v in dataclasses.asdict(entry.prediction).items() if v != _DEFAULTS[k]}
    content |= {"stamps": entry.stamps} if entry.stamps else {}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))[:-1].encode()
    return text + b',"crc":"%08x"}\n' % zlib.crc32(text)


def _decode(line: bytes) -> Entry | None:
    """The entry of a journal line, or None when the line is cut off or damaged."""
    text, mark, tail = line.rpartition(b',"crc":"')
    if not mark or tail != b'%08x"}\n' % zlib.crc32(text):
        return None
    content = json.loads(text + b"}")
    stamps = tuple(s for s in content.pop("stamps", ()) if isinstance(s, str))
    for key in ("tokens", "logprobs", "image_digests"):
        if content.get(key) is not None:
            content[key] = tuple(content[key])
    content["sizes"] = tuple((h, w) for h, w in content.get("sizes", ()))
    return Entry(Prediction(**content), stamps)
