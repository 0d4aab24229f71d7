"""The model's text as an HTML document of one table."""

from __future__ import annotations

import re
from dataclasses import dataclass

from evalkit.types import Parser, Prediction, Size

# first tag of a text -> the tags before it in a document; the HTML reader adds missing end tags
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
    """The text; a bare table, or only its rows, gets the missing tags of a document before it.

    PubTabNet's script (`teds`) finds a table only directly under body, and the datasets' targets are whole
    documents; whether PaliGemma 2 was trained to write `<html><body>` isn't published. So a text that
    begins with <body>, <table>, <thead>, <tbody> or <tr> gets the tags that are missing before it;
    everything else stays as it is, even a text without any table. No text is unreadable.
    """

    kind = "text"

    def read(self, prediction: Prediction, size: Size | None) -> str:
        """The document; `size` is not needed."""
        text = prediction.text
        first = _FIRST.match(text)
        return _MISSING[first[1].lower()] + text if first else text
