"""Threads or processes that read images ahead of the model; processes end when their parent does."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TypeVar

from evalkit.errors import ModelError

T = TypeVar("T")

KINDS = ("thread", "process")
WORKERS = {"cpu": 2}
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # a container's: microseconds of a core in each period, and the period
MOST = 8  # readers beside a GPU, as far as there are cores


class Readers:
    """A pool of readers, kept from task to task because processes are slow to start.

    What is not given suits the `device` of the model: beside a GPU processes, since threads would take turns
    with the one that starts the GPU's work.
    """

    def __init__(self, kind: str | None, workers: int | None, device: str = "cpu") -> None:
        alone = device in WORKERS or not _can_begin()
        self.kind = kind or ("thread" if alone else "process")
        self._workers = workers or WORKERS.get(device) or max(1, min(MOST, _cores() - 1))
        self._pool: Executor | None = None

    def pool(self) -> Executor:
        """The pool; no reader starts before the first image is submitted."""
        if self._pool is None:
            self._pool = self._start()
        return self._pool

    def close(self) -> None:
        """Drops the pool, as after a reader died; the next task starts a new one."""
        self._pool = None

    def _start(self) -> Executor:
        if self.kind == "thread":
            return ThreadPoolExecutor(max_workers=self._workers, thread_name_prefix="images")
        # Not forked: a fork would inherit locks held by torch's threads. A new process imports no torch.
        context = multiprocessing.get_context("spawn")
        _start_tracker()
        return _Processes(self._workers, mp_context=context, initializer=_begin)


class _Processes(ProcessPoolExecutor):
    """Processes of which the death of one ends all, at once, so that nobody waits for the rest of an image.

    One that is killed while it sends an image leaves half of it in the pipe, and the standard library waits
    for the other half for ever, since the pipe has other writers.
    """

    _watched = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # a new process inherits it
        try:
            future = super().submit(fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if not self._watched:
            self._watched = True
            threading.Thread(target=_watch, args=(self._processes, self._result_queue), daemon=True).start()
        return future


def _watch(processes: Mapping[int, Any], results: Any) -> None:
    """Ends all processes and their pipe when one has ended. Holds no pool: that ends with its last user."""
    while not wait([p.sentinel for p in list(processes.values())], timeout=0.5):
        pass
    for process in list(processes.values()):
        process.kill()
    with contextlib.suppress(OSError, ValueError):
        results._writer.close()


def _start_tracker() -> None:
    """Starts the library's process that frees the pool's semaphores when this one is killed, in such a way
    that it does so without a word."""
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")  # it gets the options of this process
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.pop()


def _cores() -> int:
    """The cores that this process may use: those that it may run on, within its container's quota."""
    known = getattr(os, "sched_getaffinity", None)  # not on macOS or Windows
    cores = len(known(0)) if known else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no quota is the word "max"
        quota, period = map(int, QUOTA.read_text(encoding="ascii").split())
        return min(cores, -(-quota // period))
    return cores


def _can_begin() -> bool:
    """Whether a new process can import the main program: one that never asks for its `__name__` would run all
    of its work again there."""
    main = sys.modules["__main__"]
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if file is None or (spec is not None and spec.name.endswith(".__main__")):
        return True  # a notebook, `python -c` or `python -m package`: nothing is imported
    try:
        return "__name__" in Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True


def ended() -> ModelError:
    """The error for a reading process that has died: the system kills those that use too much memory."""
    return ModelError(
        "workers: a process that reads images ended early (killed, or out of memory); "
        "set fewer workers, or worker_kind=thread"
    )


def _begin() -> None:
    """Ignores Ctrl-C, which the parent handles, and ends this process when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()  # returns when the parent's pipe closes, also after kill -9
    os._exit(1)
