"""GriTS: similarity of HTML tables as grids, by topology or by content."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from evalkit.text.answers import accepted
from evalkit.text.html import parse, reader
from evalkit.types import Metric, Rows

LONGEST = 50_000  # characters; a longer answer that is also over 4 times its target is not read
WIDEST = 1000  # rows or columns that one cell may span; HTML has this limit for columns
PLACES = 1_000_000  # grid places of a table; a larger one is not read
PAIRS = 16_000_000  # of places; with more, tables are not compared
LINES = 1_000_000  # likewise: pairs of rows, of columns, or of different texts
AREA = 25_000_000  # product of two texts' lengths; above it their similarity is 1 if equal, else 0

Floats = npt.NDArray[np.float64]
_Span = tuple[int, int, int, int]
_Value = TypeVar("_Value", _Span, str)
_Grid = list[list[tuple[_Span, str]]]
"""For each place: its cell's edges (x0, y0, x1, y1) relative to the place, and the cell's text."""
_NOTHING: tuple[_Span, str] = ((0, 0, 1, 1), "")


@dataclass(frozen=True)
class Grits(Metric):
    """F-score of the best-matching rows and columns of two tables (targets: tuples of HTML texts).

    microsoft/table-transformer src/grits.py @ 16d124f6 (Smock et al., 2023), grits_from_html. A table is a
    grid of places; a cell covers one or more. Two places are compared
    - topology: by the extent of their cells, relative to the place; the overlap is divided by the area of
      the box around both, as there.
    - content: by their cells' texts (the pieces between tags, joined by blanks): twice the characters in
      difflib's matching blocks over both lengths (not the longest common subsequence: kept).

    td and th anywhere are cells; each tr starts a row. A table without cells has precision 1, so that
    it equals another such table. Where the reference fails: text that is not XML (a bare &,
    `coords=<loc..>`, a table that breaks off) is read as `teds` reads it; a span that is not a number, or
    is below 1, is 1; places that no cell covers are empty cells; without any tr all cells are in row 0. A
    span over 1000 is 1000. A score is 0 where an answer has over 50,000 characters and 4 times its target's,
    a table over a million places, or two tables over 16 million pairs of places or a million pairs of
    rows, columns or texts. Of several targets the best counts; a sample without one is left out of n.
    """

    kind: Literal["topology", "content"] = "topology"

    takes = ("texts",)
    columns = ("similarity", "n")

    def rows(self, answers: Sequence[str | None], targets: Sequence[Sequence[str]]) -> Rows:
        """One (F-score, counted) per sample."""
        result = np.zeros((len(targets), 2))
        for i, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            tables = accepted(target)
            result[i, 1] = bool(tables)
            if answer is not None and tables:
                result[i, 0] = max(self._similarity(answer, text) for text in tables)
        return result

    def tools(self) -> str:
        """The version of libxml2, which reads text that is not well-formed XML."""
        return reader()

    def _similarity(self, answer: str, target: str) -> float:
        if len(answer) > max(LONGEST, 4 * len(target)):
            return 0.0
        given, wanted = _grid(answer), _grid(target)
        if given is None or wanted is None:
            return 0.0
        sizes = [len(grid) * len(grid[0]) if grid else 0 for grid in (wanted, given)]
        if not all(sizes):
            return float(sizes[0] == sizes[1])
        lines = max(len(wanted) * len(given), len(wanted[0]) * len(given[0]))
        if sizes[0] * sizes[1] > PAIRS or lines > LINES:
            return 0.0
        rewards = self._rewards(wanted, given)
        if rewards is None:
            return 0.0
        ours, theirs = _align(rewards)
        across, down = _align(rewards.transpose(1, 0, 3, 2))
        matched = sum(
            rewards[i, across, j, down].sum() for i, j in zip(ours, theirs, strict=True)
        )  # only aligned columns of aligned rows
        precision, recall = float(matched) / sizes[1], float(matched) / sizes[0]
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    def _rewards(self, wanted: _Grid, given: _Grid) -> Floats | None:
        """Similarities of places: (rows, columns of the target, rows, columns of the answer)."""
        if self.kind == "topology":
            first, known = _numbered([[span for span, _ in row] for row in wanted])
            second, others = _numbered([[span for span, _ in row] for row in given])
            table = _overlap(np.array(known)[:, None], np.array(others)[None, :])
        else:
            first, texts = _numbered([[text for _, text in row] for row in wanted])
            second, more = _numbered([[text for _, text in row] for row in given])
            if len(texts) * len(more) > LINES:
                return None
            table = _text_similarities(texts, more)
        result: Floats = table[first[:, :, None, None], second[None, None, :, :]]
        return result


def _numbered(grid: list[list[_Value]]) -> tuple[npt.NDArray[np.int64], list[_Value]]:
    """The grid's values as indices into a list of the different values, and that list."""
    known: dict[_Value, int] = {}
    numbers = [[known.setdefault(value, len(known)) for value in row] for row in grid]
    return np.array(numbers, dtype=np.int64), list(known)


def _overlap(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> Floats:
    """The area that both cover over the box around both; edges x0, y0, x1, y1 in the last axis."""
    inner = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    outer = np.maximum(first[..., 2:], second[..., 2:]) - np.minimum(first[..., :2], second[..., :2])
    result: Floats = np.maximum(inner, 0).prod(axis=-1) / outer.prod(axis=-1)
    return result


def _text_similarities(first: Sequence[str], second: Sequence[str]) -> Floats:
    """Twice the characters in difflib's matching blocks over both lengths; 1 for two empty texts."""
    result = np.zeros((len(first), len(second)))
    letters = [set(text) for text in first]
    matcher = SequenceMatcher(None)
    for j, text in enumerate(second):
        matcher.set_seq2(text)
        own = set(text)
        for i, other in enumerate(first):
            if other == text and len(text) < 200:  # at 200 and more, difflib ignores frequent characters
                result[i, j] = 1.0
            elif len(other) * len(text) > AREA:
                result[i, j] = float(other == text)
            elif not own.isdisjoint(letters[i]):
                matcher.set_seq1(other)
                shared = sum(block.size for block in matcher.get_matching_blocks())
                result[i, j] = 2 * shared / (len(other) + len(text))
    return result


def _align(rewards: Floats) -> tuple[list[int], list[int]]:
    """The best alignment of the lines of both tables: indices of the first, indices of the second.

    Lines (rows or columns) are compared by aligning their places. Of equal choices a pair wins, then
    leaving out a line of the first table, as in the reference.
    """
    count, width, others, breadth = rewards.shape
    line = np.zeros((breadth + 1, count, others))
    for i in range(width):
        above = line
        line = np.zeros_like(above)
        for j in range(breadth):
            paired = above[j] + rewards[:, i, :, j]
            line[j + 1] = np.maximum(paired, np.maximum(above[j + 1], line[j]))
    pair = line[breadth].tolist()
    scores = [[0.0] * (others + 1) for _ in range(count + 1)]
    for i in range(1, count + 1):
        for j in range(1, others + 1):
            scores[i][j] = max(scores[i - 1][j - 1] + pair[i - 1][j - 1], scores[i - 1][j], scores[i][j - 1])
    first, second, i, j = [], [], count, others
    while i and j:
        if scores[i][j] == scores[i - 1][j - 1] + pair[i - 1][j - 1]:
            i, j = i - 1, j - 1
            first.append(i)
            second.append(j)
        elif scores[i][j] == scores[i - 1][j]:
            i -= 1
        else:
            j -= 1
    return first[::-1], second[::-1]


# --- from HTML to grids ------------------------------------------------------------------------


def _grid(text: str) -> _Grid | None:
    """The table's places by row and column; None when it is too large."""
    cells: list[tuple[int, int, int, int, str]] = []  # row, column, rows, columns, text
    occupied: dict[int, set[int]] = defaultdict(set)
    free: dict[int, int] = defaultdict(int)  # for each row, the first column that may be free
    row, area = -1, 0
    for element in _elements(text):
        row += element.tag == "tr"
        if element.tag not in ("td", "th"):
            continue
        while free[row] in occupied[row]:
            free[row] += 1
        column = free[row]
        height, width = _span(element, "rowspan"), _span(element, "colspan")
        cells.append((row, column, height, width, " ".join(element.itertext())))
        area += height * width
        if area > PLACES:
            return None
        for below in range(row, row + height):
            occupied[below].update(range(column, column + width))
    if not cells:
        return []
    rows = max(row + height for row, _, height, _, _ in cells)
    if rows < 1:
        cells, rows = [(0, *cell[1:]) for cell in cells], max(cell[2] for cell in cells)
    columns = max(column + width for _, column, _, width, _ in cells)
    if rows * columns > PLACES:
        return None
    grid = [[_NOTHING] * columns for _ in range(rows)]
    for top, left, height, width, written in cells:
        for y in range(top, top + height):
            for x in range(left, left + width):
                grid[y][x] = ((left - x, top - y, left + width - x, top + height - y), written)
    return grid


def _elements(text: str) -> Iterator[ET.Element]:
    """All elements in the order of their start tags; well-formed XML as such, any other text as HTML."""
    root = None
    if "<!DOCTYPE" not in text:  # a DOCTYPE may define entities that expand without limit
        try:
            root = ET.fromstring(text)
        except (ET.ParseError, ValueError):
            root = None
    if root is None:
        root = parse(text)
    if root is not None:
        yield from root.iter()


def _span(cell: ET.Element, name: str) -> int:
    try:
        return min(max(int(cell.get(name, "1")), 1), WIDEST)
    except ValueError:
        return 1
