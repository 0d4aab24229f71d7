"""Which runs may be compared: what they differ in, and both on the samples that they share."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from evalkit.errors import UserError
from evalkit.options.groups import MAY_DIFFER
from evalkit.runs import scored_run
from evalkit.runs.scored_run import ScoredRun


def first_difference(a: ScoredRun, b: ScoredRun) -> tuple[str, str] | None:
    """(kind, what differs) of the first thing that forbids comparing two runs of a task, or None.

    Kinds in `MAY_DIFFER` may be allowed on purpose. Checkpoint, resolution and precision may always
    differ: they are what is compared.
    """
    found = list(_differences(a, b))
    return found[0] if found else None


def apart(a: ScoredRun, b: ScoredRun, allow: Collection[str] = ()) -> str:
    """Why two runs of a task cannot be compared, in a few words; '' where they can."""
    found = [what for kind, what in _differences(a, b) if kind not in allow]
    return found[0] if found else "" if set(a.ids) & set(b.ids) else "they share no sample"


def _differences(a: ScoredRun, b: ScoredRun) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    def look(kind: str, what: str, mine: Any, other: Any) -> None:
        if mine != other:
            found.append((kind, f"{what}: {_short(mine)} against {_short(other)}"))

    look("task", "task", a.task, b.task)
    if a.scores and b.scores:
        signed = (each.scores[each.first].signature for each in (a, b))
        one, two = map(scored_run.parts, scored_run.comparable(*signed))
        look("task", "version of the task", one.get("v"), two.get("v"))
        look("targets", "targets of the dataset", one.get("targets"), two.get("targets"))
    if not shared_metrics(a, b):
        found.append(("metric", f"metrics: {', '.join(a.scores)} against {', '.join(b.scores)}"))
    if a.scores and b.scores:
        look("parser", "parser", *_read_as_trained((a, one), (b, two)))
        look("parser", "nms_across_calls", one.get("nms"), two.get("nms"))
        if "files" in one and "files" in two:  # older runs do not name them
            look("metric", "files that own code has read", one["files"], two["files"])
    mine, other = a.identity, b.identity
    look("prompt", "prompt", mine["task"].get("prompt"), other["task"].get("prompt"))
    for key in ("classes_per_call", "class_order"):
        look("prompt", key, mine["task"].get(key), other["task"].get(key))
    if not found:
        look("prompt", "prompts of the samples", mine.get("prompts"), other.get("prompts"))
    look("protocol", "protocol", mine.get("protocol"), other.get("protocol"))
    for key in sorted({*mine["preparation"], *other["preparation"]} - {"resolution"}):
        look("protocol", f"image.{key}", mine["preparation"].get(key), other["preparation"].get(key))
    decode, theirs = mine["task"].get("decode") or {}, other["task"].get("decode") or {}
    for key in sorted({*decode, *theirs} - {"logprobs"}):  # kept or not, the text is the same
        look("protocol", f"decode.{key}", decode.get(key), theirs.get(key))
    images = dict(zip(b.ids, b.images, strict=True))
    changed = next((i for i, c in zip(a.ids, a.images, strict=True) if images.get(i, c) != c), None)
    if changed is not None:
        found.append(("images", f"image of sample {changed}: its content is not the same"))
    if a.ids != b.ids:
        found.append(("samples", _sample_difference(a, b)))
    return found


def _read_as_trained(*sides: tuple[ScoredRun, Mapping[str, str]]) -> list[str | None]:
    """Both parsers; without the divisor of boxes if a checkpoint states its own (`bins`)."""
    spelled = [parts.get("parser") for _, parts in sides]
    if any("bins" in (run.identity.get("model", {}).get("conventions") or {}) for run, _ in sides):
        return [re.sub(r"divisor=\d+,? ?", "", text or "") for text in spelled]
    return spelled


def shared_metrics(a: ScoredRun, b: ScoredRun) -> list[str]:
    """A's metrics, as in its task file, that B has too: with the same full spelling, or one without score."""
    return [
        name for name, spelling in a.spelled.items()
        if spelling in b.scores or (name in b.spelled and "" in (spelling, b.spelled[name]))
    ]  # fmt: skip


def _sample_difference(a: ScoredRun, b: ScoredRun) -> str:
    mine, other = set(a.ids), set(b.ids)
    only, more = sorted(mine - other), sorted(other - mine)
    first = only[0] if only else more[0]
    early = next((f"; {r.run} was stopped early, on purpose" for r in (a, b) if r.early), "")
    return (
        f"samples: {len(a.ids):,} against {len(b.ids):,}, {len(mine & other):,} shared; "
        f"{first} is only in {a.run if only else b.run}{early}"
    )


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else f"'{value}'"
    return text if len(text) <= 80 else text[:77] + "..."


def aligned(
    a: ScoredRun, b: ScoredRun, allow: Collection[str] = ()
) -> tuple[ScoredRun, ScoredRun, list[str]]:
    """Both runs on the samples they share, and what differs (all of it allowed).

    Raises UserError naming the first thing that differs and is not allowed.
    """
    notes = []
    for kind, what in _differences(a, b):
        if kind not in allow:
            way = f"; --allow {kind} compares them anyway" if kind in MAY_DIFFER else ""
            raise UserError(f"{a.task}: {a.run} and {b.run} can't be compared: {what}{way}")
        notes.append(what)
    shared = set(a.ids) & set(b.ids)
    if not shared:
        raise UserError(f"{a.task}: {a.run} and {b.run} share no sample; run both on the same ones")
    return a.only(shared), b.only(shared), notes
