"""`evalkit suspects`: the samples whose annotation is probably wrong, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evalkit.comparison.suspects import WEAK, Suspect
from evalkit.files import json_text
from evalkit.report import columns

LONGEST = 40


def table(found: Sequence[Suspect], top: int) -> str:
    """The first `top` of them, and what the columns mean."""
    if not found:
        return "no sample is answered with confidence against its annotation\n"
    header = ["suspicion", "task", "sample", "answered", "by", "score", "confidence"]
    lines = [
        [f"{100 * s.suspicion:.0f}", s.task, s.id, _short(s.answer), f"{s.agreeing} of {s.runs}",
         f"{100 * s.score:.0f}", f"{100 * s.confidence:.0f}"]
        for s in found[:top]
    ]  # fmt: skip
    more = f"; {len(found) - top:,} more, --output FILE has all" if len(found) > top else ""
    notes = [
        f"× 100; answered with confidence, by the checkpoints alike, against the annotation{more}",
        "score: what the annotation gives this answer; look at the samples before you change them",
    ]
    if any(s.trust < WEAK for s in found[:top]):
        notes.append(
            "some are said by one checkpoint alone, which is wrong too often to be believed against "
            "annotations (its suspicion has `trust` in it, see --output): a better one, or several, tell more"
        )
    return columns.plain([header, *lines], "terminal", notes)


def _short(answer: Any) -> str:
    text = answer if isinstance(answer, str) else _things(answer) or json_text(answer)
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _things(answer: Any) -> str:
    """The labels of boxes and masks, or how many there are: their numbers say nothing to a reader."""
    if (
        not isinstance(answer, list)
        or not answer
        or not all(isinstance(a, dict) and "box" in a for a in answer)
    ):
        return ""
    labels = [str(a.get("label") or "") for a in answer]
    return ", ".join(labels) if all(labels) else f"{len(answer)} box{'' if len(answer) == 1 else 'es'}"
