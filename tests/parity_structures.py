"""Parity of tables, words in pictures and music."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parity_compare import Compared, raised, score, score_all

from evalkit import registry

Cases = list[dict[str, Any]]


def error_rates(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    for case in cases:
        inputs = case["inputs"]
        targets = [(text,) for text in inputs["references"]]
        if raised(case["expected"]):  # all references are empty: 0/0
            continue
        for kind, theirs in case["expected"].items():
            ours = score_all(f"error_rates(kind={kind.lower()!r})", inputs["hypotheses"], targets)
            result.near(kind, ours * 100, theirs, inputs)
    return result


def hiertext(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    for case in cases:
        images, expected = case["inputs"]["images"], case["expected"]
        answers = [tuple(image["pred_words"]) for image in images]
        targets = [{"size": (1, 1), "words": image["gt_words"]} for image in images]
        for count, theirs, short in (("found", "Det", "det"), ("read", "E2E", "e2e")):
            metric = registry.make("metrics", f"hiertext_f1(count={count!r})")
            rows = metric.rows(answers, targets)
            ours = {"fscore": metric.reduce(rows), **metric.details(rows)}
            for name, value in ours.items():
                key = f"{theirs}-{'PQ' if name == 'pq' else name.capitalize()}"
                result.near(key, value, expected["metrics"][key], case["id"], tolerance=1e-6)
            for row, sums in zip(rows, expected["accumulators_per_image"], strict=True):
                keys = (
                    f"tp_{short}_cnt",
                    "num_prediction",
                    "num_groundtruth",
                    f"tp_{short}_tightness_sum",
                )
                for value, key in zip(row[:4], keys, strict=True):
                    result.near("sums", value, sums[key], case["id"], tolerance=1e-6)
    return result


def teds(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    spelled = {
        "TEDS": "teds",
        "TEDS_struct": "teds(structure_only=True)",
        "TEDS_ignore_b_i": "teds(ignore=('b', 'i'))",
    }
    for case in cases:
        answer, target = case["inputs"]["pred"], (case["inputs"]["true"],)
        for name, spelling in spelled.items():
            ours, theirs = score(spelling, answer, target), case["expected"][name]
            if not raised(theirs):
                result.near(name, ours, theirs, case["inputs"])
            else:  # no rows on either side, or a text that the reference cannot read
                result.equal(f"{name} raises", ours in (0.0, 1.0), True, case["inputs"])
    return result
