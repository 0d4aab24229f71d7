"""Large JSON files read piece by piece: of a list at the top, or of the lists of an object there, one element
at a time is plain data. Of a file that is not right nothing is known here: it is read again as a whole, which
says what is wrong."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from evalkit import collecting, door
from evalkit.data.elements import Elements
from evalkit.data.readers import decoder, read_json

_CHUNK = 1 << 20  # bytes; twice as many as an element needs where that is more
_BLANKS = re.compile(r"[ \t\n\r]*")


def read_lists(path: Path, keep: Callable[[dict[str, Any]], bool] | None = None) -> Any:
    """As `read_json`, but lists at the top, or of the object there, are `Elements`. Objects for which `keep`
    is false are None. Raises DataError with the line of the problem."""
    with door.guarded(path, text="save the file as UTF-8 JSON"), collecting.paused():
        try:
            with door.opened(path) as file:
                return _Stream(file, keep).whole()
        except (ValueError, RecursionError):
            pass
    return read_json(path, keep)


class _Stream:
    """Raises ValueError or RecursionError for whatever is not as it should be."""

    def __init__(self, file: BinaryIO, keep: Callable[[dict[str, Any]], bool] | None) -> None:
        self._file, self._parse = file, decoder(keep).raw_decode
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._text, self._at = "", 0

    def whole(self) -> Any:
        found = self._elements() if self._sign() == "[" else self._object()
        if self._sign():
            raise ValueError("something follows")
        return found

    def _object(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._take("{")
        if self._sign() == "}":
            self._take("}")
            return found
        while True:
            key = self._value(":")
            if type(key) is not str or key in found:
                raise ValueError("no key, or one that is repeated")
            self._take(":")
            found[key] = self._elements() if self._sign() == "[" else self._value(",}")
            if self._sign() == "}":
                self._take("}")
                return found
            self._take(",")

    def _elements(self) -> Elements:
        found = Elements()
        self._take("[")
        if self._sign() != "]":
            found.append(self._value(",]"))
            while self._sign() == ",":
                self._at += 1
                found.append(self._value(",]"))
        self._take("]")
        return found

    def _value(self, behind: str) -> Any:
        """The next value, whole: one of the signs `behind` follows, so that no number was cut."""
        self._sign()
        while True:
            try:
                found, end = self._parse(self._text, self._at)
            except ValueError:
                end = len(self._text)
            else:
                end = _end_of_blanks(self._text, end)
            if end < len(self._text) and self._text[end] in behind:
                self._at = end
                return found
            if not self._more():
                raise ValueError("ends early, or is not JSON")

    def _sign(self) -> str:
        """The next sign that is no blank; '' at the end."""
        while True:
            self._at = _end_of_blanks(self._text, self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _take(self, sign: str) -> None:
        if self._sign() != sign:
            raise ValueError(f"no {sign}")
        self._at += 1

    def _more(self) -> bool:
        """Reads on, each time as much again as is not yet understood; False at the end."""
        left = self._text[self._at :]
        data = self._file.read(max(_CHUNK, 2 * len(left)))
        self._text, self._at = left + self._decode(data, not data), 0
        return bool(data)


def _end_of_blanks(text: str, at: int) -> int:
    return _BLANKS.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing too
