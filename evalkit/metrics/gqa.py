"""GQA's accuracy, and as details its consistency, validity, plausibility and distribution."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.text.answers import accepted
from evalkit.types import Metric, Rows, Share, Stratum

_COMMON = ("color", "material", "shape")  # what "... common" questions accept


@dataclass(frozen=True)
class Gqa(Metric):
    """Share of balanced questions answered exactly; `details` has the official script's other figures.

    Targets are `{"answers": (the answer,), "id": question id}` and, where the annotations have them,
    `balanced` (default True), `structural`, `semantic`, `detailed` (the question's types), `group` (its
    global group), `entailed` (ids), `words`, `steps` (how many), `valid`, `plausible` (answers).

    Stanford's eval.py as in MILVLG/openvqa datasets/gqa/eval/gqa_eval.py @ f8f9966f. Figures are
    fractions, not percentages; distribution is the mean chi-square over 100, lower is better. A figure that
    the annotations do not allow is left out.
    """

    takes = ("question",)
    columns = ()

    def rows(self, answers: Sequence[str | None], targets: Sequence[dict[str, Any]]) -> Rows:
        """One dict per sample: the answer, and what `details` needs from its target."""
        return [_row(answer, target) for answer, target in zip(answers, targets, strict=True)]

    def reduce(self, rows: Rows, counts: npt.NDArray[Any] | None = None) -> float:
        """The share of right answers; NaN without a balanced question."""
        correct = np.array([row["correct"] * row["balanced"] for row in rows], dtype=np.float64)
        balanced = np.array([row["balanced"] for row in rows], dtype=np.float64)
        drawn = np.ones(len(rows)) if counts is None else np.asarray(counts, dtype=np.float64)
        total = float(drawn @ balanced)
        return float(drawn @ correct) / total if total else float("nan")

    def strata(self, rows: Rows) -> list[Stratum]:
        places = np.flatnonzero([row["balanced"] for row in rows])
        correct = np.array([[rows[i]["correct"], 1.0] for i in places]).reshape(-1, 2)
        return [Stratum(1.0, Share(), correct, places)] if len(places) else []

    def details(self, rows: Rows) -> dict[str, float]:
        """binary, open, consistency, validity, plausibility, distribution and accuracy by kind."""
        balanced = [row for row in rows if row["balanced"]]
        lists: dict[str, list[float]] = defaultdict(list)
        right = {row["id"]: row["correct"] for row in rows}
        for row in balanced:
            for name in ("validity", "plausibility"):
                if row[name] is not None:
                    lists[name].append(row[name])
            if row["structural"]:
                lists["open" if row["structural"] == "query" else "binary"].append(row["correct"])
            for name in ("structural", "semantic", "words", "steps"):
                if row[name] is not None:
                    lists[f"{name} {row[name]}"].append(row["correct"])
            inferred = [right[other] for other in row["entailed"] if other in right]
            if row["correct"] and inferred:
                lists["consistency"].append(float(np.mean(inferred)))
        found = {name: float(np.mean(values)) for name, values in sorted(lists.items())}
        distance = _distribution(balanced)
        return found if distance is None else found | {"distribution": distance}


def _row(answer: str | None, target: dict[str, Any]) -> dict[str, Any]:
    gold = accepted(target)[0]
    common = "Common" in target.get("detailed", "")
    allowed = {name: _COMMON if common else target.get(name) for name in ("valid", "plausible")}
    known = {name: target.get(name) is not None for name in allowed}
    return {
        "id": target["id"],
        "answer": answer,
        "gold": gold,
        "correct": float(answer == gold),
        "balanced": bool(target.get("balanced", True)),
        "group": target.get("group"),
        "entailed": [other for other in target.get("entailed", ()) if other != target["id"]],
        "validity": float(answer in (allowed["valid"] or ())) if known["valid"] else None,
        "plausibility": float(answer in (allowed["plausible"] or ())) if known["plausible"] else None,
    } | {name: target.get(name) for name in ("structural", "semantic", "words", "steps")}


def _distribution(rows: Iterable[dict[str, Any]]) -> float | None:
    """Chi-square of the answers' distribution against the targets', by group, over 100."""
    wanted: dict[Any, Counter[str]] = defaultdict(Counter)
    given: dict[Any, Counter[str | None]] = defaultdict(Counter)
    for row in rows:
        if row["group"] is not None:
            wanted[row["group"]][row["gold"]] += 1
            given[row["group"]][row["answer"]] += 1
    if not wanted:
        return None
    total = sum(counts.total() for counts in wanted.values())
    score = 0.0
    for group, counts in wanted.items():
        score += counts.total() * sum((given[group][a] - n) ** 2 / n for a, n in counts.items())
    return score / total / 100
