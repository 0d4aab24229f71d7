"""Similarity of JSON answers by tree edit distance, as Donut measures the parsing of documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from evalkit.text import trees
from evalkit.text.answers import accepted
from evalkit.text.edit_distance import distance
from evalkit.text.tree_edit_distance import Tree
from evalkit.text.tree_edit_distance import distance as tree_distance
from evalkit.types import Metric, Rows

_Node = tuple[str, bool, tuple[Any, ...]]  # label, whether it is a value, children


@dataclass(frozen=True)
class Ted(Metric):
    """max(0, 1 - edits / size of the accepted answer), the best over these (targets: tuples of JSON texts).

    clovaai/donut donut/util.py cal_acc @ 11bc663f: keys and list items are nodes, values are leaves. A node
    costs 1, a leaf its length; changing one value into another costs the edits of their texts, a leaf into
    a node 1 + its length. Its normalisation is kept: keys are sorted by length and name, values are texts
    without blanks at their ends, and "", null, false and a single 0 are dropped. Where the accepted answer
    has no value, and the script divides by zero, an answer without one is 1, any other 0. An answer that is
    no JSON is 0; how many are so is a remark. A sample without accepted answers is left out of n.
    """

    takes: ClassVar[tuple[str, ...]] = ("texts",)

    def rows(self, answers: Sequence[str | None], targets: Sequence[Any]) -> Rows:
        """One (similarity, counted) per sample."""
        result = np.zeros((len(targets), 2))
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            texts, given = accepted(target), trees.given(answer)
            result[i, 1] = bool(texts)
            if given is not None:
                result[i, 0] = max((similarity(given[0], one) for one in trees.wanted(texts)), default=0.0)
        return result

    def remarks(self, answers: Sequence[Any | None], targets: Sequence[Any]) -> Mapping[str, int]:
        return trees.unread(answers)

    def unfit(self, target: Any) -> str:
        return trees.unfit(accepted(target))


def similarity(given: Any, wanted: Any) -> float:
    """The similarity of two JSON values."""
    ours, theirs = (_node(_normalised(value), "<root>") for value in (given, wanted))
    first, labels = _tree(ours)
    second, others = _tree(theirs)
    size = sum(second.weights) - second.weights[-1]
    if not size:
        return float(ours == theirs)
    costs = np.array([[_change(a, b) for b in others] for a in labels], dtype=np.float64)
    return max(0.0, 1 - tree_distance(first, second, costs) / size)


def _normalised(data: Any) -> Any:
    if not data:
        return {}
    if isinstance(data, Mapping):
        found = {}
        for key in sorted(data, key=lambda k: (len(k), k)):
            if value := _normalised(data[key]):
                found[key] = value if isinstance(value, list) else [value]
        return found
    if isinstance(data, list):
        if all(isinstance(item, Mapping) for item in data):
            return [item for item in map(_normalised, data) if item]
        return [str(item).strip() for item in data if type(item) in (str, int, float) and str(item).strip()]
    return [str(data).strip()]


def _node(data: Any, name: str) -> _Node:
    if isinstance(data, Mapping):
        return name, False, tuple(_node(value, key) for key, value in data.items())
    if all(isinstance(item, Mapping) for item in data):
        return name, False, tuple(_node(item, "<subtree>") for item in data)
    return name, False, tuple((item, True, ()) for item in data)


def _tree(root: _Node) -> tuple[Tree, list[tuple[str, bool]]]:
    """The tree in post-order, and its labels by their numbers."""
    numbers: dict[tuple[str, bool], int] = {}
    labels: list[int] = []
    leftmost: list[int] = []
    weights: list[float] = []

    def add(node: _Node) -> int:
        label, leaf, children = node
        left = [add(child) for child in children]
        labels.append(numbers.setdefault((label, leaf), len(numbers)))
        weights.append(float(len(label)) if leaf else 1.0)
        leftmost.append(left[0] if left else len(labels) - 1)
        return leftmost[-1]

    add(root)
    return Tree(labels, leftmost, weights), list(numbers)


def _change(one: tuple[str, bool], other: tuple[str, bool]) -> float:
    """What turning one label into another costs."""
    (text, leaf), (wanted, other_leaf) = one, other
    if leaf and other_leaf:
        return float(distance(text, wanted))
    if leaf or other_leaf:
        return 1.0 + len(text if leaf else wanted)
    return float(text != wanted)
