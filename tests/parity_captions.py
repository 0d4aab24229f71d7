"""Parity of the tokenizer and the captioning metrics."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from parity_compare import Compared, raised

from evalkit import registry
from evalkit.text import ptb

Cases = list[dict[str, Any]]

METRICS = {
    "CIDEr": "cider",
    "ROUGE_L": "rouge_l",
    **{f"Bleu_{n}": f"bleu(n={n})" for n in (1, 2, 3, 4)},
    "METEOR": "meteor",
}
TOLERANCES = {"METEOR": 1e-6}


def ptb_tokenize(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    for case in cases:
        text, expected = case["inputs"]["text"], case["expected"]
        result.equal("raw", ptb.raw(text), expected["raw"], text)
        result.equal("tokens", ptb.batch([text])[0], expected["tokens"], text)
        before_line = ptb.raw(text + "\nx").split("\n")[0]
        result.equal("raw_eol", before_line, expected.get("raw_eol", expected["raw"]), text)
        result.equal("tokens_eol", ptb.caption(text), expected.get("tokens_eol", expected["tokens"]), text)
    together = ptb.batch([case["inputs"]["text"] for case in cases])
    for case, ours in zip(cases, together, strict=True):
        expected = case["expected"]
        theirs = expected.get("tokens_in_batch", expected["tokens"])
        result.equal("tokens_in_batch", ours, theirs, case["inputs"])
    return result


def ptb_batches(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    for case in cases:
        texts, expected = case["inputs"]["texts"], case["expected"]
        ours = {str(i): [tokens] for i, tokens in enumerate(ptb.batch(texts))}
        if raised(expected["by_key"]):  # a lone surrogate cannot be written: we drop it
            result.equal("raises", len(ours), len(texts), texts)
        else:
            result.equal("batch", ours, expected["by_key"], texts)
    return result


def captions(cases: Cases, folder: Path) -> Compared:
    result = Compared()
    for case in cases:
        items = case["inputs"]["items"]
        answers = [item["hypothesis"] for item in items]
        targets = [tuple(item["references"]) for item in items]
        for name, spelling in METRICS.items():
            if name == "METEOR" and not shutil.which("java"):
                continue
            metric, tolerance = registry.make("metrics", spelling), TOLERANCES.get(name, 1e-9)
            rows = metric.rows(answers, targets)
            expected = case["expected"][name]
            result.near(name, metric.reduce(rows), expected["corpus"], case["id"], tolerance)
            for row, theirs in zip(rows, expected["per_image"], strict=True):
                result.near(
                    f"{name} per image", float(metric.value(np.asarray(row))), theirs, case["id"], tolerance
                )
    return result
