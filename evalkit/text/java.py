"""Runs Java programs that score captions: finds their jars, sends and receives text."""

from __future__ import annotations

import atexit
import contextlib
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from evalkit.errors import UserError

# --- Java --------------------------------------------------------------------------------------


def jar(folder: str, name: str) -> Path:
    """The path of a jar that pycocoevalcap ships. Raises UserError if the package or Java is missing."""
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
    """Runs a Java program to its end, in UTF-8 in any locale. Raises UserError if it fails."""
    command = ["java", *_TEXT, *arguments]
    done = subprocess.run(command, capture_output=True, cwd=where, check=False)
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise UserError(f"java {' '.join(arguments[:4])} ended with {done.returncode}: {''.join(last)}")


class JavaLines:
    """A running Java program that answers each line with a line, in UTF-8 in any locale."""

    def __init__(self, arguments: Sequence[str], where: Path) -> None:
        self._command, self._where = ["java", *_TEXT, *arguments], where
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, lines: Sequence[str]) -> list[str]:
        """The answers, in order. Raises UserError if the program ends before it has answered."""
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
        """Ends the program; the next `ask` starts it again."""
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
