"""RadGraph-F1 of radiology reports: agreement of the entities and relations that radgraph's model finds."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from evalkit.errors import UserError
from evalkit.provenance import version
from evalkit.text.answers import accepted
from evalkit.types import Metric, Rows


@dataclass(frozen=True)
class RadGraphF1(Metric):
    """Mean F1 of two reports' entities and relations (Jain et al., 2021; Delbrouck et al., 2022).

    F1RadGraph(reward_level=level, model_type=model) of radgraph 0.1.18 (Stanford-AIMI/radgraph), on the
    CPU; it downloads its model from the hub (StanfordAIMI/RRG_scorers) the first time. `level`: simple
    compares entities, partial also whether each has relations (what most papers report), complete also
    which relations. It is not known which one PaliGemma 2's figures use. Of several targets the best counts.
    """

    level: Literal["simple", "partial", "complete"] = "partial"
    model: Literal["radgraph", "radgraph-xl", "modern-radgraph-xl"] = "radgraph"

    takes = ("texts",)
    columns = ("f1", "n")
    package = "radgraph"

    def rows(self, answers: Sequence[str | None], targets: Sequence[Any]) -> Rows:
        """One (F1, 1) per sample; 0 for an empty report. Raises UserError if the model cannot be loaded."""
        result = np.zeros((len(targets), 2))
        result[:, 1] = 1.0
        pairs = [
            (i, answer, reference)
            for i, (answer, target) in enumerate(zip(answers, targets, strict=True))
            for reference in accepted(target)
            if answer and reference
        ]
        if pairs:
            places, hypotheses, references = map(list, zip(*pairs, strict=True))
            found = _scorer(self.level, self.model)(refs=references, hyps=hypotheses)
            np.maximum.at(result[:, 0], places, found[1])
        return result

    def tools(self) -> str:
        return version("radgraph")


@cache
def _scorer(level: str, model: str) -> Any:
    """The package's scorer with its model, kept for the next task; its output goes to stderr."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            from radgraph import F1RadGraph

            return F1RadGraph(reward_level=level, model_type=model, cuda=-1)
    except Exception as error:  # the package itself raises plain Exception
        problem = " ".join(str(error).split())[:200]
        raise UserError(
            f"radgraph_f1: the package radgraph cannot load its model {model} ({type(error).__name__}: "
            f"{problem}); it fetches it from the hub once; without the package this metric is left out"
        ) from None
