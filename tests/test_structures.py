"""Tables, molecules and polygons where no parity file says what is right, and how long absurd input takes."""

from __future__ import annotations

import itertools
import re
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evalkit import registry
from evalkit.errors import UserError
from evalkit.geometry import polygons
from evalkit.text import edit_distance, tree_edit_distance
from evalkit.text.html import parse


def one(spelling: str, answer: Any, target: Any) -> float:
    metric = registry.make("metrics", spelling)
    return metric.reduce(metric.rows([answer], [target]))


def table(*rows: str) -> str:
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


TD = "<td>a</td>"

# Worked out by hand from grits.py of microsoft/table-transformer @ 16d124f6.
GRITS = [
    ("topology", table(TD * 2, TD * 2), table(TD * 2, TD * 2), 1.0),
    ("topology", table(TD, TD), table(TD * 2, TD * 2), 2 / 3),  # precision 1, recall 1/2
    # two half overlaps, as each place sees a cell twice as wide: (0, 0, 2, 1) and (-1, 0, 1, 1)
    ("topology", table(TD * 2), table('<td colspan="2">a</td>'), 0.5),
    ("topology", table('<td rowspan="2">a</td>', ""), table(TD, TD), 0.5),
    ("topology", table("<th>x</th><td>y</td>"), table(TD * 2), 1.0),
    ("content", table("<td>12.3</td>"), table("<td>12.8</td>"), 0.75),
    # difflib takes the longest block first, and with it "ab" is lost: the longest subsequence is longer
    ("content", table("<td>abxxcd</td>"), table("<td>cdab</td>"), 2 * 2 / 10),
    ("content", table("<td></td>"), table("<td> </td>"), 0.0),
    ("content", table("<td>a<b>b</b>c</td>"), table("<td>a b c</td>"), 1.0),
    ("content", table("<td>b</td><td>c</td>"), table("<td>a</td><td>b</td><td>c</td>"), 0.8),
    ("topology", "<table></table>", "<table></table>", 1.0),
    ("topology", "<table></table>", table(TD), 0.0),
    # the reference raises
    ("content", table('<td coords="<loc0001><loc0002>">a &</td>'), table("<td>a &amp;</td>"), 1.0),
    ("topology", "<table><tr><td>a<td>b", table(TD * 2), 1.0),
    ("topology", table('<td colspan="x">a</td><td rowspan="0">a</td>'), table(TD * 2), 1.0),
    ("topology", table(TD * 2, TD), table(TD * 2, TD * 2), 1.0),
    ("topology", f"<table>{TD}</table>", table(TD), 1.0),
    ("topology", "", table(TD), 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "answer", "target", "value"), GRITS)
def test_grits(kind: str, answer: str, target: str, value: float) -> None:
    assert one(f"grits(kind={kind!r})", answer, (target,)) == pytest.approx(value, abs=1e-12)


def test_an_xml_bomb_is_read_as_html() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>' + table("<td>&b;</td>")
    assert one("grits(kind='content')", bomb, (table("<td>&amp;b;</td>"),)) == 1.0


# --- TEDS --------------------------------------------------------------------------------------


def whole(*rows: str) -> str:
    return f"<html><body>{table(*rows)}</body></html>"


TEDS = [
    ("teds", whole(TD) + whole(TD * 2), whole(TD), 1.0),
    ("teds", table(TD), whole(TD), 0.0),
    ("teds", "<title>t</title>" + table(TD), whole(TD), 1.0),  # with a head, lxml keeps the document
    ("teds", "<html><body><table><tr><td>a", whole(TD), 1.0),
    ("teds", "<html><body><table><tr><td>a</td><td", whole(TD), 1.0),
    ("teds", "<HTML><BODY><TABLE><TR><TD>a</TD></TR></TABLE>", whole(TD), 1.0),
    ("teds", whole("<td><!-- x -->a</td>"), whole(TD), 1.0),
    ("teds", whole("<td colspan='x'>a</td>"), whole(TD), 1.0),
    ("teds", whole("<th>x</th>"), whole("<th>y</th>"), 1.0),  # only td is a cell
    ("teds", whole('<td coords="<loc0001>">a</td>'), whole(TD), 1.0),
    ("teds", "<html><body><table></table></body></html>", "<html><body><table/></body></html>", 1.0),
    ("teds", "<!-- -->", whole(TD), 0.0),
    ("teds(structure_only=True)", whole(TD, TD), whole("<td>b</td>", TD * 2), 1 - 1 / 5),
]


@pytest.mark.parametrize(("spelling", "answer", "target", "value"), TEDS)
def test_teds(spelling: str, answer: str, target: str, value: float) -> None:
    assert one(spelling, answer, (target,)) == pytest.approx(value)


MARKUP = st.lists(
    st.sampled_from([*"a<>/&;\"' \n", "<td", "<tr>", "</table>", "<html>", "</body>", "<!--", "rowspan"]),
    max_size=40,
).map("".join)  # fmt: skip


@given(st.one_of(st.text(), MARKUP))
def test_no_text_makes_a_reader_raise(text: str) -> None:
    parse(text)
    for spelling in ("teds", "grits", "grits(kind='content')", "smiles_match"):
        assert one(spelling, text, (whole(TD),)) <= 1.0
        assert one(spelling, text, (text,)) <= 1.0


@pytest.mark.parametrize("spelling", ["teds", "grits", "group_mean(of='teds')"])
def test_the_signature_names_what_reads_html(spelling: str) -> None:
    found = registry.make("metrics", spelling).tools()
    assert re.fullmatch(r"libxml2 2\.\d+\.\d+", found)


ABSURD = {
    "open cells": "<html><body><table>" + "<td>" * 12_000,
    "deep": "<html><body><table>" + "<div>" * 9_000,
    "deep xml": "<td>" * 4_000 + "</td>" * 4_000,
    "comb": "<html><body><table>" + "<div><i></i>" * 4_000,
    "one long cell": "<html><body><table><tr><td>" + "ab" * 24_000,
    "wide": whole('<td colspan="999999999" rowspan="99999999">x</td>' * 500),
    "very long": whole(TD * 100_000),
    "ampersands": "<html><body><table>" + "&" * 49_000,
}


@pytest.mark.parametrize("name", ABSURD)
def test_absurd_tables_end_soon(name: str) -> None:
    target = whole(*(f"<td>{n}</td>" * 8 for n in range(30)))
    start = time.process_time()
    for spelling in ("teds", "grits", "grits(kind='content')"):
        assert one(spelling, ABSURD[name], (target,)) <= 1.0
    assert time.process_time() - start < 60


# --- the tools under them ----------------------------------------------------------------------


def edited(first: Any, second: Any) -> int:
    """Wagner and Fischer's table."""
    above = list(range(len(second) + 1))
    for i, mine in enumerate(first, 1):
        line = [i]
        for j, other in enumerate(second, 1):
            line.append(min(above[j - 1] + (mine != other), above[j] + 1, line[-1] + 1))
        above = line
    return above[-1]


def in_common(first: Any, second: Any) -> int:
    above = [0] * (len(second) + 1)
    for mine in first:
        line = [0]
        for j, other in enumerate(second):
            line.append(above[j] + 1 if mine == other else max(above[j + 1], line[-1]))
        above = line
    return above[-1]


# rapidfuzz alone takes "" and NUL for the same token
TOKENS = st.lists(st.sampled_from(["", "\0", "a", "b", "ab", "<b>", "\U0001f600"]), max_size=80)
SEQUENCES = st.one_of(st.tuples(TOKENS, TOKENS), st.tuples(st.text("ab\0é\ud800"), st.text("ab\0é\ud800")))


@given(SEQUENCES)
@example(([""], ["\0"]))
@example((["\0", "a"], ["a", ""]))
def test_edits_are_those_of_the_table(pair: tuple[Any, Any]) -> None:
    assert edit_distance.distance(*pair) == edited(*pair)
    assert edit_distance.common_subsequence(*pair) == in_common(*pair)


@given(st.lists(TOKENS, max_size=5), st.lists(TOKENS, max_size=5))
def test_many_distances_are_the_distance_of_each(first: list[list[str]], second: list[list[str]]) -> None:
    found = edit_distance.distances(first, second)
    assert found.shape == (len(first), len(second))
    for i, j in itertools.product(range(len(first)), range(len(second))):
        assert found[i, j] == edited(first[i], second[j])


shapes = st.recursive(
    st.integers(0, 2).map(lambda n: (n, ())),
    lambda inner: st.tuples(st.integers(0, 2), st.lists(inner, max_size=3).map(tuple)),
    max_leaves=5,
)


def numbered(shape: Any) -> tree_edit_distance.Tree:
    labels: list[int] = []
    leftmost: list[int] = []

    def visit(node: Any) -> int:
        first = [visit(child) for child in node[1]]
        labels.append(node[0])
        leftmost.append(first[0] if first else len(labels) - 1)
        return leftmost[-1]

    visit(shape)
    return tree_edit_distance.Tree(labels, leftmost)


def by_definition(first: tuple[Any, ...], second: tuple[Any, ...], costs: Any) -> float:
    """The forests' distance, from the recursive definition."""
    if not first and not second:
        return 0.0
    tries = []
    if first:
        tries.append(1 + by_definition((*first[:-1], *first[-1][1]), second, costs))
    if second:
        tries.append(1 + by_definition(first, (*second[:-1], *second[-1][1]), costs))
    if first and second:
        (a, inner), (b, other) = first[-1], second[-1]
        apart = by_definition(first[:-1], second[:-1], costs)
        tries.append(apart + by_definition(inner, other, costs) + costs[a][b])
    return min(tries)


@settings(max_examples=60, deadline=None)
@given(shapes, shapes)
def test_tree_distance_is_the_recursive_one(first: Any, second: Any) -> None:
    costs = np.array([[0, 0.25, 1], [0.5, 0, 0.75], [1, 1, 0]])
    wanted = by_definition((first,), (second,), costs)
    assert tree_edit_distance.distance(numbered(first), numbered(second), costs) == pytest.approx(wanted)


def test_polygons() -> None:
    square = ((0, 0), (10, 0), (10, 10), (0, 10))
    notched = ((0, 0), (10, 0), (10, 10), (5, 5), (0, 10))  # without its lower quarter
    bow = ((0, 0), (10, 10), (10, 0), (0, 10))
    folded = ((1, 1), (3, 3), (2, 0), (2, 2), (1, 2), (3, 0), (0, 3))  # HierText's: 2.25; even-odd: 2
    line = ((0, 0), (5, 5))
    shapes = polygons.shapes([square, square[::-1], notched, bow, folded, line, line[:1] * 3])
    assert polygons.areas(shapes) == pytest.approx([100, 100, 75, 50, 2.25, 0, 0])
    assert polygons.bounds(shapes)[:4].tolist() == [[0, 0, 10, 10]] * 4
    others = polygons.shapes([notched, ((0, 6), (10, 6), (10, 20), (0, 20)), ((10, 0), (20, 0), (20, 10))])
    assert polygons.shared(shapes[[0, 2, 0]], others) == pytest.approx([75, 16, 0])
    assert len(polygons.areas(polygons.shapes([]))) == 0


# --- molecules ---------------------------------------------------------------------------------


def test_molecules_as_plain_text_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    metric = registry.make("metrics", "smiles_match")
    monkeypatch.setattr("evalkit.metrics.smiles_match._there", lambda: False)
    assert metric.tools() == "no rdkit: plain text"
    assert metric.rows(["OCC", "CCO", ""], [("CCO",), ("CCO",), ("",)])[:, 0].tolist() == [0, 1, 0]
    with pytest.raises(UserError, match="pip install rdkit"):
        registry.make("metrics", "smiles_match(canonical='rdkit')")


def test_a_text_without_an_atom_matches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """MolScribe's evaluate.py takes such a target for wrong whatever the answer; RDKit is stood in for."""
    monkeypatch.setattr("evalkit.metrics.smiles_match._there", lambda: True)
    monkeypatch.setattr("evalkit.metrics.smiles_match._canonical", lambda text, *_: text.strip("[]/"))
    rows = registry.make("metrics", "smiles_match").rows(["[]", "/", "[C]"], [("[]",), ("/", "C"), ("C",)])
    assert rows[:, 0].tolist() == [0, 0, 1]


# (answer, target, canon_smiles, graph, with cis/trans) by evaluate.py of thomas0809/MolScribe @ 7296a304
MOLECULES = [
    ("OCC", "CCO", 1, 1, 1),
    ("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", 0, 1, 0),
    ("F/C=C/F", "F/C=C\\F", 1, 1, 0),
    ("c1ccccc1[R1]", "[R1]c1ccccc1", 1, 1, 1),
    ("[Ph]CC", "[Me]CC", 1, 1, 1),
    ("C1CC", "C1CC", 1, 1, 1),
    ("C1CC", "CC1C", 0, 0, 0),
    ("\\", "\\", 0, 0, 1),  # empty once / and \ are removed
    ("[]", "[]", 0, 0, 0),
]


@pytest.mark.parametrize(("answer", "target", "exact", "graph", "both"), MOLECULES)
def test_molecules(answer: str, target: str, exact: int, graph: int, both: int) -> None:
    pytest.importorskip("rdkit")
    assert one("smiles_match", answer, (target,)) == exact
    assert one("smiles_match(chirality=False)", answer, (target,)) == graph
    assert one("smiles_match(cistrans=True)", answer, (target,)) == both
    assert registry.make("metrics", "smiles_match").tools().startswith("rdkit 2")
