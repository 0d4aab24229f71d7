"""The leaderboard as the `model-index` block of a Hugging Face model card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from evalkit import registry
from evalkit.report.leaderboard import Cell, in_order

# --- model cards and lm-eval -------------------------------------------------------------------------------


def model_index(cells: Sequence[Cell]) -> tuple[str, list[str]]:
    """The `model-index` block of a Hugging Face model card, and which scores were left out and why.

    Only whole, unchanged runs belong on a card. Keys: huggingface.co/docs/hub/model-cards, "Evaluation
    results". Values are as metrics have them, 0 to 1 (CIDEr unscaled).
    """
    whole = [c for c in in_order(cells) if _fit_for_a_card(c)]
    left = [c for c in cells if not _fit_for_a_card(c)]
    models: dict[str, dict[str, list[Cell]]] = {}
    for cell in whole:
        models.setdefault(cell.model, {}).setdefault(cell.score.task, []).append(cell)
    content = [
        {"name": model, "results": [_card(task, of_task) for task, of_task in by_task.items()]}
        for model, by_task in models.items()
    ]
    text = yaml.safe_dump({"model-index": content}, sort_keys=False, allow_unicode=True, width=1000)
    sentences = [
        f"left out: {c.model} on {c.score.task}, {c.score.metric}: {_why_no_card(c)}; a card holds whole runs"
        for c in left
    ]
    return text, sentences


def _fit_for_a_card(cell: Cell) -> bool:
    return cell.score.coverage == "all" and not cell.changed and not cell.not_scored


def _why_no_card(cell: Cell) -> str:
    if cell.not_scored:
        return cell.text()
    return "changed prompt or settings" if cell.changed else cell.score.coverage


_KINDS = {"boxes": "object-detection", "masks": "image-segmentation"}


def _card(task: str, cells: Sequence[Cell]) -> dict[str, Any]:
    file = cells[0].task_file
    parser = str(file.get("parser", "text")).partition("(")[0]
    split = str(file.get("data", {}).get("split", ""))
    dataset = {"name": str(file.get("about") or task), "type": task}
    return {
        "task": {"type": _KINDS.get(parser, "image-text-to-text")},
        "dataset": dataset | ({"split": split} if split else {}),
        "metrics": [_card_metric(c) for c in cells],
    }


def _card_metric(cell: Cell) -> dict[str, Any]:
    s = cell.score
    args = {"n": s.n, "low": s.low, "high": s.high, "signature": s.signature}
    return {"type": registry.parse(s.metric)[0], "name": s.metric, "value": s.value, "args": args}
