"""The model's text as it is."""

from __future__ import annotations

from dataclasses import dataclass

from evalkit.types import Parser, Prediction, Size


@dataclass(frozen=True)
class Text(Parser):
    """The whole text; nothing is cut or stripped, as in google-research/big_vision @ 0127fb6b.

    `strip` removes white space at both ends. No text is unreadable.
    """

    strip: bool = False

    kind = "text"

    def read(self, prediction: Prediction, size: Size | None) -> str:
        """The answer; `size` is not needed."""
        return prediction.text.strip() if self.strip else prediction.text
