"""A full disk, and Ctrl-C once, twice and at a bad moment: a sentence, and what was answered is kept."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from io import FileIO
from pathlib import Path

import pytest
from stub import colours
from stub_runs import Weighted
from test_store import asked_by, planned, ran, red, value

from evalkit.errors import ResultsError
from evalkit.evaluation import predict
from evalkit.files import atomic_write
from evalkit.runs import journal
from evalkit.runs.journal import Journal
from evalkit.runs.journal_lines import Entry
from evalkit.runs.store import RunFolder
from evalkit.types import Prediction

ROOT = Path(__file__).parent.parent


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return colours(tmp_path / "data")


# --- a full disk ----------------------------------------------------------------------------------


class Small(FileIO):
    """A file on a disk that takes a few bytes at a time, and is full after some."""

    left = 10**9

    def write(self, data: object) -> int:  # type: ignore[override]
        some = bytes(data)[: min(7, Small.left)]  # type: ignore[call-overload]
        if not some:
            raise OSError(errno.ENOSPC, "No space left on device")
        Small.left -= len(some)
        return super().write(some)


@pytest.mark.parametrize("room", [0, 5, 200, 1000, 3000])
def test_a_disk_that_fills_up_keeps_what_was_answered(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    whole = ran(task, tmp_path / "whole")
    monkeypatch.setattr(Small, "left", room)
    with monkeypatch.context() as patch:
        patch.setattr(journal, "FileIO", Small)
        with pytest.raises(ResultsError, match="the disk is full; free some room and run the same command"):
            ran(task, tmp_path / "out")
    (mine,) = (tmp_path / "out").iterdir()
    assert (mine / "predictions" / "0.jsonl").stat().st_size == room
    kept = len(RunFolder(mine).entries())
    assert (kept > 0) == (room > 200)
    assert len(asked_by(task, tmp_path / "out")) == 20 - kept
    assert (mine / "rows.jsonl").read_bytes() == (whole / "rows.jsonl").read_bytes()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_closing_a_journal_on_a_full_disk_raises_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "0.jsonl").symlink_to("/dev/full")
    with (
        pytest.raises(ResultsError, match="the disk is full"),
        Journal(tmp_path / "0.jsonl", "d") as opened,
    ):
        opened.write(Entry(Prediction("q", "p", "t")))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG])
def test_what_the_disk_refuses_at_the_end_is_said(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """When the journal is closed, and when rows and scores are written: what was answered is there."""
    plan, session = planned(task, tmp_path / "out", model := Weighted(red, "a"))
    real, calls = os.fsync, [0]

    def refuse(handle: int) -> None:
        calls[0] += 1
        if calls[0] > 1:  # the first is run.json's
            raise OSError(code, os.strerror(code))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        patch.setattr(journal, "SYNC_SECONDS", 1e9)
        with pytest.raises(ResultsError) as refused:
            predict.run([plan], session)
    assert str(plan.folder.path) in str(refused.value)
    assert ("the disk is full" in str(refused.value)) == (code in (errno.ENOSPC, errno.EDQUOT))
    assert len(model.asked) == 20
    assert len(plan.folder.entries()) == 20
    assert asked_by(task, tmp_path / "out") == []
    assert value(plan.folder.path) == 0.5


def test_no_half_file_is_left_by_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    atomic_write(tmp_path / "a", "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ResultsError, match="the disk is full"):
            atomic_write(tmp_path / "a", "new")
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("a", "old")]


# --- Ctrl-C ---------------------------------------------------------------------------------------

MODELS = {
    "answering": "time.sleep(60)",
    "tidying up": "try: time.sleep(60)\n        finally: say() or time.sleep(60)",
    "ending": "atexit.register(lambda: (say(), time.sleep(60)))\n        time.sleep(60)",
    "in a destructor": "Slow()",
}
OWN = """
import atexit, sys, time


def say():
    open({said!r}, "a").write("x")


class Slow:
    def __del__(self):
        say()
        time.sleep(60)


class Own:
    n = 0

    @staticmethod
    def identity():
        return {{"a": 1}}

    def answer(self, image, prompt, max_new_tokens):
        self.n += 1
        if self.n < 4:
            return "red"
        say()
        {code}
        return "red"
"""


@pytest.mark.parametrize("when", MODELS)
@pytest.mark.parametrize("presses", [1, 2, 3])
def test_ctrl_c_is_one_line(task: Path, tmp_path: Path, when: str, presses: int) -> None:
    said = tmp_path / "said"
    (tmp_path / "own.py").write_text(OWN.format(said=str(said), code=MODELS[when]))
    words = ["run", "--model", f"module:{tmp_path / 'own.py'}:Own", "--tasks", str(task), "--data-root",
             str(task.parent), "--allow-code", "--output-path", str(tmp_path / "out")]  # fmt: skip
    run = subprocess.Popen(
        [sys.executable, "-m", "evalkit", *words], stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "EVALKIT_CACHE": str(tmp_path / "cache")},
        # a shell's job in the background ignores Ctrl-C, and so would this
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    needed = 2 if when == "in a destructor" else 1
    wait_for(said, needed)
    run.send_signal(signal.SIGINT)
    slow = when in ("tidying up", "ending")
    if slow and presses > 1:
        wait_for(said, needed + 1)
    for _ in range(presses - 1):
        run.send_signal(signal.SIGINT)
    if slow and presses == 1:
        wait_for(said, needed + 1)
        assert run.poll() is None  # it goes on to its end, however long that takes
        run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=20)
    assert run.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in err
    assert "ignored" not in err
    assert err.count("evalkit: stopped; what was answered is kept, the same command goes on from here\n") == 1
    (folder,) = (tmp_path / "out").iterdir()
    assert len(RunFolder(folder).entries()) == 3


def wait_for(file: Path, signs: int) -> None:
    until = time.monotonic() + 60
    while not file.exists() or file.stat().st_size < signs:
        assert time.monotonic() < until
        time.sleep(0.01)
