"""Edit distance between ordered labelled trees (Zhang and Shasha, 1989); knows no label and no metric.

Our own, because apted 1.0.3, which PubTabNet's script calls, misses the least cost for some trees if renaming
costs a fraction (25 of 6,000 small random pairs). This one equals the recursive definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tree:
    """A tree in post-order: each node's label (a number), the index of its leftmost leaf, and what inserting
    or deleting it costs (by default 1)."""

    labels: Sequence[int]
    leftmost: Sequence[int]
    weights: Sequence[float] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def cost(self) -> Sequence[float]:
        """What inserting or deleting each node costs."""
        return self.weights or [1.0] * len(self)

    @cached_property
    def roots(self) -> list[int]:
        """The key roots: nodes that have a sibling to the left, and the root. Ascending."""
        return sorted({left: node for node, left in enumerate(self.leftmost)}.values())

    @cached_property
    def work(self) -> int:
        """The sum of all key roots' subtree sizes: the tree's factor in the cost of a comparison."""
        return sum(node - self.leftmost[node] + 1 for node in self.roots)

    @cached_property
    def nesting(self) -> list[int]:
        """How many key roots are nested below each node."""
        result: list[int] = []
        roots = set(self.roots)
        stack: list[int] = []  # finished subtrees that have no parent yet
        for node, left in enumerate(self.leftmost):
            nested = 0
            while stack and stack[-1] >= left:
                child = stack.pop()
                nested = max(nested, result[child] + (child in roots))
            result.append(nested)
            stack.append(node)
        return result

    @cached_property
    def groups(self) -> list[list[int]]:
        """Key roots in groups of similar size that do not depend on each other, innermost first."""
        groups: dict[tuple[int, int], list[int]] = {}
        for node in self.roots:
            size = node - self.leftmost[node] + 1
            groups.setdefault((self.nesting[node], size.bit_length()), []).append(node)
        return [group for _, group in sorted(groups.items())]


@dataclass(frozen=True)
class _Batch:
    """Subtrees that do not depend on each other, one per line; lines are filled up to one width."""

    nodes: Ints  # (subtrees, width)
    labels: Ints  # (subtrees, width)
    before: Ints  # (subtrees, width): how many nodes of the subtree are left of each node's own subtree
    inserted: Floats  # (subtrees, width + 1): the cost of inserting the first nodes of each line
    skipped: Floats  # (subtrees, width): the cost of inserting the nodes that `before` counts
    path: npt.NDArray[np.bool_]  # (subtrees, width): on the way from the root to its leftmost leaf


def distance(first: Tree, second: Tree, costs: Floats) -> float:
    """The least cost of turning one tree into the other.

    `costs` (labels of first, labels of second): what renaming costs. Time grows with first.work x
    second.work; numpy handles a group of `second`'s subtrees at a time.
    """
    if first.work > second.work:
        first, second, costs = second, first, costs.T
    batches = [_batch(second, group) for group in second.groups]
    known = np.zeros((len(first), len(second)))  # distances between whole subtrees
    for root in first.roots:
        for batch in batches:
            _compare(first, root, batch, costs, known)
    return float(known[-1, -1])


def effort(first: Tree, second: Tree) -> int:
    """An estimate of the time that `distance` takes, in steps of about 10 ns."""
    if first.work > second.work:
        first, second = second, first
    return first.work * (second.work + 3000 * len(second.groups))


def _compare(first: Tree, root: int, batch: _Batch, costs: Floats, known: Floats) -> None:
    """Computes forest distances of `first`'s subtree at `root` to each of the batch; updates `known`."""
    start = first.leftmost[root]
    count, width = batch.nodes.shape
    steps = batch.inserted
    forests = np.empty((root - start + 2, count, width + 1))
    forests[0] = steps
    on_path = batch.nodes[batch.path]
    for node in range(start, root + 1):
        above, here = forests[node - start], forests[node - start + 1]
        left = first.leftmost[node] - start
        if left == 0:
            renamed = above[:, :-1] + costs[first.labels[node]][batch.labels]
            kept = np.where(batch.path, renamed, batch.skipped + known[node][batch.nodes])
        else:
            kept = np.take_along_axis(forests[left], batch.before, axis=1) + known[node][batch.nodes]
        here[:, 0] = above[:, 0] + first.cost[node]
        here[:, 1:] = np.minimum(above[:, 1:] + first.cost[node], kept)
        here[:] = np.minimum.accumulate(here - steps, axis=1) + steps  # insertions
        if left == 0:
            known[node, on_path] = here[:, 1:][batch.path]


def _batch(tree: Tree, group: list[int]) -> _Batch:
    leftmost = np.asarray(tree.leftmost, dtype=np.int64)
    last = np.array(group, dtype=np.int64)[:, None]
    start = leftmost[last]
    wanted = start + np.arange(int((last - start).max()) + 1)
    nodes = np.minimum(wanted, last)
    before = leftmost[nodes] - start
    labels = np.asarray(tree.labels, dtype=np.int64)[nodes]
    inserted = np.pad(np.cumsum(np.asarray(tree.cost)[nodes], axis=1), ((0, 0), (1, 0)))
    skipped = np.take_along_axis(inserted, before, axis=1)
    return _Batch(nodes, labels, before, inserted, skipped, (before == 0) & (wanted <= last))
