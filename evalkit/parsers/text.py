"""The model's text as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from evalkit.registry import ADDED
from evalkit.types import Parser, Prediction, Size

_ENDS = re.compile(r"(?:\s*<(?:eos|pad|end_of_turn)>)+\s*$")
_BEGINS = re.compile(r"^(?:\s*<(?:bos|pad)>)+")


@dataclass(frozen=True)
class Text(Parser):
    """The whole text; nothing is cut or stripped, as in google-research/big_vision @ 0127fb6b.

    `strip` removes white space at both ends. `clean` removes what other tools leave in a text: `<bos>` and
    `<pad>` before it, the prompt, `<eos>` and `<pad>` after it, and white space at both ends. No text is
    unreadable.
    """

    strip: bool = False
    clean: bool = field(default=False, metadata=ADDED)

    kind = "text"

    def read(self, prediction: Prediction, size: Size | None) -> str:
        """The answer; `size` is not needed."""
        text = prediction.text
        if self.clean:
            text = _ENDS.sub("", _BEGINS.sub("", text))
            text = text[_echoed(text, prediction.prompt) :]
        return text.strip() if self.strip or self.clean else text

    def remark(self, prediction: Prediction, size: Size | None) -> str:
        """What `clean` would take off and `strip` would not, or a blank that neither does."""
        text = prediction.text
        if self.clean:
            return ""
        tokens = "<" in text
        if tokens and _BEGINS.search(text):
            return "begin with <bos> or <pad>"
        if _echoed(text, prediction.prompt):
            return "repeat the prompt"
        if tokens and _ENDS.search(text):
            return "end with <eos> or <pad>"
        return "" if self.strip or text == text.strip() else "begin or end with a blank"


def _echoed(text: str, prompt: str) -> int:
    """How many characters of the text repeat the prompt and the line break after it."""
    spaces = len(text) - len(text.lstrip())
    if not prompt.strip() or not text[spaces:].startswith(prompt.strip()):
        return 0
    end = spaces + len(prompt.strip())
    return end if text[end : end + 1] in ("\n", "") else 0
