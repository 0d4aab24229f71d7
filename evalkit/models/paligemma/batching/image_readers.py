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
    """`workers` readers, kept from task to task: a process takes its time to begin."""

    def __init__(self, kind: str, workers: int) -> None:
        self._kind, self._workers = kind, workers
        self._pool: Executor | None = None

    def pool(self) -> Executor:
        """The pool; nothing runs before the first image is asked for."""
        if self._pool is None:
            self._pool = self._start()
        return self._pool

    def close(self) -> None:
        """Has the next task begin a new pool, as after a reader's death."""
        self._pool = None

    def _start(self) -> Executor:
        if self._kind == "thread":
            return ThreadPoolExecutor(max_workers=self._workers, thread_name_prefix="images")
        # Forked, a process would take over locks that torch's threads hold; a fresh one imports no torch.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._workers, mp_context=context, initializer=_begin)


def ended() -> ModelError:
    """What to say when a reading process is gone: the system kills those that take too much memory."""
    return ModelError(
        "workers: a process that reads images ended early (killed, or out of memory); "
        "set fewer workers, or worker_kind=thread"
    )


def _begin() -> None:
    """Ctrl-C is the parent's business; its end, however it comes, is ours."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()  # a pipe that the system closes, also after kill -9
    os._exit(1)
