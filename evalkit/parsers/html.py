"""The model's text as an HTML document of one table."""

from __future__ import annotations

import re
from dataclasses import dataclass

from evalkit.types import Parser, Prediction, Size

# what a text begins with -> what stands before it in a document; ends are left to the reader, as in HTML
_MISSING = {
    "body": "<html>",
    "table": "<html><body>",
    "thead": "<html><body><table>",
    "tbody": "<html><body><table>",
    "tr": "<html><body><table>",
}
_FIRST = re.compile(r"\s*<(" + "|".join(_MISSING) + r")(?=[\s>])", re.IGNORECASE)


@dataclass(frozen=True)
class Html(Parser):
    """The text; a bare table, or its rows alone, begins as a document does.

    PubTabNet's script (`teds`) finds a table right under body only, and the datasets' targets are whole
    documents; whether PaliGemma 2 was trained to write `<html><body>` isn't published. So a text that
    begins with <body>, <table>, <thead>, <tbody> or <tr> gets the tags that are missing before it; all
    else stays as it is, a text without any table too. No text is unreadable.
    """

    kind = "text"

    def read(self, prediction: Prediction, size: Size | None) -> str:
        """The document; `size` is not needed."""
        text = prediction.text
        first = _FIRST.match(text)
        return _MISSING[first[1].lower()] + text if first else text
