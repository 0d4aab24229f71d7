"""What metrics of confidence share: rows of judged answers or boxes, each with its probability.

Knows another metric's rows, not which metric it is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from evalkit.stats.selective import Drawn, Ranked
from evalkit.types import Confident, Metric, Rows

Per = Literal["sequence", "token"]


class Judged(Metric):
    """How well probabilities tell right from wrong, by the values in [0, 1] that another metric gives.

    An answer is judged as a whole, by the probability of its text; of a metric with boxes that are right or
    wrong each box is, by its own. What has no target that counts is left out.
    """

    metric: Metric
    confidence: Per

    columns: ClassVar[tuple[str, ...]] = ()
    confident: ClassVar[bool] = True
    undefined: ClassVar[str] = "nothing is judged: no answer has a target that counts, or a box"

    def judge_by(self, metric: Metric, spelled: str) -> None:
        """Takes its values from `metric`. Raises ValueError for one whose score is no mean of such values."""
        boxes = type(metric).judged is not Metric.judged
        mean = type(metric).value is Metric.value and metric.columns[1:2] == ("n",) and not metric.corpus
        bounded = (metric.minimum, metric.maximum) == (0.0, 1.0) and not metric.lower_is_better
        if not (boxes or (mean and bounded)):
            raise ValueError(
                f"of={spelled!r}: is no mean of values from 0 (wrong) to 1 (right), nor of boxes with "
                "confidences; take e.g. exact_match, vqa_accuracy, box_accuracy or sweep_f1"
            )
        object.__setattr__(self, "metric", metric)
        for name in ("wants", "takes"):  # of the other metric too
            object.__setattr__(self, name, getattr(metric, name))

    @abstractmethod
    def figure(self, drawn: Drawn) -> float:
        """The score of at least one judged thing."""

    def rows(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Rows:
        """One dict a sample: `judged`, a list of [probability, value]; None where no log-probabilities were
        kept. An answer of None is one that is wrong for certain."""
        sure = [a if isinstance(a, Confident) else Confident(a, (0.0,)) for a in answers]
        inner = self.metric.rows([a.answer for a in sure], targets)
        boxes = self.metric.judged(inner)
        if boxes is None:
            array = np.asarray(inner, dtype=np.float64)
            boxes = [
                [] if row[1] == 0 else [(a.probability(self.confidence) or 0.0, float(row[0]))]
                for a, row in zip(sure, array, strict=True)
            ]
        return [
            {"judged": None if a.logprobs is None else [list(each) for each in some]}
            for a, some in zip(sure, boxes, strict=True)
        ]

    def reduce(self, rows: Rows, counts: npt.NDArray[Any] | None = None) -> float:
        """The figure; `counts` (n,) says how often each sample is drawn. NaN where a sample has no
        log-probabilities."""
        ranked = ranked_of(rows)
        if ranked is None:
            return float("nan")
        drawn = ranked.drawn(np.ones(len(rows), dtype=np.intp) if counts is None else np.asarray(counts))
        return self.figure(drawn) if drawn.total else float("nan")

    def why_undefined(self, rows: Rows) -> str:
        lacking = sum(row["judged"] is None for row in rows)
        if not lacking:
            return self.undefined
        of = "no answer has" if lacking == len(rows) else f"{lacking:,} of {len(rows):,} answers have no"
        return f"{of} log-probabilities; `evalkit run --confidence` keeps them"

    def whole(self, rows: Rows) -> Drawn:
        """Every sample once; for what stands beside a score that is a number."""
        ranked = ranked_of(rows)
        assert ranked is not None
        return ranked.drawn(np.ones(len(rows), dtype=np.intp))

    def silent(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Samples of which nothing is judged."""
        return np.array([row["judged"] == [] for row in rows], dtype=bool)

    def tools(self) -> str:
        return self.metric.tools()


_last: list[tuple[Any, Ranked | None]] = []  # a bootstrap reduces the same rows hundreds of times


def ranked_of(rows: Any) -> Ranked | None:
    """The judged things of rows, ranked; None where a sample has no log-probabilities."""
    if not _last or _last[0][0] is not rows:
        lacking = any(row["judged"] is None for row in rows)
        _last[:] = [(rows, None if lacking else Ranked.of([row["judged"] for row in rows]))]
    return _last[0][1]
