"""ANLS*: the similarity of texts, lists and objects, as of documents whose answer is JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from evalkit.text import trees
from evalkit.text.answers import accepted
from evalkit.text.edit_distance import distance
from evalkit.types import Metric, Rows


@dataclass(frozen=True)
class AnlsStar(Metric):
    """Best similarity to an accepted answer (targets: tuples of JSON texts, or plain texts).

    Peer et al. 2024 (arXiv:2402.03848), package anls_star 1.0.1: the mean over all values of their ANLS,
    lower-cased and without double spaces, 0 below `threshold`; a value that is missing or too much counts 0;
    the items of lists are paired so that the sum is largest. Of several such pairings, whose scores may
    differ, the package's own solver may find another one. A text that is no JSON is a single value, on both
    sides. A sample without accepted answers is left out of n.
    """

    threshold: float = 0.5

    takes: ClassVar[tuple[str, ...]] = ("texts",)

    def rows(self, answers: Sequence[str | None], targets: Sequence[Any]) -> Rows:
        """One (similarity, counted) per sample."""
        result = np.zeros((len(targets), 2))
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            texts = accepted(target)
            result[i, 1] = bool(texts)
            if answer is not None:
                given = trees.wanted([answer])[0]
                result[i, 0] = max((self._score(given, one) for one in trees.wanted(texts)), default=0.0)
        return result

    def _score(self, given: Any, wanted: Any) -> float:
        total, length, _ = self._compare(given, wanted)
        return total / length if length else 1.0

    def _compare(self, given: Any, wanted: Any) -> tuple[float, int, Any]:
        """(sum of similarities, number of values, the wanted value as it is nearest to the given)."""
        length = max(_length(given), _length(wanted))
        if wanted is None:
            return (1.0, length, given) if _void(given) else (0.0, length, None)
        if isinstance(wanted, list):
            return self._lists(given, wanted) if isinstance(given, list) else (0.0, length, wanted)
        if isinstance(wanted, Mapping):
            return self._objects(given, wanted) if isinstance(given, Mapping) else (0.0, length, wanted)
        if given is None or isinstance(given, list | Mapping):
            return 0.0, length, wanted
        a, b = (" ".join(str(value).strip().lower().split()) for value in (given, wanted))
        longest = max(len(a), len(b))
        similarity = 1 - distance(a, b) / longest if longest else 1.0
        return (similarity if similarity >= self.threshold else 0.0), length, wanted

    def _objects(self, given: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[float, int, Any]:
        total, length, nearest = 0.0, 0, {}
        for key in {**wanted, **given}:
            part, size, chosen = self._compare(given.get(key), wanted.get(key))
            length += size
            if key not in wanted and _void(given[key]):
                continue  # counted in the length alone: kept
            total += part
            if key in given or not _void(chosen):
                nearest[key] = chosen
        return total, length, nearest

    def _lists(self, given: list[Any], wanted: list[Any]) -> tuple[float, int, Any]:
        from scipy.optimize import linear_sum_assignment

        found = [[self._compare(g, w) for g in given] for w in wanted]
        means = np.zeros((len(wanted), len(given)))
        for i, row in enumerate(found):
            for j, (part, size, chosen) in enumerate(row):
                mean = part / size if size else 1.0
                means[i, j] = math.nextafter(mean, math.inf) if given[j] == chosen else mean
        rows, columns = linear_sum_assignment(means, maximize=True)
        pairs = list(zip(rows.tolist(), columns.tolist(), strict=True))
        left = [w for i, w in enumerate(wanted) if i not in set(rows.tolist())]
        more = [g for j, g in enumerate(given) if j not in set(columns.tolist())]
        length = sum(found[i][j][1] for i, j in pairs) + sum(map(_length, left + more))
        chosen = [found[i][j][2] for i, j in sorted(pairs, key=lambda pair: pair[1])]
        return sum(found[i][j][0] for i, j in pairs), length, chosen + left


def _length(value: Any) -> int:
    """How many values there are; null is one."""
    if isinstance(value, list):
        return sum(map(_length, value))
    return sum(map(_length, value.values())) if isinstance(value, Mapping) else 1


def _void(value: Any) -> bool:
    return value is None or value in ({}, [], "")
