"""The letter of the chosen option, in the forms in which models name it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from evalkit.types import Parser, Prediction, Size

_FORMS = {
    "sentence": re.compile(r"the answer is ([a-z])\."),
    "alone": re.compile(r"\s*\(?([a-z])(?:[).:]\s*|\s*$)"),
}


@dataclass(frozen=True)
class Letter(Parser):
    """The chosen option as a lower-case letter; None when there is none.

    `form`: sentence is ScienceQA's "The answer is X." at the very start, in upper or lower case, the full
    stop required (google-research/big_vision transfers/science_qa.py @ 0127fb6b); alone accepts a text that
    begins with an option's letter: "B", "B.", "(B)", "b) a dog".
    """

    form: Literal["sentence", "alone"] = "sentence"

    kind = "text"

    def read(self, prediction: Prediction, size: Size | None) -> str | None:
        """The letter; `size` is not needed."""
        match = _FORMS[self.form].match(prediction.text.lower())
        return match[1] if match else None

    def remark(self, prediction: Prediction, size: Size | None) -> str:
        """Why no letter is read."""
        return "" if self.read(prediction, size) else "no option's letter"
