"""The PTB tokenizer against the reference, the lexer against its own definition."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.text import lexer, ptb

GOLDEN = json.loads((Path(__file__).parent / "golden" / "ptb.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["text"][:40])
def test_golden(case: dict[str, str]) -> None:
    assert ptb.raw(case["text"] + "\nx").split("\n")[0] == case["raw"]


@given(st.text())
def test_any_caption_is_tokenized(text: str) -> None:
    tokens = ptb.caption(text).split(" ")
    assert not set(tokens) & ptb.DROPPED


@given(st.lists(st.text(alphabet=st.characters(blacklist_characters="\r\n\x0b\x0c\x85\u2028\u2029<"))))
def test_a_batch_keeps_its_lines(texts: list[str]) -> None:
    assert len(ptb.batch(texts)) == max(1, len(texts)) or not texts


def test_the_last_caption_sees_the_end_of_the_file() -> None:
    assert ptb.caption("I'll") == "i 'll"
    assert ptb.batch(["I'll", "I'll"]) == ["i 'll", "i ll"]


def test_a_line_separator_in_a_caption_does_not_break_it_alone() -> None:
    assert ptb.caption("a dog\u2028runs") == "a dog runs"
    assert ptb.batch(["a dog\u2028runs", "a cat"]) == ["a dog", "runs"]


PIECES = st.sampled_from(
    [
        "can't",
        "gonna",
        "I'll",
        "U.S.",
        "St.",
        "no.",
        "5",
        "1/2",
        "$3",
        "#a",
        "@b",
        "--",
        "...",
        "…",
        "&",
        "&amp;",
        "<b>",
        "'x'",
        '"',
        "“",
        "”",
        "é",
        "東",
        "😀",
        "(",
        "]",
        ":)",
        "a-b",
        ".",
        ",",
        "x\xady",
        "ΟΔΟΣ",
    ]
)


@pytest.mark.java
@pytest.mark.skipif(not shutil.which("java"), reason="no Java: install openjdk-17-jre-headless")
@settings(max_examples=1, deadline=None)
@given(st.lists(st.lists(PIECES, max_size=6).map(" ".join), min_size=400, max_size=400))
def test_the_reference_agrees(texts: list[str]) -> None:
    from golden.make_ptb import printed

    together = "\n".join([*texts, "x"])
    assert ptb.raw(together) == printed(together)


WORDS = lexer.chars("ab").plus
RULES = [
    lexer.Rule("pair", lexer.text("ab")),
    lexer.Rule("before c", WORDS, lexer.text("c")),
    lexer.Rule("word", WORDS),
    lexer.Rule("times", lexer.text("c").times(2, 3)),
]


def test_the_longest_match_wins_then_the_earliest_rule() -> None:
    machine = lexer.Lexer(RULES)
    assert machine.match("ab ", 0) == (0, 2)
    assert machine.match("aba", 0) == (2, 3)
    assert machine.match("abc", 0) == (1, 2)  # what must follow counts for the length
    assert machine.match("cccc", 0) == (3, 3)
    assert machine.match("c", 0) == (-1, 0)


@given(st.text(alphabet="abc", max_size=12))
def test_the_automaton_equals_the_expression(text: str) -> None:
    pattern = (lexer.text("a").star + lexer.text("b").maybe) | lexer.text("c").times(1, 3)
    machine = lexer.Lexer([lexer.Rule("", pattern)])
    lengths = [n for n in range(len(text) + 1) if re.fullmatch("a*b?|c{1,3}", text[:n], re.I)]
    assert machine.match(text, 0)[1] == max(lengths, default=0)
