"""What a fine-tune lost of what its base could do, task by task, the worst first. Decides nothing anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from evalkit.comparison.compare import Comparison, TaskResult
from evalkit.comparison.trend import Loss
from evalkit.printing import CELL, one_line
from evalkit.report.comparison import difference

KINDS = ("forgotten", "kept", "open", "gained", "not scored")


def worst_first(found: Comparison) -> Comparison:
    """The same comparison, the task that lost most at its head."""
    known = [t for t in found.tasks if not t.first.why]
    others = [t for t in found.tasks if t.first.why]
    return replace(found, tasks=(*sorted(known, key=lambda t: t.first.found.value), *others))


def kind(task: TaskResult, margin: float) -> str:
    """forgotten or gained (at 5 % after Holm), kept (no worse than the margin, at 95 %), open (neither is
    certain), or not scored."""
    if task.outcome in ("lost", "won", "not scored"):
        return {"lost": "forgotten", "won": "gained"}.get(task.outcome, task.outcome)
    return "kept" if task.identical or task.first.found.low > -margin else "open"


def record(found: Comparison) -> dict[str, list[str]]:
    """The tasks of each kind."""
    kinds = {task.task: kind(task, found.margin) for task in found.tasks}
    return {each: [name for name, k in kinds.items() if k == each] for each in KINDS}


def losses(found: Comparison) -> dict[str, Loss]:
    """What became of each task, for a trend."""
    told: dict[str, Loss] = {}
    for task in found.tasks:
        d, known = task.first.found, not task.first.why
        numbers = (float(d.value), float(d.low), float(d.high)) if known else (None, None, None)
        told[task.task] = (kind(task, found.margin), *numbers)
    return told


def text_of(found: Comparison) -> str:
    """Sentences that stand above the table: what was forgotten, kept and gained, and what is open."""
    by_name = {task.task: task for task in found.tasks}
    a, b = (one_line(side.name, CELL) for side in (found.a, found.b))
    some = record(found)
    lost = _listed(some["forgotten"], by_name)
    out = [f"{b} against its base {a}: {len(some['forgotten'])} of {len(found.tasks)} tasks forgotten{lost}"]
    margin = f"{100 * found.margin:g}"
    out += [f"kept within {margin}: {', '.join(some['kept'])}"] if some["kept"] else []
    out += [f"gained{_listed(some['gained'], by_name)}"] if some["gained"] else []
    if some["open"]:
        worst = [f"{t} (up to {-100 * by_name[t].first.found.low:.1f})" for t in some["open"]]
        out.append(f"open, a loss of more than {margin} is possible: {', '.join(worst)}")
    return "\n".join(one_line(line, 10_000) for line in out) + "\n"


def _listed(tasks: Sequence[str], by_name: dict[str, Any]) -> str:
    told = [f"{name} {difference(by_name[name].first.found)}" for name in tasks]
    return f": {', '.join(told)}" if told else ""
