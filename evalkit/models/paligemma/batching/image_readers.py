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
from typing import Any, TypeVar

from evalkit.errors import ModelError

T = TypeVar("T")

KINDS = ("thread", "process")


class Readers:
    """A pool of `workers` readers, kept from task to task because processes are slow to start."""

    def __init__(self, kind: str, workers: int) -> None:
        self._kind, self._workers = kind, workers
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
        if self._kind == "thread":
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
