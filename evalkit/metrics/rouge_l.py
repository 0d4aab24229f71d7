"""ROUGE-L of captions: the longest common subsequence with the references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evalkit.text import ngrams
from evalkit.text.edit_distance import common_subsequence
from evalkit.types import Metric, Rows

_BETA = 1.2


@dataclass(frozen=True)
class RougeL(Metric):
    """Mean over samples of F (beta 1.2) of best precision and best recall (targets: tuples of captions).

    Equal to salaniz/pycocoevalcap rouge/rouge.py @ ad63453c on tokens of `evalkit.text.ptb`; `ptb` as in
    `evalkit.text.ngrams`. Precision and recall may come from different references, and an empty caption
    counts as one empty word (which an empty reference matches): both as in the reference.
    """

    ptb: ngrams.Tokens = "caption"

    takes = ("texts",)
    columns = ("score", "n")

    def rows(self, answers: Sequence[str | None], targets: Sequence[Sequence[str]]) -> Rows:
        """One (score, 1) per sample; unreadable answers score 0."""
        result = np.zeros((len(targets), 2))
        result[:, 1] = 1.0
        ours, theirs = ngrams.tokenized(answers, targets, self.ptb)
        for i, (answer, references) in enumerate(zip(ours, theirs, strict=True)):
            if answer is not None and references:
                result[i, 0] = _f(answer.split(" "), [r.split(" ") for r in references])
        return result

    def no_interval(self) -> str:
        return ngrams.BATCH_REASON if self.ptb == "batch" else ""


def _f(answer: list[str], references: list[list[str]]) -> float:
    common = [common_subsequence(answer, reference) for reference in references]
    precision = max(common) / len(answer)
    recall = max(c / len(reference) for c, reference in zip(common, references, strict=True))
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)
