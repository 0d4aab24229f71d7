"""What a metric is: answers and targets to rows, rows to a score and its parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64] | list[Any]
"""One row per sample: a float array (n, columns), or a list of plain objects where sums are not enough."""

Breakdowns = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Tables of a score's parts: by the table's name, the row's and the figure's."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """A part of a score that is a weighted mean: `rows` (m, columns) of the samples at `places` (m,), scored
    by `metric`."""

    weight: float
    metric: Metric
    rows: npt.NDArray[np.float64]
    places: npt.NDArray[np.intp]


class Metric(ABC):
    """From answers and targets to rows, from rows to a score. One frozen dataclass per file in `metrics/`.

    The default score is a ratio of column sums: first column over second. A metric that uses the sums
    differently overrides `value`; one that needs more than sums (AP) overrides `reduce`.
    """

    wants: ClassVar[tuple[str, ...]] = ("text",)  # kinds of answers that it can read
    takes: ClassVar[tuple[str, ...]] = ()  # kinds of targets (TARGETS) that it can score; (): not checked
    columns: ClassVar[tuple[str, ...]] = ("correct", "n")
    maximum: ClassVar[float | None] = 1.0  # None: unbounded
    minimum: ClassVar[float] = 0.0
    lower_is_better: ClassVar[bool] = False
    corpus: ClassVar[bool] = False  # whether a row depends on the other samples (CIDEr's idf)
    confident: ClassVar[bool] = False  # whether `rows` gets every answer as `Confident`
    undefined: ClassVar[str] = "no sample has a target that counts"  # why there is no score, where it is NaN
    package: ClassVar[str] = ""  # without this package, only the task's other metrics are scored

    @abstractmethod
    def rows(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Rows:
        """One row per sample; an answer of None (unreadable) is scored as wrong, never dropped."""

    def value(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Column sums (..., columns) to scores (...); vectorised for resampling. NaN where undefined."""
        with np.errstate(divide="ignore", invalid="ignore"):
            result: npt.NDArray[np.float64] = sums[..., 0] / sums[..., 1]
        return result

    def reduce(self, rows: Rows, counts: npt.NDArray[Any] | None = None) -> float:
        """The score of the rows; `counts` (n,) says how often each row is drawn in a resample."""
        array = np.asarray(rows, dtype=np.float64)
        sums = array.sum(axis=0) if counts is None else np.asarray(counts, dtype=np.float64) @ array
        return float(self.value(sums))

    def details(self, rows: Rows) -> dict[str, float]:
        """Further figures by name (accuracy per question type, AP at .75...)."""
        return {}

    def why_undefined(self, rows: Rows) -> str:
        """Why these rows give no score, where `reduce` gives NaN."""
        return self.undefined

    def strata(self, rows: Rows) -> Sequence[Stratum]:
        """The parts that the score is a weighted mean of, for its interval; none where it is no such mean."""
        return ()

    def breakdowns(self, rows: Rows) -> Breakdowns:
        """The score's parts: `{"class": {"cat": {"AP": 0.5, "objects": 12}}}`, also counts. `confusion` has a
        row a true class, `error` one a kind of error; each is shown by `evalkit table --per NAME`."""
        return {}

    def part_intervals(self, rows: Rows, index: npt.NDArray[np.intp]) -> Breakdowns:
        """What is added to `breakdowns` for their 95 % intervals: `{"class": {"cat": {"AP low": 0.4,
        "AP high": 0.6, "images": 12}}}`. `index` (n,) are the samples' clusters, `images` how many of them
        show the part."""
        return {}

    def offsets(self, rows: Rows) -> npt.NDArray[np.float64] | None:
        """How far boxes are from the targets that they overlap: (n, 3), the summed distances down and right,
        in 1/1024 of the image, and the number of boxes. None for a metric without boxes."""
        return None

    def judged(self, rows: Rows) -> Sequence[Sequence[tuple[float, float]]] | None:
        """Of every sample each of its boxes as (confidence, 1 if right else 0), both in [0, 1]; None for a
        metric whose rows judge an answer as a whole."""
        return None

    def silent(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which samples (n,) say nothing of the score, such as images that show nothing and where nothing is
        detected: however many there are, they make no interval narrower."""
        return np.zeros(len(rows), dtype=bool)

    def bounds(
        self, rows: Rows, index: npt.NDArray[np.intp]
    ) -> tuple[float | None, float | None, str] | None:
        """(low, high, method) of a score whose resamples are not scattered around it; None: as of others.
        `index` (n,) are the samples' clusters."""
        return None

    def remarks(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Mapping[str, int]:
        """What is odd about answers that were read, and how many are so: labels of no category, say."""
        return {}

    def unfit(self, target: Any) -> str:
        """What is wrong with a target of a kind that the metric takes ("is ...; it must be ..."), or ''."""
        return ""

    def no_interval(self) -> str:
        """Why rows cannot be resampled one by one (then there is no interval), or ''."""
        return ""

    def tools(self) -> str:
        """Versions of the external tools that compute (`pycocotools 2.0.11`), for the signature."""
        return ""


@dataclass(frozen=True)
class Share(Metric):
    """The share of answers that equal their targets; scores strata of right and wrong answers, too."""

    def rows(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Rows:
        return np.array([[float(a == t), 1.0] for a, t in zip(answers, targets, strict=True)]).reshape(-1, 2)
