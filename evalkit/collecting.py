"""Python's search for cycles of garbage, paused while millions of objects are made that have none."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Inside the block nothing is searched: with many live objects each search looks at all of them, which
    costs a third of the time. What no longer has a name is freed as ever."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
