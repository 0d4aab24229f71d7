"""What captioning metrics share: tokenized captions and their n-grams; knows no metric."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import shutil
import subprocess
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import IO, Literal

import numpy as np
import numpy.typing as npt

from evalkit import ptb
from evalkit.errors import UserError

Tokens = Literal["caption", "batch"]
"""caption: each caption tokenized for itself. batch: all in one call, as pycocoevalcap does."""

LONGEST = 4
Gram = tuple[str, ...]
Ints = npt.NDArray[np.int64]

BATCH_REASON = (
    "ptb='batch' tokenizes all captions in one call and each may change the next one's tokens, "
    "so samples cannot be drawn one by one"
)


def tokenized(
    answers: Sequence[str | None], targets: Sequence[Sequence[str]], mode: Tokens
) -> tuple[list[str | None], list[list[str]]]:
    """Answers and references as tokens joined by blanks; an unreadable answer stays None.

    In a batch an unreadable answer takes the place of an empty caption, and lines that the
    reference loses (a caption with a line separator shifts the others) are empty.
    """
    if len(answers) != len(targets):
        raise ValueError("zip() argument 2 is not as long as argument 1")
    if mode == "caption":
        ours = [None if answer is None else ptb.caption(answer) for answer in answers]
        return ours, [[ptb.caption(reference) for reference in some] for some in targets]
    lines = ptb.batch([answer or "" for answer in answers])
    lines += [""] * (len(answers) - len(lines))
    ours = [None if a is None else line for a, line in zip(answers, lines, strict=False)]
    flat = ptb.batch(list(chain.from_iterable(targets)))
    flat += [""] * (sum(map(len, targets)) - len(flat))
    rest = iter(flat)
    return ours, [[next(rest) for _ in some] for some in targets]


@dataclass(frozen=True)
class Grams:
    """The runs of one to four tokens of many captions, as sorted pairs of caption and gram."""

    caption: Ints  # (pairs,)
    gram: Ints  # (pairs,) its number
    count: Ints  # (pairs,) how often it occurs in the caption
    length: Ints  # (grams,) how many tokens a gram has

    def keys(self, owner: Ints) -> Ints:
        """One number for each pair's (owner of the caption, gram)."""
        return owner[self.caption] * len(self.length) + self.gram

    def part(self, first: int, last: int) -> Grams:
        """The captions from `first` to before `last`, numbered from 0."""
        chosen = slice(*np.searchsorted(self.caption, (first, last)).tolist())
        return Grams(self.caption[chosen] - first, self.gram[chosen], self.count[chosen], self.length)


@lru_cache(maxsize=1)  # BLEU and CIDEr of a task count the same captions
def grams(captions: tuple[str, ...]) -> Grams:
    """All captions' grams; a gram has one number throughout."""
    numbers: defaultdict[Gram, int] = defaultdict(itertools.count().__next__)
    found: list[int] = []
    sizes: list[int] = []
    for caption in captions:
        words = caption.split()
        shifted = [words[i:] for i in range(LONGEST)]
        runs = chain.from_iterable(zip(*shifted[:n], strict=False) for n in range(1, LONGEST + 1))
        before = len(found)
        found += [numbers[run] for run in runs]
        sizes.append(len(found) - before)
    total = max(1, len(numbers))
    owner = np.repeat(np.arange(len(captions)), sizes)
    keys, counts = np.unique(owner * total + np.array(found, dtype=np.int64), return_counts=True)
    caption_of, gram = np.divmod(keys, total)
    lengths = np.fromiter(map(len, numbers), dtype=np.int64, count=len(numbers))
    return Grams(caption_of, gram, counts.astype(np.int64), lengths)


def matching(keys: Ints, among: Ints) -> tuple[npt.NDArray[np.bool_], Ints]:
    """Which of `keys` are in the sorted `among`, and for those their places there."""
    if not len(among):
        return np.zeros(len(keys), dtype=bool), np.zeros(0, dtype=np.int64)
    places = np.minimum(np.searchsorted(among, keys), len(among) - 1)
    inside = among[places] == keys
    return inside, places[inside]


# --- Java --------------------------------------------------------------------------------------


def jar(folder: str, name: str) -> Path:
    """A jar that pycocoevalcap ships. Raises UserError when the package or Java is missing."""
    if not shutil.which("java"):
        raise UserError(f"{name} needs Java; install openjdk-17-jre-headless, or leave the metric out")
    from importlib import util

    found = util.find_spec("pycocoevalcap")
    places = list(found.submodule_search_locations or ()) if found else []
    if not places:
        raise UserError(f"{name} comes with pycocoevalcap; pip install pycocoevalcap")
    path = Path(places[0]) / folder / name
    if not path.is_file():
        raise UserError(f"{path} is missing; reinstall pycocoevalcap")
    return path


_TEXT = [f"-D{key}=UTF-8" for key in ("file.encoding", "stdout.encoding", "sun.stdout.encoding")]


def run_java(arguments: Sequence[str], where: Path) -> None:
    """Runs a Java program to its end, in UTF-8 whatever the locale. Raises UserError if it fails."""
    command = ["java", *_TEXT, *arguments]
    done = subprocess.run(command, capture_output=True, cwd=where, check=False)
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise UserError(f"java {' '.join(arguments[:4])} ended with {done.returncode}: {''.join(last)}")


class JavaLines:
    """A Java program kept running that answers each line with a line, in UTF-8 whatever the locale."""

    def __init__(self, arguments: Sequence[str], where: Path) -> None:
        self._command, self._where = ["java", *_TEXT, *arguments], where
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, lines: Sequence[str]) -> list[str]:
        """The answers, in order. Raises UserError when the program ends before it has answered."""
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            given = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
            writer = threading.Thread(target=_write, args=(process.stdin, given), daemon=True)
            writer.start()
            answers = [process.stdout.readline().decode("utf-8", "replace").strip() for _ in lines]
            writer.join()
            if process.poll() is not None or not all(answers):
                self.close()
                raise UserError(f"{' '.join(self._command)} ended early in {self._where}")
            return answers

    def close(self) -> None:
        """Ends the program; the next question starts it anew."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
            self._process = subprocess.Popen(
                self._command, stdin=pipe, stdout=pipe, stderr=nothing, cwd=self._where
            )
            atexit.register(self.close)
        return self._process


def _write(pipe: IO[bytes], given: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        pipe.write(given)
        pipe.flush()
