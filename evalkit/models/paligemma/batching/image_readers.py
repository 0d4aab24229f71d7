"""Threads or processes that read images ahead of the model; processes end when their parent does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

from evalkit.errors import ModelError

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
        return ProcessPoolExecutor(self._workers, mp_context=context, initializer=_begin)


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
