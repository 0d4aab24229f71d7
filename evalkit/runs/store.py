"""What a run leaves on disk: journals, run.json, rows, scores; no other code writes these files.

Handles files and their damage; does not predict or score. `results/README.md` lists every file
and column.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import Damaged, ResultsError
from evalkit.files import atomic_file, atomic_write, encoded, json_text, lines, refusals
from evalkit.runs import journal, sealed
from evalkit.runs.journal import Answers, Journal
from evalkit.runs.journal_lines import Entry
from evalkit.runs.kinds import Kind, anything, each, flag, mapping, number, optional, record, text, whole
from evalkit.types import Score

JOURNALS = "predictions"  # the folder of a run's journals
OLD = "an older evalkit stored no number; `evalkit score` says why"
AGAIN = "the `evalkit run` command that made it, said again, asks for them again"
RUN = "the `evalkit run` command that made it, said again, writes it anew and keeps what was answered"
_TASK = record({"path": text, "overrides": mapping(text), "data": mapping(anything)})
_ASKED = record({"limit": optional(whole), "seed": whole, "ids": optional(each(text))})
_RUN_FILE = record(
    {"task": text, "model": text, "digest": text, "identity": record({"model": mapping(anything)}),
     "asked": _ASKED, "task_file": _TASK, "source": record({"root": text})},
    {"name": text, "sessions": each(mapping(anything)), "used": mapping(text), "bad_images": mapping(text),
     "early": optional(mapping(anything)), "data": mapping(each(text)), "unsealed": mapping(whole)},
)  # fmt: skip
_SCORE = record(
    {"task": text, "metric": text, "signature": text, "value": number, "low": optional(number),
     "high": optional(number), "n": whole, "clusters": whole, "coverage": text, "invalid": whole},
    {"groups": mapping(mapping(optional(number))), "details": mapping(optional(number)),
     "lower_is_better": flag, "remarks": mapping(whole),
     "breakdowns": mapping(mapping(mapping(number)))},
)  # fmt: skip
_SCORES_FILE = record(
    {"inputs": text, "scores": each(_SCORE), "not_scored": mapping(text)},
    {"used": mapping(text)},
)
_ROW = record(
    {"id": text, "group": text, "image": text, "text": text, "answer": anything, "rows": mapping(anything)},
    {"cluster": text, "invalid": flag},
)


# --- one run -------------------------------------------------------------------------------------


def task_file(output: Path, name: str) -> Path:
    """Where the file of a task that was made for a run is kept."""
    return output / "tasks" / f"{name}.yaml"


def keep_task(path: Path, text: str) -> None:
    """Writes the file of a task that was made for a run."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        atomic_write(path, text)


def forget_tasks(paths: Iterable[Path], folders: Iterable[Path]) -> None:
    """Takes away such files, and of the folders, inner ones first, those that are empty now."""
    for path in paths:
        path.unlink(missing_ok=True)
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


State = tuple[tuple[str, int, int], ...]
"""Name, bytes and time in ns of each file that decides what of a run is done."""


@dataclass(frozen=True)
class RunFolder:
    """`results/<run>/`: run.json, predictions/<part>.jsonl, rows.jsonl, scores.json."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    def read_run(self) -> dict[str, Any] | None:
        """run.json, or None when there is none; its `seal` is '' where an older evalkit wrote it. Raises
        Damaged where it is."""
        path = self.path / "run.json"
        return _shaped(_RUN_FILE, path, sealed.read(path, RUN, True), RUN)

    def write_run(self, content: Mapping[str, Any]) -> None:
        sealed.write(self.path / "run.json", content)

    def read_scores(self, run: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """scores.json, or None when the run is not scored yet. Raises Damaged where it is, or is not of
        this `run`."""
        path = self.path / "scores.json"
        found = _shaped(_SCORES_FILE, path, sealed.read(path, self.remedy), self.remedy)
        if found is not None and run is not None and found.get("run", run["digest"]) != run["digest"]:
            raise Damaged(f"{path}: is of another run; {self.remedy}")
        return found

    @property
    def remedy(self) -> str:
        return f"`evalkit score {self.path}` writes it again"

    def write_scored(
        self, digest: str, rows: Iterable[Mapping[str, Any]], scores: Sequence[Score], inputs: str,
        not_scored: Mapping[str, str], used: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Writes rows.jsonl and scores.json of the run with this digest; `inputs` is the digest of everything
        that the scores were computed from, but for the files that own parsers and metrics have read: `used`,
        with their digests."""
        content: dict[str, Any] = {"run": digest, "rows": self._write_rows(rows), "inputs": inputs}
        content |= {"scores": [dataclasses.asdict(s) for s in scores], "not_scored": dict(not_scored)}
        content |= {"used": dict(used)} if used else {}
        sealed.write(self.path / "scores.json", content)

    def _write_rows(self, rows: Iterable[Mapping[str, Any]]) -> str:
        """Writes rows.jsonl, and returns the digest of its bytes."""
        digest = hashlib.sha256()
        with atomic_file(self.path / "rows.jsonl") as file:
            for row in rows:
                data = encoded(json_text(row) + "\n")
                digest.update(data)
                file.write(data)
        return digest.hexdigest()

    def read_rows(self) -> list[dict[str, Any]]:
        """The lines of rows.jsonl, as `each_row` reads them."""
        return list(self.each_row())

    def each_row(self) -> Iterator[dict[str, Any]]:
        """The lines of rows.jsonl, one after the other. Raises Damaged unless they are those that scores.json
        was written with; of an older evalkit's only a line that cannot be read is noticed."""
        path, scores = self.path / "rows.jsonl", self.read_scores() or {}
        if not self.has_rows(scores):
            raise Damaged(f"{path}: is not the one that was scored; {self.remedy}")
        kind = anything if "rows" in scores else _ROW
        try:
            for number, line in lines(path):
                yield _row(kind, number, line)
        except (OSError, ValueError, RecursionError) as error:
            raise Damaged(f"{path}: damaged ({error}); {self.remedy}") from None

    def has_rows(self, scores: Mapping[str, Any]) -> bool:
        """Whether rows.jsonl is the one that scores.json was written with; an older one does not say."""
        try:
            with open(self.path / "rows.jsonl", "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return False
        return bool(scores.get("rows", found) == found)

    def answers(self, digest: str, run: Mapping[str, Any] | None) -> Answers:
        """The journals' answers that are of the run with this digest, `run` being its run.json: the last one
        for each sample. Damaged lines are dropped, those of other runs left aside."""
        return journal.read(self.path / JOURNALS, digest, self._unsealed(digest, run))

    def each_answer(self, run: Mapping[str, Any]) -> Iterator[Entry]:
        """What `answers` reads, a line after the other, in such an order that of several for one sample the
        last one counts; `run` is run.json."""
        unsealed = self._unsealed(run["digest"], run)
        return journal.every_line(self.path / JOURNALS, run["digest"], unsealed)

    def is_answered(self, run: Mapping[str, Any] | None) -> bool:
        """Whether `answers` would have one; `run` is run.json."""
        if run is None:
            return False
        return journal.any_of(self.path / JOURNALS, run["digest"], self._unsealed(run["digest"], run))

    def entries(self) -> Mapping[str, Entry]:
        """The run's answers by sample id, as `answers` says; none where there is no run.json."""
        run = self.read_run()
        return self.answers(run["digest"], run).entries if run else {}

    def state(self) -> State:
        """The state of run.json and the journals: another one when a process has written since."""
        found = []
        for path in (self.path / "run.json", *journal.parts(self.path / JOURNALS)):
            with contextlib.suppress(OSError):
                stat = path.stat()
                found.append((path.name, stat.st_size, stat.st_mtime_ns))
        return tuple(found)

    def set_run_aside(self) -> None:
        """Renames a damaged run.json, whose sessions may still be read by eye."""
        with refusals(self.path), contextlib.suppress(FileNotFoundError):
            (self.path / "run.json").rename(self.path / "run.json.damaged")

    def unsealed(self, digest: str, run: Mapping[str, Any] | None) -> dict[str, int]:
        """How many bytes of each journal an older evalkit wrote, whose checksums name no run; later lines
        must. To be recorded in run.json before a journal is gone on with."""
        known = self._unsealed(digest, run)
        if known is not None:
            return dict(known)
        return {p.name: p.stat().st_size for p in journal.parts(self.path / JOURNALS)}

    def _unsealed(self, digest: str, run: Mapping[str, Any] | None) -> Mapping[str, int] | None:
        """As `unsealed`, None where all journals may be older. Of a damaged run.json it is enough that it
        still holds the whole digest: the folder is this run's."""
        if run is not None:
            return run.get("unsealed", {}) if run["seal"] else None
        try:
            return None if digest.encode() in (self.path / "run.json").read_bytes() else {}
        except OSError:
            return {}

    @property
    def kept(self) -> bool:
        """Whether it is to be kept: a baseline was made of it, or someone ran `evalkit runs keep`."""
        return (self.path / "keep").exists()

    def keep(self) -> None:
        atomic_write(self.path / "keep", "kept: `evalkit runs gc` and `rm` leave this run alone\n")

    def remove(self) -> None:
        """Removes the folder. Raises ResultsError while another process writes it."""
        for part in journal.parts(self.path / JOURNALS):
            with Journal(part, ""):
                pass
        with refusals(self.path):
            shutil.rmtree(self.path)

    def journal(self, digest: str, part: str = "0") -> Journal:
        """The journal to which the run with this digest appends."""
        return Journal(self.path / JOURNALS / f"{part}.jsonl", digest)


@dataclass(frozen=True, slots=True)
class Results:
    """What scores.json says, read once."""

    scores: list[Score]
    not_scored: dict[str, str]  # the metrics without a score, and why


def results_of(folder: RunFolder, run: Mapping[str, Any] | None = None) -> Results:
    """The scores of a run as objects; none when it is not scored. `run` is its run.json, where it is read.
    Older files may hold NaN, which is no score."""
    content = folder.read_scores(run) or {"scores": []}
    old = {s["metric"]: OLD for s in content["scores"] if not math.isfinite(s["value"])}
    try:
        found = [Score(**s) for s in content["scores"] if math.isfinite(s["value"])]
    except TypeError:  # a key that this version does not know
        path = folder.path / "scores.json"
        raise Damaged(f"{path}: is of another version of evalkit; {folder.remedy}") from None
    return Results(found, {**content.get("not_scored", {}), **old})


def scores_of(folder: RunFolder, run: Mapping[str, Any] | None = None) -> list[Score]:
    """The scores alone, as `results_of` reads them."""
    return results_of(folder, run).scores


def not_scored_of(folder: RunFolder) -> dict[str, str]:
    """The metrics of a scored run that have no score, and why."""
    return results_of(folder).not_scored


def find(paths: Iterable[Path]) -> list[RunFolder]:
    """The run folders given, and all runs below folders of runs, in order of name."""
    found: dict[Path, RunFolder] = {}
    for path in paths:
        if not path.exists():
            raise ResultsError(f"{path}: no such folder; `evalkit list runs` shows what there is")
        if path.name == "run.json":
            path = path.parent
        if path.is_file():
            raise ResultsError(
                f"{path}: is a file, no run folder; give the folder of the run (`evalkit compare` and "
                "`check` read baseline files too)"
            )
        runs = [path] if (path / "run.json").is_file() else _below(path)
        if not runs and (path / JOURNALS).is_dir():
            raise ResultsError(f"{path}: its run.json is gone; {RUN}")
        found.update((run, RunFolder(run)) for run in runs)
    return list(found.values())


def _below(path: Path) -> list[Path]:
    """The run folders below a folder, in order of name; `Path.rglob` takes five times as long. Folders of
    journals hold none."""
    found = []
    for folder, inner, files in os.walk(path):
        if "run.json" in files or "run.json" in inner:
            found.append(folder)
            inner[:] = [name for name in inner if name != JOURNALS]
    found.sort(key=lambda folder: [*folder.split(os.sep), "run.json"])  # as the paths of the files
    return [Path(folder) for folder in found if os.path.exists(os.path.join(folder, "run.json"))]


def _row(kind: Kind, number: int, line: str) -> dict[str, Any]:
    """A line of rows.jsonl. Raises ValueError for none."""
    content: dict[str, Any] = json.loads(line)
    try:
        kind(content)
    except TypeError as error:
        raise ValueError(f"line {number}: {error or 'no row'}") from None
    return content


def _shaped(kind: Kind, path: Path, content: dict[str, Any] | None, remedy: str) -> dict[str, Any] | None:
    """The content of a file. Raises Damaged where it has no seal and its values are of other kinds."""
    try:
        if content is not None and not content["seal"]:
            kind(content)
    except TypeError as error:
        raise Damaged(f"{path}: {error}: is missing or damaged; {remedy}") from None
    return content
