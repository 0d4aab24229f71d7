"""JSON answers field by field, numbers, dates, labels and error rates: what counts as the same."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_lines import run, write
from stub import Stub

from evalkit import registry
from evalkit.cli.main import main
from evalkit.errors import UserError
from evalkit.runs import store
from evalkit.text import numbers, trees
from evalkit.types import Prediction


def scored(spelling: str, answer: str | None, *accepted: str) -> float:
    metric = registry.make("metrics", spelling)
    return float(metric.reduce(metric.rows([answer], [accepted])))


# --- JSON ---------------------------------------------------------------------------------------------------

SAME = [
    ("json_match", '{"b": 1, "a": "x"}', '{"a": "x", "b": 1.0}', 1),
    ("json_match", '{"a": {"c": [1, 2], "b": "x "}}', '{"a": {"b": "x", "c": [2, 1]}}', 1),
    ("json_match(lists='ordered')", "[1, 2]", "[2, 1]", 0),
    ("json_match", "[1, 1]", "[1]", 0),
    ("json_match", '{"a": 1, "b": null}', '{"a": 1, "c": ""}', 1),
    ("json_match", '{"a": 1, "b": 2}', '{"a": 1}', 0),
    ("json_match", '{"a": "1"}', '{"a": 1}', 0),
    ("json_match(tolerance=0.0)", '{"a": "1,000.0"}', '{"a": 1000}', 1),
    ("json_match(tolerance=0.05)", '{"a": 105}', '{"a": "100"}', 1),
    ("json_match(tolerance=0.05)", '{"a": 105.1}', '{"a": 100}', 0),
    ("json_match", '{"a": true}', '{"a": 1}', 0),
    ("json_match(tolerance=0.0)", '{"a": true}', '{"a": true}', 1),
    ("json_match(tolerance=0.0)", '{"a": true}', '{"a": "true"}', 0),
    ("json_match", '{"d": "1 March 2024"}', '{"d": "2024-03-01"}', 0),
    ("json_match(days=0)", '{"d": "1 March 2024"}', '{"d": "2024-03-01"}', 1),
    ("json_match(days=0)", '{"d": "03/01/2024"}', '{"d": "2024-03-01T10:00:00Z"}', 1),
    ("json_match(days=1)", '{"d": "2024-02-29"}', '{"d": "March 1st, 2024"}', 1),
    ("json_match(days=1)", '{"d": "2024-02-28"}', '{"d": "2024-03-01"}', 0),
    ("json_match(lowercase=True)", '["PARIS"]', '["Paris"]', 1),
    ("json_match", "PARIS", '"PARIS"', 0),  # no JSON
    ("json_match", '{"a": NaN}', '{"a": null}', 0),
    ("json_match", '"12"', '"12"', 1),
    ("json_match", "<s_a>x</s_a><s_b>1<sep/>2</s_b>", '{"a": "x", "b": ["2", "1"]}', 1),
    ("json_match", "<s_b><s_c>1</s_c><sep/><s_c>2</s_c></s_b>", '{"b": [{"c": "2"}, {"c": "1"}]}', 1),
    ("json_match", "<s_a>x", '{"a": "x"}', 0),
    ("json_match", '{"a": {"b": 1}}', '{"a": [{"b": 1}]}', 0),
    ("json_fields", '{"a": {"b": 1}}', '{"a": [{"b": 1}]}', 0),
]  # fmt: skip


@pytest.mark.parametrize(("spelling", "answer", "target", "value"), SAME)
def test_what_is_the_same(spelling: str, answer: str, target: str, value: float) -> None:
    assert scored(spelling, answer, target) == value
    if spelling.startswith("json_match") and trees.readable(answer):  # one rule for both
        other = spelling.replace("json_match", "json_fields")
        assert (scored(other, answer, target) == 1.0) == bool(value)


def test_items_of_lists_are_paired_as_a_whole() -> None:
    target = '{"menu": [{"name": "cake", "n": 2}, {"name": "juice", "n": 1}]}'
    answer = '{"menu": [{"name": "tea", "n": 1}, {"name": "juice", "n": 2}, {"name": "cake", "n": 2}]}'
    # cake is paired with cake (2 right), then juice with juice or with tea (1 right), not cake's 2 with juice
    assert scored("json_fields", answer, target) == pytest.approx(2 * 3 / (6 + 4))
    assert scored("json_fields(lists='flat')", answer, target) == pytest.approx(2 * 4 / (6 + 4))
    assert scored("json_fields(lists='ordered')", answer, target) == pytest.approx(2 * 1 / (6 + 4))


def test_fields_have_figures_and_what_is_no_json_is_counted() -> None:
    metric = registry.make("metrics", "json_fields")
    answers = ['{"a": "x", "b": [1, 2]}', '{"a": "y"', None, "{}"]
    targets = [('{"a": "x", "b": [2]}',), ('{"a": "x"}',), ("{}",), ("{}",)]
    rows = metric.rows(answers, targets)
    assert metric.remarks(answers, targets) == {"no JSON": 1}
    assert metric.breakdowns(rows)["field"] == {
        "(no JSON)": {"precision": 0.0, "F1": 0.0, "right": 0, "given": 1, "wanted": 0},
        "a": {
            "precision": 1.0,
            "recall": 0.5,
            "F1": pytest.approx(2 / 3),
            "right": 1,
            "given": 1,
            "wanted": 2,
        },
        "b": {
            "precision": 0.5,
            "recall": 1.0,
            "F1": pytest.approx(2 / 3),
            "right": 1,
            "given": 2,
            "wanted": 1,
        },
    }
    assert metric.details(rows)["all right"] == 0.25
    assert metric.details(rows)["samples F1"] == pytest.approx((0.8 + 0 + 0 + 1) / 4)
    assert scored("json_fields", '{"a": 2}', '{"a": 1}', '{"a": 2}') == 1.0  # the nearest of several


def test_targets_that_are_no_json_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Stub
) -> None:
    for metric in ("json_match", "json_fields", "ted"):
        write(tmp_path / "data", [{"answer": "total: 12"}], "json", metric)
        assert run("data/t.yaml") == 2
        assert "is no JSON: 'total: 12'; write objects as" in capsys.readouterr().err


def test_a_run_of_json_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Stub) -> None:
    lines = [{"answer": json.dumps({"total": n, "name": "Ann"})} for n in range(4)]
    write(tmp_path / "data", lines, "json", "json_fields")
    texts = [
        '{"name": "Ann", "total": 0}',
        "```json\n" + '{"total": 1, "name": "Bob"}' + "\n```",
        '{"total": 2',
        "no",
    ]
    model.answer = lambda request: texts[int(request.id)]
    assert run("data/t.yaml") == 0
    (folder,) = store.find([Path("results")])
    (score,) = store.scores_of(folder)
    assert (score.invalid, score.value) == (2, pytest.approx(2 * 3 / (4 + 8)))
    assert score.remarks == {
        "have more than JSON": 1, "unreadable: JSON that is not complete": 1, "unreadable: no JSON": 1,
    }  # fmt: skip
    assert score.low is not None
    assert score.low < score.value
    assert main(["table", "results", "--per", "field"]) == 0
    assert "name" in capsys.readouterr().out
    assert main(["explain", str(folder.path)]) == 0
    assert (
        "1 of 4 answers are unreadable, JSON that is not complete: an answer that was cut"
        in capsys.readouterr().out
    )


READ = [
    ('{"a": 1}', '{"a": 1}', ""),
    ('Sure:\n```json\n{"a": 1}\n```', '{"a": 1}', "have more than JSON"),
    ('{"a": 1} {"b": 2}', '{"a": 1}', "have more than JSON"),
    ("a set {1, 2} then [3]", "[3]", "have more than JSON"),
    ("<s_a>1</s_a>", "<s_a>1</s_a>", ""),
    ("12", "12", ""),
    ('{"a": "}', None, "JSON that is not complete"),
    ("<s_a>1", None, "JSON that is not complete"),
    ("{'a': 1}", None, "JSON that is broken"),
    ("total", None, "no JSON"),
    (" ", None, "an empty text"),
    ("[" * 100_000, None, "JSON that is not complete"),
]


@pytest.mark.parametrize(("text", "answer", "why"), READ)
def test_json_is_found_in_a_text(text: str, answer: str | None, why: str) -> None:
    parser = registry.make("parsers", "json")
    prediction = Prediction("0", "", text)
    assert parser.read(prediction, None) == answer
    assert parser.remark(prediction, None) == why


@pytest.mark.parametrize(
    "text", ['{"a": ' * 5000 + "1" + "}" * 5000, "9" * 5000, '{"a": 1e999}', '"\\ud800"']
)
def test_strange_json_is_scored(text: str) -> None:
    for name in ("json_match", "json_fields", "anls_star", "ted"):
        assert 0 <= scored(f"{name}", text, '{"a": 1}') <= 1


# --- numbers and dates ------------------------------------------------------------------------------------

NUMBERS = {
    "12": 12, " 1,234.5 ": 1234.5, "-3": -3, "−3": -3, "$12": 12, "12 €": 12, "-$5": -5,
    "45%": 0.45, "1e3": 1000,
    "1,23": None, "1_000": None, "nan": None, "inf": None, "twelve": None, "": None,
    "12 apples": None, "%": None,
}  # fmt: skip


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_are_read(text: str) -> None:
    assert numbers.number(text) == (None if NUMBERS[text] is None else pytest.approx(NUMBERS[text]))


def test_dates_are_read() -> None:
    march, january = datetime.date(2024, 3, 1), datetime.date(2024, 1, 3)
    for text in ("2024-03-01", "1.3.2024", "March 1, 2024", "1st Mar 2024", "20240301", "2024-03-01 12:30"):
        assert numbers.dates(text) == {march}, text
    assert numbers.dates("03/01/2024") == {march, january}
    assert numbers.dates("31.02.2024") == numbers.dates("soon") == set()


def test_absolute_errors() -> None:
    metric = registry.make("metrics", "mean_absolute_error")
    answers, targets = ["11", "5", None, "many", "7"], [("12", "10"), ("5",), ("0",), ("-4",), ()]
    rows = metric.rows(answers, targets)
    np.testing.assert_allclose(rows[:, 0], [1, 0, 1, 4, 0])
    assert metric.reduce(rows) == pytest.approx(6 / 4)
    assert metric.details(rows) == {"within 0": 0.25, "within 1": 0.5}
    assert metric.remarks(answers, targets) == {"no number": 1}
    assert "is no number: 'x'" in metric.unfit(("x",))


# --- labels and error rates ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelling", "answer", "accepted", "value"),
    [
        ("label_f1", "b, a,a", ("a", "b"), 1.0),
        ("label_f1", "a,b", ("a,b",), 1.0),
        ("label_f1", "A", ("a",), 0.0),
        ("label_f1(lowercase=True)", "A", ("a",), 1.0),
        ("label_f1(separator=' ; ')", "a ; b, c", ("a", "b, c"), 1.0),
        ("label_f1(average='samples')", "", ("",), 1.0),
        ("label_f1(average='samples')", None, ("",), 0.0),
        ("wer", "the  cat\nsat", ("the cat sat",), 0.0),
        ("wer", "the cat", ("the cat sat",), 1 / 3),
        ("wer", None, ("the cat sat", "a"), 1.0),
        ("cer", " abc ", ("abd",), 1 / 3),
        ("cer(lowercase=True)", "ABC", ("abc",), 0.0),
        ("cer", "ab", ("",), 1.0),
    ],
)  # fmt: skip
def test_labels_and_error_rates(spelling: str, answer: Any, accepted: tuple[str, ...], value: float) -> None:
    assert scored(spelling, answer, *accepted) == pytest.approx(value)


def test_a_separator_is_a_text() -> None:
    with pytest.raises(UserError, match="separator=''"):
        registry.make("metrics", "label_f1(separator='')")


@pytest.mark.parametrize(
    "name", ["json_match", "json_match(tolerance=0.1)", "json_fields", "ted", "anls_star"]
)
def test_one_monstrous_answer_costs_no_other_its_score(name: str) -> None:
    """More digits than a float has, and more levels than Python calls itself: wrong, like any other."""
    digits, levels = '{"a": 1' + 400 * "0" + "}", 450 * '{"a":' + "1" + 450 * "}"
    answers = [digits, 600 * "[" + 600 * "]", levels, '{"a": 1.5}']
    targets = [('{"a": 1.5}',)] * 4
    metric = registry.make("metrics", name)
    rows = metric.rows(answers, targets)
    alone = [metric.reduce(metric.rows([a], [t])) for a, t in zip(answers, targets, strict=True)]
    assert 0 < metric.reduce(rows) < 1
    assert alone[1:] == [0, 0, 1]
    assert alone[0] < 1
    assert registry.make("parsers", "json").read(Prediction("a", "", levels), None) is None


def test_many_digits_are_the_same_as_themselves() -> None:
    digits = '{"a": 1' + 400 * "0" + "}"
    assert registry.make("metrics", "json_match(tolerance=0.1)").rows([digits], [(digits,)])[0, 0] == 1
