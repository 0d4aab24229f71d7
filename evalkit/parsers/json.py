"""JSON from a text that may have more: a code fence, words before and after it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from evalkit.text import trees
from evalkit.types import Parser, Prediction, Size

_FENCE = re.compile(r"```[a-zA-Z]*\s*(.*?)```", re.S)
_BEGIN = re.compile(r"[{\[]|<s_")


@dataclass(frozen=True)
class Json(Parser):
    """The text of the first JSON value or of Donut's tags; None, and counted as unreadable, where there is
    none.

    A text that is JSON as a whole is taken as it is, even a single number. Else the first object or list, in
    a code fence if there is one, that is complete.
    """

    kind = "text"

    def read(self, prediction: Prediction, size: Size | None) -> str | None:
        """The answer; `size` is not needed."""
        text = prediction.text.strip()
        parts: list[str] = [text, *_FENCE.findall(text)]
        for part in parts:
            if trees.readable(part):
                return part.strip()
        return next((text[part] for part in _places(text) if trees.readable(text[part])), None)

    def remark(self, prediction: Prediction, size: Size | None) -> str:
        """Why there is none; what stands around it."""
        text = prediction.text.strip()
        found = self.read(prediction, size)
        if found is not None:
            return "" if found == text else "have more than JSON"
        begin = _BEGIN.search(text)
        if begin is None:
            return "no JSON" if text else "an empty text"
        return "JSON that is not complete" if _open(text[begin.start() :]) else "JSON that is broken"


def _places(text: str) -> list[slice]:
    """Where the first value that begins like an object, list or tag may be: to its own end, or the text's."""
    found = []
    for begin in _BEGIN.finditer(text):
        try:
            _, length = json.JSONDecoder().raw_decode(text[begin.start() :])
        except (ValueError, RecursionError):
            length = len(text) - begin.start()
        found.append(slice(begin.start(), begin.start() + length))
        if len(found) > 8:  # texts of many braces are not searched for ever
            break
    return found


def _open(text: str) -> bool:
    """Whether brackets or tags are left open at the end."""
    plain = re.sub(r'"(?:\\.|[^"\\])*"', "", text)
    opened = sum(map(plain.count, "{[")) + len(re.findall(r"<s_[^<>/]+>", plain))
    closed = sum(map(plain.count, "}]")) + len(re.findall(r"</s_[^<>]+>", plain))
    return opened > closed or '"' in plain
