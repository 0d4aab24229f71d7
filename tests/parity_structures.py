"""Parity of tables, words in pictures and music."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parity_compare import Compared, score_all

Cases = list[dict[str, Any]]


def error_rates(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    for case in cases:
        inputs = case["inputs"]
        targets = [(text,) for text in inputs["references"]]
        for kind, theirs in case["expected"].items():
            ours = score_all(f"error_rates(kind={kind.lower()!r})", inputs["hypotheses"], targets)
            result.near(kind, ours * 100, theirs, inputs)
    return result
