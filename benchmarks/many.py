"""Very many samples and very many runs: CPU time and peak memory of whole commands, each in its own process.

    python -m benchmarks.many [--samples 100000] [--runs 6000] [--against CHECKOUT] [--only score table]

Data and runs are generated in a temporary folder. `--against` takes turns with the code of another checkout,
whose output must be the same. Memory is what the system counted, so this runs on Linux. Status 1 where a
command needs more than its limit, or prints something else than the other code.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from PIL import Image

from evalkit.runs import sealed, store
from evalkit.runs.journal_lines import Entry
from evalkit.runs.store import RunFolder

HERE = Path(__file__).resolve().parent.parent
QUESTIONS = 5  # about each image
MIB = 1 << 20
MEMORY = 600 * MIB  # for a million samples
SECONDS = 3.0  # for 6,000 runs
TASK = """version: 1
about: generated questions
license: none
data: {format: jsonl, split: all, sources: [{path: data.jsonl, images: images}]}
prompt: "answer en {question}"
image: {resize: bilinear}
decode: {max_new_tokens: 8}
parser: text
metrics: [vqa_accuracy, exact_match]
"""


# --- what is generated -------------------------------------------------------------------------------


def samples(folder: Path, count: int) -> None:
    """Data, its task, and the answers of two models that are right about two times of three."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 9))) for _ in range(3000)]
    (folder / "images").mkdir()
    (folder / "many.yaml").write_text(TASK, encoding="utf-8")
    with (
        open(folder / "data.jsonl", "w", encoding="utf-8") as data,
        open(folder / "first.jsonl", "w", encoding="utf-8") as first,
        open(folder / "second.jsonl", "w", encoding="utf-8") as second,
    ):
        for i in range(count):
            image = f"COCO_val2014_{i // QUESTIONS:012d}.png"
            if i % QUESTIONS == 0:
                Image.new("L", (8 + i % 7, 8 + i % 11), i % 256).save(folder / "images" / image)
            word = words[min(int(draw.expovariate(0.01)), len(words) - 1)]
            answers = [word if draw.random() < 0.8 else draw.choice(words) for _ in range(10)]
            question = " ".join(draw.choices(words, k=6)) + "?"
            line = {"id": str(500_000_000 + 7 * i), "image": image, "question": question, "answers": answers}
            data.write(json.dumps(line) + "\n")
            for out in (first, second):
                text = word if draw.random() < 0.66 else draw.choice(words)
                out.write(json.dumps({"id": line["id"], "text": text}) + "\n")


def runs(folder: Path, count: int) -> None:
    """Copies of one scored run as runs of 60 tasks, and of all checkpoints that this makes, a tenth of them
    run twice."""
    whole = folder / "one"
    whole.mkdir()
    samples(whole, 2 * QUESTIONS)
    evalkit(HERE, whole, ["run", "--model", "replay:first.jsonl", "--tasks", "many.yaml", "--data-root", "."])
    one = RunFolder(next((whole / "results").glob("many.*")))
    run, scores, rows = one.read_run(), one.read_scores(), (one.path / "rows.jsonl").read_bytes()
    assert run is not None
    assert scores is not None
    answers = one.entries()
    for i in range(count):
        again = i >= 60 and i % 10 == 9
        number = i - 60 if again else i
        task, model = f"task_{number % 60:02d}_val", f"checkpoint-{number // 60:05d}00"
        digest = f"{i * 2654435761 % 2**32:08x}" + "0" * 56
        to = RunFolder(folder / "results" / f"{task}.{model}.{digest[:8]}")
        session = {**run["sessions"][-1], "started": f"2026-01-01T00:{i // 60 % 60:02d}:{i % 60:02d}+00:00"}
        sealed.write(to.path / "run.json", {
            **run, "name": to.name, "task": task, "model": model, "digest": digest, "sessions": [session],
            "identity": {**run["identity"], "again": again,
                         "model": {**run["identity"]["model"], "answers": model}},
        })  # fmt: skip
        sealed.write(to.path / "scores.json", {
            **scores, "run": digest, "scores": [{**_older(s), "task": task} for s in scores["scores"]],
        })  # fmt: skip
        (to.path / "rows.jsonl").write_bytes(rows)
        with to.journal(digest) as journal:
            for entry in answers.values():
                journal.write(Entry(entry.prediction, entry.stamps))


def pairs(folder: Path, count: int) -> None:
    """Two scored runs of very many samples: the rows of two small ones again and again, under other ids and
    images."""
    whole = folder / "small"
    whole.mkdir()
    samples(whole, 200 * QUESTIONS)
    for name in ("first", "second"):
        evalkit(HERE, whole, _run(name))
        one = RunFolder(next((whole / "results").glob(f"many.replay-{name}.*")))
        run, scores, rows = one.read_run(), one.read_scores(), one.read_rows()
        assert run is not None
        assert scores is not None
        to = RunFolder(folder / "results" / one.name)
        to.write_run(run)
        clusters = -(-count // QUESTIONS)
        to.write_scored(run["digest"], _again(rows, count), [], "", {})
        stretched = [{**_older(s), "n": count, "clusters": clusters} for s in scores["scores"]]
        written = to.read_scores() or {}
        sealed.write(to.path / "scores.json", {**written, "scores": stretched})


def _again(rows: Sequence[Mapping[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    for i in range(count):
        image = hashlib.sha256(str(i // QUESTIONS).encode()).hexdigest()
        yield {**rows[i % len(rows)], "id": f"{500_000_000 + 7 * i}", "image": image}


def _older(score: Mapping[str, Any]) -> dict[str, Any]:
    """A score as also older code reads it: without what is empty and not known there."""
    return {key: value for key, value in score.items() if value or key != "breakdowns"}


# --- what is measured --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """One command of one checkout."""

    seconds: float  # CPU, children included
    peak: int  # bytes resident
    text: str  # what it printed, without times and paths
    status: int


@dataclass(frozen=True)
class Command:
    """A row of the table: the arguments of `evalkit`, and what undoes what it leaves."""

    of: str  # samples | pairs | runs
    arguments: Sequence[str]
    undone: Callable[[Path], None] = lambda folder: None


def _no_results(folder: Path) -> None:
    shutil.rmtree(folder / "results", ignore_errors=True)


def _two_runs(folder: Path) -> None:
    """The runs of both models, made once and scored."""
    found = store.find([folder / "results"]) if (folder / "results").exists() else []
    for name in ("first", "second"):
        if not any(f".replay-{name}." in f.name for f in found):
            evalkit(HERE, folder, _run(name))


def _unscored(folder: Path) -> None:
    """The first run as it was before it was scored."""
    _two_runs(folder)
    for run in store.find([folder / "results"]):
        if ".replay-first." in run.name:
            (run.path / "scores.json").unlink(missing_ok=True)


def _run(name: str) -> list[str]:
    return ["run", "--model", f"replay:{name}.jsonl", "--tasks", "many.yaml", "--data-root", "."]


COMMANDS = {
    "score": Command(
        "samples",
        ["score", "--task", "many.yaml", "--predictions", "first.jsonl", "--data-root", "."],
        _no_results,
    ),
    "run": Command("samples", _run("first"), _no_results),
    "score-again": Command("samples", ["score", "results", "--data-root", "."], _unscored),
    "run-again": Command("samples", _run("first"), _two_runs),
    "paired": Command("pairs", ["table", "--paired", "results"]),
    "table": Command("runs", ["table", "results"]),
    "list": Command("runs", ["runs"]),
    "gc": Command("runs", ["runs", "gc"]),
    "compare": Command("runs", ["compare", "results", "results"]),
}


def evalkit(checkout: Path, folder: Path, arguments: Sequence[str]) -> Measured:
    """Runs `evalkit` with the code of a checkout, inside a folder."""
    own = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "EVALKIT_CACHE": str(folder / "cache")}
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "evalkit", *arguments], cwd=folder, env={**os.environ, **own},
            stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read().decode()
    text = re.sub(r"\r[^\n]*|\d+(\.\d+)? ?(s|min|ms)\b|about .*", "", text)
    return Measured(used.ru_utime + used.ru_stime, used.ru_maxrss << 10, text, process.returncode)


def rows(
    folder: Path, names: Sequence[str], checkouts: Sequence[Path]
) -> Iterator[tuple[str, list[Measured]]]:
    """Each command's measurements, one a checkout."""
    for name in names:
        command, found = COMMANDS[name], []
        for checkout in checkouts:
            command.undone(folder / command.of)
            found.append(evalkit(checkout, folder / command.of, command.arguments))
        yield name, found


def wrong(name: str, found: Sequence[Measured], count: int) -> str:
    """What of a command is not as it should be, or ''."""
    ours, of = found[0], COMMANDS[name].of
    if len({(one.text, one.status) for one in found}) > 1:
        return "prints something else"
    if of == "runs" and ours.seconds > SECONDS * max(1.0, count / 6000):
        return f"more than {SECONDS:g} s"
    if of != "runs" and ours.peak > MEMORY * max(1.0, count / 1_000_000):
        return f"more than {MEMORY // MIB} MiB"
    return ""


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=6000)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--only", nargs="*", choices=list(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--folder", type=Path, help="kept, and used again where it is there")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(argv)
    counts = {"samples": given.samples, "pairs": given.samples, "runs": given.runs}
    checkouts = [HERE, *([given.against.resolve()] if given.against else [])]
    kept: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        for of, make in (("samples", samples), ("pairs", pairs), ("runs", runs)):
            if any(COMMANDS[name].of == of for name in given.only) and not (folder / of).exists():
                (folder / of).mkdir(parents=True)
                begun = time.monotonic()
                with mock.patch("os.fsync"):  # what is generated need not outlive a power cut
                    make(folder / of, counts[of])
                print(f"{counts[of]:,} {of} made in {time.monotonic() - begun:.0f} s", flush=True)
        for name, found in rows(folder, given.only, checkouts):
            bad = wrong(name, found, counts[COMMANDS[name].of])
            kept.append({"command": name, "of": counts[COMMANDS[name].of], "wrong": bad, "measured": [
                {"seconds": round(m.seconds, 2), "MiB": m.peak // MIB, "status": m.status,
                 "longest line": max(map(len, m.text.splitlines()), default=0)} for m in found
            ]})  # fmt: skip
            shown = "   ".join(f"{m.seconds:7.2f} s {m.peak // MIB:6,} MiB" for m in found)
            print(f"{name:12} {shown}  {bad}", flush=True)
            if bad.startswith("prints"):
                for m in found:
                    print(m.text[:2000])
    if given.json:
        given.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return int(any(row["wrong"] for row in kept))


if __name__ == "__main__":
    sys.exit(main())
