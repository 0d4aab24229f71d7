"""F1 of sets of labels: answers that name several, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from evalkit.stats import f1, parts
from evalkit.text.answers import accepted
from evalkit.types import Breakdowns, Metric, Rows


@dataclass(frozen=True)
class LabelF1(Metric):
    """F1 of the labels in an answer, divided by `separator` (targets: tuples of texts with all labels of a
    sample, one text each or divided alike).

    scikit-learn 1.9.1 f1_score of label sets: over all labels (micro), the mean over labels that are given or
    wanted anywhere (macro), or the mean over samples (samples), where nothing given and nothing wanted is 1,
    as with zero_division=1. Blanks around a label are dropped, and so are empty labels and a label's
    repetitions; `lowercase` ignores case. An unreadable answer gives no label; where none is wanted it is
    wrong.
    """

    average: f1.Average = "micro"
    separator: str = ","
    lowercase: bool = False

    takes: ClassVar[tuple[str, ...]] = ("texts",)
    columns: ClassVar[tuple[str, ...]] = ()
    undefined: ClassVar[str] = "no label is wanted, and none given"

    def __post_init__(self) -> None:
        if not self.separator.strip() and self.separator not in (" ", "\n"):
            raise ValueError(f"separator={self.separator!r}: must be a text such as ',' or '; '")

    def rows(self, answers: Sequence[str | None], targets: Sequence[Any]) -> Rows:
        """One dict a sample: by label, whether it is right, given and wanted."""
        return [self._row(a, accepted(t)) for a, t in zip(answers, targets, strict=True)]

    def reduce(self, rows: Rows, counts: npt.NDArray[Any] | None = None) -> float:
        return f1.table(rows, _same).score(self.average, counts)

    def details(self, rows: Rows) -> dict[str, float]:
        """Precision and recall over all labels, F1 by each average, and the share of answers all right."""
        return f1.table(rows, _same).details()

    def breakdowns(self, rows: Rows) -> Breakdowns:
        """By class: precision, recall, F1 and counts."""
        return {"class": f1.table(rows, _same).classes()}

    def silent(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Samples with nothing given nor wanted, unless each is right by that."""
        return np.array([not row and self.average != "samples" for row in rows], dtype=bool)

    def part_intervals(self, rows: Rows, index: npt.NDArray[np.intp]) -> Breakdowns:
        return {"class": parts.of_table(f1.table(rows, _same), index)}

    def _row(self, answer: str | None, texts: Sequence[str]) -> dict[str, list[int]]:
        wanted = {label for text in texts for label in self._labels(text)}
        if answer is None and not wanted:
            return {"(unreadable)": [0, 1, 0]}
        given = set(self._labels(answer or ""))
        return {
            label: [int(label in given and label in wanted), int(label in given), int(label in wanted)]
            for label in sorted(given | wanted)
        }

    def _labels(self, text: str) -> list[str]:
        parts = (part.strip() for part in text.split(self.separator))
        return [part.lower() if self.lowercase else part for part in parts if part]


def _same(row: f1.Counts) -> f1.Counts:
    return row
