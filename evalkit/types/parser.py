"""What a parser is: model text to an answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from evalkit.types.answers import Prediction
from evalkit.types.samples import Size


class Parser(ABC):
    """Model text to an answer. One frozen dataclass per file in `parsers/`; its fields are parameters."""

    kind: ClassVar[str]  # text | boxes | masks; must be in the `wants` of the task's metrics

    @abstractmethod
    def read(self, prediction: Prediction, size: Size | None) -> Any | None:
        """The answer, or None when the text is unreadable. Never raises on any text."""

    def answers(self, predictions: Sequence[Prediction], sizes: Sequence[Size | None]) -> list[Any | None]:
        """The answers of many predictions, in order; override it where a batch is cheaper."""
        return [self.read(p, s) for p, s in zip(predictions, sizes, strict=True)]

    def invalid(self, answer: Any | None) -> bool:
        """Whether the answer counts as invalid; a parser may count more than None."""
        return answer is None

    def remark(self, prediction: Prediction, size: Size | None) -> str:
        """What is odd about a text, in a few words that fit many texts (they are counted), or ''; of an
        unreadable one why it is."""
        return ""

    def identity(self) -> str:
        """What decides the answer in addition to the parameters (the mask decoder's digest), or ''."""
        return ""

    def within(self, folders: Sequence[Path]) -> Parser:
        """A parser that looks for its files below `folders` (data roots) first.

        Raises UserError when a file is missing, so that the user learns it before hours of predicting.
        """
        return self
