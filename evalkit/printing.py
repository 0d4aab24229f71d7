"""The one place that prints. What a file, a name or a model's answer holds cannot steer a terminal or a log.

Escape sequences and other control characters are shown as text (`\\x1b`), and so is what turns the
direction of writing; evalkit's own colours pass, to a terminal. Cells and sentences are one line, and
messages have an end.
"""

from __future__ import annotations

import re
import sys
from typing import TextIO

BOLD, RED, GREEN, YELLOW, PLAIN = "\033[1m", "\033[31m", "\033[32m", "\033[33m", "\033[0m"
CELL, SENTENCE = 300, 2000  # characters at most

CONTROLS = "\x00-\x08\x0b-\x1f"  # but tab and line feed
# The other controls, marks and overrides of direction, line and paragraph separators, the byte order mark,
# halves of surrogate pairs, invisible tags
UNSEEN = (
    CONTROLS + "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f"
)
_UNSEEN = re.compile(f"[{UNSEEN}]")
_PAINT = re.compile(f"\x1b\\[(?:0|1|3[123])m|[{UNSEEN}]")


def put(text: str = "", end: str = "\n", flush: bool = False) -> None:
    """Prints what was asked for, on stdout."""
    print(_safe(text, sys.stdout), end=end, flush=flush)


def say(text: str = "") -> None:
    """Prints a message, on stderr; long lines and very many are cut."""
    lines = text.split("\n")
    shown = [cut(line, SENTENCE) for line in lines[:200]]
    more = [f"… ({len(lines):,} lines)"] if len(lines) > 200 else []
    print(_safe("\n".join(shown + more), sys.stderr), file=sys.stderr, flush=True)


def visible(text: str) -> str:
    """Text with every character that would not be seen as an escape."""
    return _UNSEEN.sub(lambda found: _escape(found[0]), text)


def one_line(text: str, most: int = SENTENCE) -> str:
    """Text of a cell or a sentence: no line break, nothing unseen, at most so many characters."""
    if len(text) <= most and text.isprintable():  # as nearly all is
        return text
    whole = re.sub(r"\r\n|[\r\n\v\f\x85\u2028\u2029]", "⏎", cut(text, most)).replace("\t", " ")
    return visible(whole)


def cut(text: str, most: int) -> str:
    """The text's beginning, and how long it is, where it is longer than `most`."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def _safe(text: str, to: TextIO) -> str:
    if to.isatty():
        return _PAINT.sub(lambda found: found[0] if len(found[0]) > 1 else _escape(found[0]), text)
    return visible(text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
