"""Images read ahead by threads or processes: the same answers and errors, and no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image

from evalkit.errors import ImageError, ModelError, UserError
from evalkit.models.paligemma import PaliGemma
from evalkit.models.paligemma.batching import image_readers
from evalkit.models.paligemma.interface import pixel_key
from evalkit.types import Decode, ImageRef, Preparation, Request

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> list[Request]:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(1)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return [
        Request(
            f"s{i}",
            (ImageRef(str(folder / f"{i % 6}.png")),),
            tiny.PROMPTS[i % 5],
            Preparation(28),
            Decode(8),
        )
        for i in range(18)
    ]


def backend(**options: Any) -> PaliGemma:
    return tiny.backend(tiny.checkpoint(1), engine="fast", prepare=None, **options)


def test_processes_answer_as_threads_do(requests: list[Request]) -> None:
    threads = tiny.by_id(backend(workers=2).predict(requests))
    processes = backend(workers="2", worker_kind="process")
    assert tiny.by_id(processes.predict(requests)) == threads
    assert tiny.by_id(processes.predict(requests)) == threads  # the same processes once more


def test_a_damaged_image_is_told_by_its_own_error(requests: list[Request], tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    bad = Request("bad", (ImageRef(str(tmp_path / "bad.png")),), "", Preparation(28), Decode(8))
    told = []
    for kind in ("thread", "process"):
        found: list[tuple[str, str]] = []
        answers = backend(worker_kind=kind).predict(
            [*requests[:3], bad], lambda request, error, found=found: found.append((request.id, str(error)))
        )
        assert len(list(answers)) == 3
        told.append(found)
        with pytest.raises(ImageError, match=r"bad\.png: is not an image"):
            list(backend(worker_kind=kind).predict([bad]))
    sentence = "is not an image of a known kind; it must be PNG, JPEG, WebP, GIF, BMP, TIFF, PPM or JPEG 2000"
    assert told[0] == told[1] == [("bad", f"{tmp_path / 'bad.png'}: {sentence}")]


def ends(ref: ImageRef, preparation: Preparation) -> Any:
    """A reader's process that the system kills."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_is_told_in_a_sentence(requests: list[Request]) -> None:
    model = tiny.backend(tiny.checkpoint(1), engine="fast", prepare=ends, worker_kind="process")
    model.load()
    with pytest.raises(ModelError, match="a process that reads images ended early"):
        list(model.under("hf").predict(requests))
    model.prepare = tiny.prepare
    for protocol in ("hf", "paper"):  # the next task has new processes, whatever its protocol
        assert len(list(model.under(protocol).predict(requests))) == len(requests)


def test_what_processes_read_is_sent_to_the_device_from_here(requests: list[Request]) -> None:
    sent: dict[str, Any] = {}
    model = backend(worker_kind="process")
    model.load()
    model._engine.send = sent.__setitem__  # type: ignore[union-attr]
    assert len(list(model.predict(requests))) == len(requests)
    assert len(sent) == 6
    assert all(pixel_key(pixels) == key for key, pixels in sent.items())


def test_another_kind_is_refused() -> None:
    with pytest.raises(
        UserError, match="--worker-kind fork: no such worker kind; there are: process, thread"
    ):
        backend(worker_kind="fork")


PARENT = """
import os, time
from evalkit.models.paligemma.batching import image_readers

if __name__ == "__main__":
    pool = image_readers.Readers("process", 2).pool()
    busy = [pool.submit(time.sleep, 600), pool.submit(os.getpid), pool.submit(time.sleep, 600)]
    print(*pool._processes, flush=True)
    busy[1].result()
    print("running", flush=True)
    time.sleep(600)
"""


def test_processes_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert parent.stdout is not None
    assert parent.stderr is not None
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert parent.stdout.readline() == "running\n"
    assert len(children) == 2
    assert all(map(alive, children))
    parent.kill()
    parent.wait()
    until = time.monotonic() + 20
    while any(map(alive, children)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(alive, children))
    assert parent.stderr.read() == ""  # nor does the process that frees their semaphores complain


def killed_while_it_sends() -> bytes:
    """Runs in a reader: half of its result is in the pipe when the system kills it."""

    def half(self: Connection, data: bytes) -> None:
        os.write(self.fileno(), bytes(data)[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    Connection._send = half  # type: ignore[attr-defined]
    return bytes(1000)


def test_a_reader_killed_while_it_sends_ends_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    """The library waited for the other half for ever."""
    pool = image_readers.Readers("process", 2).pool()
    others = [pool.submit(time.sleep, 600)]
    lost = pool.submit(killed_while_it_sends)
    for future in (lost, *others):
        with pytest.raises(BrokenExecutor):
            future.result(timeout=60)
    assert capfd.readouterr() == ("", "")


def test_readers_that_have_done_their_work_are_not_missed() -> None:
    for _ in range(2):
        pool = image_readers.Readers("process", 2).pool()
        assert [pool.submit(abs, -n).result(timeout=60) for n in range(5)] == [0, 1, 2, 3, 4]
        pool.shutdown()


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody has asked about yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        (None, "process"),
        ("import evalkit\nrun()\n", "thread"),
        ('if __name__ == "__main__":\n    run()\n', "process"),
    ],
)
def test_beside_a_gpu_processes_read_where_the_program_can_be_imported(
    program: str | None, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook has no file; a script that runs its work on import would do that in each reader."""
    main = ModuleType("__main__")
    if program is not None:
        main.__file__ = str(tmp_path / "program.py")
        (tmp_path / "program.py").write_text(program)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(image_readers, "_cores", lambda: 12)
    beside = image_readers.Readers(None, None, "cuda")
    assert (beside.kind, beside._workers) == (kind, 8)
    assert (image_readers.Readers(None, None).kind, image_readers.Readers(None, None)._workers) == (
        "thread",
        2,
    )
    chosen = image_readers.Readers("thread", 3, "cuda")
    assert (chosen.kind, chosen._workers) == ("thread", 3)


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000 100000", 2), ("150000 100000", 2), ("max 100000", 5), ("", 5), (None, 5)]
)
def test_a_containers_quota_counts(
    quota: str | None, cores: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(image_readers, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(5)), raising=False)
    assert image_readers._cores() == cores
