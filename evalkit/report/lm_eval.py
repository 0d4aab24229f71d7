"""The leaderboard as lm-evaluation-harness writes its results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evalkit.errors import UserError
from evalkit.files import json_text
from evalkit.report.leaderboard import Cell


def lm_eval(cells: Sequence[Cell]) -> str:
    """One model's scores as lm-evaluation-harness 0.4 writes them: `results.TASK["METRIC,none"]` and so on.

    A standard error is the width of the 95 % interval over 3.92. Raises UserError for several models.
    """
    models = sorted({c.model for c in cells})
    if len(models) != 1:
        raise UserError(
            f"--format lm-eval: holds one model, here are {len(models)}: {', '.join(models)}; name its runs"
        )
    content: dict[str, Any] = {k: {} for k in ("results", "group_subtasks", "configs", "versions", "n-shot",
                                               "higher_is_better", "n-samples")}  # fmt: skip
    for cell in (c for c in cells if not c.not_scored):
        s = cell.score
        name = s.metric.replace(", ", ";").replace(",", ";")
        result = content["results"].setdefault(s.task, {"alias": s.task})
        result[f"{name},none"] = s.value
        known = s.low is not None and s.high is not None
        result[f"{name}_stderr,none"] = (s.high - s.low) / 3.92 if known else "N/A"  # type: ignore[operator]
        content["group_subtasks"][s.task] = []
        content["configs"][s.task] = {
            "task": s.task, "doc_to_text": cell.task_file.get("prompt"), "num_fewshot": 0,
            "metadata": {"signature": s.signature, "coverage": s.coverage},
        }  # fmt: skip
        content["versions"][s.task] = cell.task_file.get("version", 1)
        content["n-shot"][s.task] = 0
        content["higher_is_better"].setdefault(s.task, {})[name] = not s.lower_is_better
        total = cell.task_file.get("data", {}).get("count") or s.n
        content["n-samples"][s.task] = {"original": total, "effective": s.n}
    content["config"] = {"model": "paligemma", "model_args": f"pretrained={models[0]}"}
    content["model_name"] = models[0]
    return json_text(content, indent=2) + "\n"
