"""Ctrl-C on the command line: the first stops in order, the second at once; one line either way."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Any

from evalkit.printing import say

STOPPED = "\nevalkit: stopped; what was answered is kept, the same command goes on from here\n"
_said = False


def install() -> None:
    """Takes over Ctrl-C for the rest of the process, unless it is ignored (`nohup`) or somebody else's."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _first)
        sys.unraisablehook = _unraisable


def stopped() -> int:
    """Says that it was stopped; the exit status."""
    global _said
    _said = True
    say(STOPPED.removesuffix("\n"))
    return 130


def _first(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, _second)
    raise KeyboardInterrupt


def _second(_number: int, _frame: FrameType | None) -> None:
    """Ends the process now: answers are in the journal, and readers end with it."""
    with contextlib.suppress(Exception):
        if not _said:
            os.write(2, STOPPED.encode())
    os._exit(130)


def _unraisable(found: Any) -> None:
    """A Ctrl-C that arrives where Python can only report it, as in a destructor, is the last one."""
    if issubclass(found.exc_type, KeyboardInterrupt):
        _second(signal.SIGINT, None)
    sys.__unraisablehook__(found)
