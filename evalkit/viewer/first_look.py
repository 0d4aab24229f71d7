"""What to look at first, in words, each with a link to its samples: what costs most, moved, or was lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from evalkit.comparison import suspects
from evalkit.comparison.gate import FAIL, INCONCLUSIVE
from evalkit.printing import cut
from evalkit.report import causes
from evalkit.types import CUT, UNREADABLE
from evalkit.viewer import curves, faults, marks, sections
from evalkit.viewer.assembled import Assembled
from evalkit.viewer.collect import OfRun

MOST = 8
LEAST = 0.005  # of a score: half a point
SOME = 0.01  # of the answers
NEVER = 5  # objects or answers of a class that is never right
SURE = 0.5  # of a suspicion
FIRST = {FAIL: 20.0, INCONCLUSIVE: 10.0}  # what a gate says weighs more than any share of a score
DOUBTED = 5.0  # and so does what makes a score doubtful


@dataclass(frozen=True)
class Remark:
    """A sentence, where it leads, and how much it weighs (about the part of the score that is at stake)."""

    weight: float
    text: str
    link: str


@dataclass(frozen=True)
class Verdict:
    """What a gate decided of a task, in a sentence; `sample` is the first that differs, where any does."""

    task: str
    status: str
    why: str
    sample: str = ""


def of_task(t: int, found: Assembled) -> list[Remark]:
    """What the last checkpoint that was named, the candidate, says of a task."""
    runs = [run for run in found.collector.runs if run.part.main is not None]
    if not runs:
        return []
    run = runs[-1]
    name = (
        f"{found.collector.task.name}, {run.part.cells[0].model}"
        if len(runs) > 1
        else found.collector.task.name
    )
    makers = (_error, _cut, _unreadable, _strange, _never, _doubted)
    return [
        Remark(weight, f"{name}: {text}", f"/task/{t}/samples?{query}")
        for maker in makers
        for weight, text, query in maker(found, run)
    ]


Said = Iterator[tuple[float, str, str]]


def _error(found: Assembled, run: OfRun) -> Said:
    """The kind of error that costs most."""
    each = sections.errors(found, run)
    for kind, (n, gain) in list(each.items())[:1]:
        if not n or (gain is not None and gain < LEAST):
            return
        of = "AP" if found.collector.survey.kind == "objects" else "the score"
        cost = f", {100 * gain:.1f} points of {of}" if gain is not None else ""
        meant = faults.TEXTS.get(kind) or faults.REGIONS.get(kind)
        name = f"{kind!r} ({meant})" if meant else repr(kind)
        usual = f"; usually {causes.ERRORS[kind]}" if kind in causes.ERRORS else ""
        samples = "1 sample" if n == 1 else f"{n:,} samples"
        text = f"the largest kind of error is {name}: {samples}{cost}{usual}"
        yield gain or n / max(1, run.n) / 10, text, f"error:{run.side}={quote(kind, safe='')}"


def _cut(found: Assembled, run: OfRun) -> Said:
    main = run.part.main
    n = main.score.remarks.get(CUT, 0) if main is not None else 0
    if main is not None and n >= SOME * main.score.n:
        text = next(line for line in causes.odd(main.score, main.task_file) if "were cut" in line)
        yield n / main.score.n, text, f"state:{run.side}=cut"


def _unreadable(found: Assembled, run: OfRun) -> Said:
    main = run.part.main
    if main is not None and main.score.invalid >= max(1, SOME * main.score.n):
        what, text = next(
            ((what, line) for what, line in sections.odd(run).items() if what.startswith(UNREADABLE)),
            ("", f"{main.score.invalid:,} of {main.score.n:,} answers are unreadable"),
        )
        spelled, _ = sections.having(run, what)
        yield main.score.invalid / main.score.n, text, spelled or f"state:{run.side}=invalid"


def _strange(found: Assembled, run: OfRun) -> Said:
    """Labels that never match."""
    remarks = run.part.main.score.remarks if run.part.main is not None else {}
    n = next((n for what, n in remarks.items() if faults.LABEL in what), 0)
    if n >= max(1, SOME * run.n):
        first = next((w for w in remarks if w.startswith("of them ")), "").removeprefix("of them ")
        shown = "" if found.collector.redact or not first else f", most often {first}"
        boxes, they = (f"{n:,} boxes have", "they") if n > 1 else ("1 box has", "it")
        text = f"{boxes} a {faults.LABEL}{shown}: {they} can never match"
        yield min(0.5, n / run.n / 2), text, f"error:{run.side}={quote(faults.LABEL, safe='')}"


def _never(found: Assembled, run: OfRun) -> Said:
    """Classes that are there and never answered right."""
    matrix = found.matrices.get(run.side)
    if matrix is None:
        return
    wanted = matrix.cells.sum(axis=1)
    for i in np.argsort(-wanted).tolist():
        name = matrix.names[i]
        if wanted[i] >= NEVER and matrix.cells[i, i] == 0 and not name.startswith("("):
            text = f"class {cut(name, 60)!r} is never answered right ({int(wanted[i]):,} times there)"
            yield float(wanted[i] / max(1, wanted.sum())), text, f"class={quote(name, safe='')}"
            return


def _doubted(found: Assembled, run: OfRun) -> Said:
    """Annotations that are probably wrong; what a single checkpoint says that is wrong too often itself."""
    of = found.collector
    sure = np.nan_to_num(of.suspect)
    n = int((sure >= SURE).sum())
    if n:
        are, them = ("s are", "them") if n > 1 else (" is", "it")
        several = bool((of.accuser[sure >= SURE] < 0).all())
        who = (
            "checkpoints that agree answer surely"
            if several
            else "sure answers of a checkpoint that is right nearly everywhere else speak"
        )
        text = f"{n:,} annotation{are} probably wrong: {who} against {them}"
        yield min(0.02, n / max(1, run.n)), text, f"suspect={SURE:g}..&sort=suspect:desc"
    trust = of.trust[0]
    least = np.float32(SURE * trust)
    m = int(((sure >= least) & (sure < SURE)).sum())
    if len(of.runs) == 1 and trust < suspects.WEAK and m:
        wrong = float((run.share < marks.HALF).sum() / max(1, (~np.isnan(run.share)).sum()))
        text = (
            f"{m:,} sure answer{' speaks' if m == 1 else 's speak'} against the annotation, but no other "
            f"checkpoint is here to say so too, and this one is wrong in {100 * wrong:.0f} % of all: take "
            "them for its mistakes until a better one agrees"
        )
        yield 0.001, text, f"suspect={curves.exact(least)}..{SURE:g}&sort=suspect:desc"


def of_comparisons(report: Mapping[str, Any], gate: Sequence[Verdict] = ()) -> list[Remark]:
    """What surely got worse, task by task, unless a `gate` says so; what got better, in one sentence; the
    groups that moved."""
    found: list[Remark] = [*of_gate(report, gate), *of_data(report)]
    told = {verdict.task for verdict in gate}
    better: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for c in report["comparisons"]:
        if c["significant"] and c["difference"] < 0:
            found += [] if _names(report, c)[0] in told else [_worse(report, c)]
        elif c["significant"]:
            better.setdefault((c["a"], c["b"]), []).append(c)
        found += _moved(report, c)
    return found + [_better(report, some) for some in better.values()]


def of_gate(report: Mapping[str, Any], verdicts: Sequence[Verdict]) -> list[Remark]:
    """Why a gate does not pass, before everything else: each links to what was lost, or else to the first
    sample that differs."""
    number = {task["name"]: t for t, task in enumerate(report["tasks"])}
    pairs = {c["task"]: c for c in reversed(report["comparisons"])}
    found = []
    for v in verdicts:
        if v.task not in number:
            continue
        t, pair = number[v.task], pairs.get(number[v.task])
        link = f"/task/{t}"
        if pair is not None and pair["lost"]:
            link = _flipped(pair, "lost")
        elif v.sample:
            link = f"/task/{t}/samples?sample={quote(v.sample, safe='')}"
        lost = f" ({_flips(pair)})" if pair is not None and pair["lost"] + pair["gained"] else ""
        found.append(Remark(FIRST[v.status], f"{v.task}: check: {v.status}: {v.why}{lost}", link))
    return found


def of_data(report: Mapping[str, Any]) -> list[Remark]:
    """What makes scores doubtful, whatever they are: training images in the test split, duplicates."""
    found = []
    for t, task in enumerate(report["tasks"]):
        doubts = dict.fromkeys(d for score in task["scores"] if score for d in score.get("doubts") or ())
        if doubts:
            first, *others = doubts
            more = f" (and {len(others)} more, beside its score below)" if others else ""
            found.append(
                Remark(DOUBTED, f"{task['name']}: its data is doubtful: {first}{more}", f"/task/{t}")
            )
    return found


def _flips(c: Mapping[str, Any]) -> str:
    return f"{c['lost']:,} samples lost, {c['gained']:,} gained"


def _names(report: Mapping[str, Any], c: Mapping[str, Any]) -> tuple[str, str, str]:
    """The task, and the two checkpoints."""
    runs = report["runs"]
    return report["tasks"][c["task"]]["name"], runs[c["a"]]["name"], runs[c["b"]]["name"]


def _share(report: Mapping[str, Any], c: Mapping[str, Any]) -> float:
    """A difference as a share of the best score that a metric gives."""
    return abs(float(c["difference"])) / max(1.0, report["tasks"][c["task"]]["maximum"] or 1.0)


def _worse(report: Mapping[str, Any], c: Mapping[str, Any]) -> Remark:
    task, a, b = _names(report, c)
    text = f"{task}: {b} is worse than {a} by {-100 * c['difference']:.1f} points ({_flips(c)})"
    return Remark(2 * _share(report, c), text, _flipped(c, "lost"))


def _better(report: Mapping[str, Any], some: Sequence[Mapping[str, Any]]) -> Remark:
    most = max(some, key=lambda c: _share(report, c))
    task, a, b = _names(report, most)
    n = sum((c["a"], c["b"]) == (most["a"], most["b"]) for c in report["comparisons"])
    where = f"on {task}" if n == 1 else f"on {len(some)} of {n} tasks, most on {task}"
    text = (
        f"{b} is better than {a} {where}: by {100 * most['difference']:.1f} points "
        f"({most['gained']:,} samples gained, {most['lost']:,} lost)"
    )
    return Remark(0.5 * _share(report, most), text, _flipped(most, "gained"))


def _moved(report: Mapping[str, Any], c: Mapping[str, Any]) -> list[Remark]:
    """The group that moved most, where it moved otherwise than the whole."""
    for group in c["groups"][:1]:
        apart = abs((group["difference"] or 0.0) - (c["difference"] or 0.0))
        if group["moved"] and group["filter"] and apart > LEAST:
            task, a, b = _names(report, c)
            name = cut(group["name"], 60) or "other"
            text = (
                f"{task}: group {name!r} moved by {100 * group['difference']:+.1f} points from {a} to {b}, "
                f"all samples by {100 * c['difference']:+.1f}"
            )
            lost = group["difference"] < 0
            link = _flipped(c, "lost" if lost else "gained", f"{group['filter']}&")
            weight = (1.5 if lost else 0.5) * apart * group["n"] / max(1, c["n"])
            return [Remark(weight, text, link)]
    return []


def _flipped(c: Mapping[str, Any], which: str, more: str = "") -> str:
    return f"/task/{c['task']}/samples?{more}flip={c['a']}-{c['b']}:{which}"


def chosen(remarks: Sequence[Remark]) -> list[dict[str, str]]:
    """The weightiest ones, for the page."""
    ordered = sorted(remarks, key=lambda remark: -remark.weight)
    return [{"text": remark.text, "link": remark.link} for remark in ordered[:MOST]]
