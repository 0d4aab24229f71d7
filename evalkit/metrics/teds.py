"""TEDS: similarity of HTML tables by tree edit distance, with cell contents or by structure only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt

from evalkit.text import tree_edit_distance
from evalkit.text.answers import accepted
from evalkit.text.edit_distance import distances
from evalkit.text.html import parse, reader, unwrap
from evalkit.types import Metric, Rows

LONGEST = 50_000  # characters; a longer answer that is also over 4 times its target is not read
PAIRS = 16_000_000  # of nodes; with more the trees are not compared (memory)
EFFORT = 1_000_000_000  # likewise; about ten seconds

_WHOLE = re.compile(r"\s*<(?:html|!doctype)", re.IGNORECASE)
_Label = tuple[str, int, int, tuple[str, ...]]  # tag, columns, rows, and a cell's characters and tags


@dataclass(frozen=True)
class Teds(Metric):
    """1 - tree edit distance / nodes of the larger table (targets: tuples of HTML documents).

    ibm-aur-nlp/PubTabNet src/metric.py @ 8ffde902. `structure_only`: cells are compared as if empty
    (S-TEDS). `ignore`: tags to remove while their content stays, such as ("b", "i"). The HTML is read as
    lxml reads it, and the reference's behaviour is kept:
    - The first table directly under body counts. A bare <table> without <html> or <!doctype> at the
      start scores 0, as do a table inside another element and an empty text.
    - The tree ends at cells, but its nodes are counted with the tags inside cells and without the table
      itself. Only a td is a cell: text and spans of th, caption and others are not compared.
    - A cell's text is compared with its tags, character by character, white space included. Attributes
      other than colspan and rowspan (so PaliGemma 2's `coords`) are ignored.
    - Tables of very different shape may score below 0.

    Where the reference raises: a span that is not a number is 1; two tables without any row are equal;
    a document without elements scores 0. A score is also 0 where the trees have more than 16 million pairs
    of nodes or would take far over ten seconds, and where an answer has over 50,000 characters and 4 times
    its target's. Of several targets the best counts; a sample without one is left out of n.
    """

    structure_only: bool = False
    ignore: tuple[str, ...] = ()

    takes = ("texts",)
    columns = ("similarity", "n")

    def rows(self, answers: Sequence[str | None], targets: Sequence[Sequence[str]]) -> Rows:
        """One (similarity, counted) per sample."""
        result = np.zeros((len(targets), 2))
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            tables = accepted(target)
            result[i, 1] = bool(tables)
            if answer and tables:
                result[i, 0] = max(self._similarity(answer, text) for text in tables)
        return result

    def tools(self) -> str:
        """The version of libxml2, which reads the HTML."""
        return reader()

    def _similarity(self, answer: str, target: str) -> float:
        if len(answer) > max(LONGEST, 4 * len(target)):
            return 0.0
        given, wanted = self._table(answer), self._table(target)
        if given is None or wanted is None:
            return 0.0
        size = max(_size(given), _size(wanted))
        labels: tuple[dict[_Label, int], dict[_Label, int]] = ({}, {})
        ours, theirs = (
            self._tree(table, known) for table, known in zip((given, wanted), labels, strict=True)
        )
        if labels[0] == labels[1] and ours == theirs:
            return 1.0
        if len(ours) * len(theirs) > PAIRS or tree_edit_distance.effort(ours, theirs) > EFFORT:
            return 0.0
        return 1.0 - tree_edit_distance.distance(ours, theirs, _costs(*map(list, labels))) / size

    def _table(self, text: str) -> Element | None:
        """The table that counts, or None."""
        root = parse(text)
        if root is None or not (_WHOLE.match(text) or root.find("head") is not None):
            return None  # here lxml.html, and so the reference, has no body to look under
        table = root.find("body/table")
        if table is not None and self.ignore:
            unwrap(table, self.ignore)
        return table

    def _tree(self, table: Element, known: dict[_Label, int]) -> tree_edit_distance.Tree:
        """The table down to its cells; new labels are numbered and added to `known`."""
        labels: list[int] = []
        leftmost: list[int] = []

        def visit(node: Element) -> int:
            cell = node.tag == "td"
            children = () if cell else tuple(node)
            first = [visit(child) for child in children]
            label: _Label = (node.tag, 0, 0, ())
            if cell:
                content = () if self.structure_only else tuple(_tokens(node)[1:-1])
                label = ("td", _span(node, "colspan"), _span(node, "rowspan"), content)
            labels.append(known.setdefault(label, len(known)))
            leftmost.append(first[0] if first else len(labels) - 1)
            return leftmost[-1]

        visit(table)
        return tree_edit_distance.Tree(labels, leftmost)


def _size(node: Element) -> int:
    """Elements below the node."""
    return sum(1 for _ in node.iter()) - 1


def _span(node: Element, name: str) -> int:
    try:
        return int(node.get(name, "1"))
    except ValueError:
        return 1


def _tokens(node: Element) -> list[str]:
    """The element as tags and single characters; `unk` has no end tag, and a td's tail is left out."""
    result = [f"<{node.tag}>", *(node.text or "")]
    for child in node:
        result += _tokens(child)
    if node.tag != "unk":
        result.append(f"</{node.tag}>")
    return result if node.tag == "td" else [*result, *(node.tail or "")]


def _costs(ours: Sequence[_Label], theirs: Sequence[_Label]) -> npt.NDArray[np.float64]:
    """The cost, 0 to 1, of changing each label of one tree to each of the other: (ours, theirs)."""
    result = np.ones((len(ours), len(theirs)))
    comparable: dict[tuple[str, int, int], tuple[list[int], list[int]]] = {}
    for side, labels in enumerate((ours, theirs)):
        for place, label in enumerate(labels):
            comparable.setdefault(label[:3], ([], []))[side].append(place)
    for rows, columns in comparable.values():
        first, second = [ours[i][3] for i in rows], [theirs[j][3] for j in columns]
        if first and second:
            longer = np.maximum.outer([len(c) for c in first], [len(c) for c in second])
            result[np.ix_(rows, columns)] = distances(first, second) / np.maximum(longer, 1)
    return result
