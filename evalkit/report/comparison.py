"""What `evalkit compare` prints: differences with intervals and verdicts, ranks, grids. Decides nothing."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from evalkit import collecting
from evalkit.comparison import ranks
from evalkit.comparison.compare import (
    MARGIN,
    Comparison,
    TaskResult,
    by_model,
    compare,
    record,
    sides,
    task_result,
)
from evalkit.comparison.ranks import Rank
from evalkit.errors import UserError
from evalkit.geometry.boxes import STEPS
from evalkit.options.fields import names
from evalkit.options.groups import MAY_DIFFER
from evalkit.options.verbs import CompareOptions
from evalkit.printing import CELL, GREEN, RED, one_line
from evalkit.report.columns import aligned, painted
from evalkit.runs import scored_run
from evalkit.runs.scored_run import ScoredRun
from evalkit.stats.paired import Difference

LONG = 1_000_000  # characters of a line that lists samples: as many as are asked for
SHOWN = 160  # characters of a question, a target or an answer


def compared(options: CompareOptions) -> tuple[list[Comparison], list[Rank]]:
    """What `evalkit compare` compares, and the models' mean ranks where these say something."""
    base = [] if options.forgetting is None else [str(options.forgetting)]
    places = [*base, str(options.first), *names(options.others)]
    allow = names(options.allow)
    with collecting.paused():
        heads = {place: scored_run.heads(place) for place in dict.fromkeys(places)}
        by_model([(place, heads[place]) for place in places])  # refuses before rows are read
    models = sides([(place, scored_run.read(place)) for place in places])
    found = [compare(models[0], other, allow, options.margin) for other in models[1:]]
    ranked = ranks.ranks(models, allow) if len(models) > 2 or len(found[0].tasks) > 1 else []
    return found, ranked


def record_of(found: Sequence[Comparison], ranked: Sequence[Rank]) -> dict[str, Any]:
    """What `evalkit compare --json` writes."""
    return {
        "comparisons": [record(c) for c in found],
        "mean_ranks": [{"model": r.name, "mean": r.mean, "low": r.low, "high": r.high} for r in ranked],
    }


def ranks_text(ranked: Sequence[Rank]) -> str:
    """Mean ranks for a terminal; '' where there are none."""
    if not ranked:
        return ""
    best = sorted(ranked, key=lambda r: r.mean)
    lines = aligned([[f"  {r.name}", f"{r.mean:.2f} [{r.low:.2f}, {r.high:.2f}]"] for r in best])
    head = "mean rank over tasks, 1 is best; 95 % interval, images resampled in all tasks at once"
    return "\n".join(["", head, *lines]) + "\n"


def text_of(found: Comparison, colour: bool = False, samples: int = 0, width: int | None = None) -> str:
    """One comparison for a terminal; where its lines are longer than `width`, tasks stand above their
    metrics."""
    header = ["task", "metric", "n", "A", "B", "B − A", "p", "verdict"]
    lines: list[list[str]] = []
    below: dict[int, list[str]] = {}  # what stands below a line
    for task in found.tasks:
        for place, m in enumerate(task.metrics):
            first = place == 0
            d = m.found
            lines.append([
                task.task if first else "", m.spelled, f"{d.n:,}" if first else "", hundredths(d.a),
                hundredths(d.b), difference(d), "–" if m.why else p_value(task.p if first else d.p, first),
                task.verdict if first else m.why or ", ".join(m.flags) or "undecided",
            ])  # fmt: skip
        below[len(lines) - 1] = _below(task, samples)
    narrow = width is not None and max(map(len, _table([header, *lines]))) > width
    heads = {
        i: f"{one_line(line[0], CELL)}, n {line[2]}" for i, line in enumerate(lines) if narrow and line[0]
    }
    if narrow:
        header, lines = ["  metric", *header[3:]], [[f"  {line[1]}", *line[3:]] for line in lines]
    head, rule, *rows = _table([header, *lines])
    named = [one_line(side.name, CELL) for side in (found.a, found.b)]
    out = [f"A {named[0]}    B {named[1]}", "", head, rule]
    for i, (row, cells) in enumerate(zip(rows, lines, strict=True)):
        out += [heads[i]] if i in heads else []
        paint = RED if "worse" in cells[-1] else GREEN if "better" in cells[-1] else ""
        out.append(painted(row, paint if colour else ""))
        for text in below.get(i, ()):
            whole = one_line(text, LONG)
            out += textwrap.wrap(whole, width or 10_000, initial_indent=" " * 4, subsequent_indent=" " * 6)
    out += ["", *_summary(found)]
    return "\n".join(out) + "\n"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The header, a rule and the lines; numbers to the right, but for differences."""
    return aligned(rows, rule=True, right=[i for i, h in enumerate(rows[0]) if h in ("n", "A", "B", "p")])


def _below(task: TaskResult, samples: int) -> list[str]:
    """Samples gained and lost, invalid rates, the smallest drop seen, groups that moved, notes."""
    d = task.first.found
    parts = []
    if d.gained is not None and d.lost is not None:
        parts.append(f"samples gained {len(d.gained):,}, lost {len(d.lost):,}")
    before, after = sum(task.a.invalid), sum(task.b.invalid)
    if before or after:
        parts.append(f"unreadable {before} → {after}")
    if not math.isnan(d.detectable) and not task.identical:
        parts.append(f"a drop of {100 * d.detectable:.1f} would have been seen (80 % power)")
    out = ["; ".join(parts)] if parts else []
    moved = [(n, g) for n, g in task.groups.items() if g.low > 0 or g.high < 0]
    moved.sort(key=lambda pair: pair[1].value)
    if moved:
        shown = [
            f"{n} {difference(g)} (n {g.n:,})"
            for n, g in (moved if len(moved) <= 6 else moved[:3] + moved[-3:])
        ]
        out.append("groups that moved: " + "; ".join(shown))
    shifts = [
        f"{o.value:+.1f} [{o.low:+.1f}, {o.high:+.1f}] {axis}"
        for axis, o in task.offsets.items()
        if abs(o.value) >= 0.05 and (o.low > 0 or o.high < 0)
    ]
    if shifts:
        out.append(f"boxes moved, in steps of {STEPS:,}: {', '.join(shifts)}")
    if samples:
        out += _samples(task, samples)
    return out + [f"note: {n}" for n in task.notes]


def _samples(task: TaskResult, count: int) -> list[str]:
    """The first samples lost and gained, or, of a score of all samples together as AP, the first with other
    answers: what was asked of which image, the target, both answers."""
    d = task.first.found
    chosen = [("lost", task.a.ids[i]) for i in (d.lost or ())[:count]]
    chosen += [("gained", task.a.ids[i]) for i in (d.gained or ())[:count]]
    if d.lost is None and d.gained is None:
        texts = zip(task.a.ids, task.a.texts, task.b.texts, strict=True)
        chosen = [("other", name) for name, first, second in texts if first != second][:count]
    ids = {name for _, name in chosen}
    first, second = task.a.lines(ids), task.b.lines(ids)
    out = []
    for how, name in chosen:
        a, b = first[name], second[name]
        known = b if "prompt" in b else a
        asked = known.get("question") or known.get("prompt", "")
        parts = [quoted(asked)] if asked else []
        parts += [f"of {quoted(known['image_path'])}"] if "image_path" in known else []
        parts += [f"target {quoted(known['target'])}"] if "target" in known else []
        said = f"A {quoted(a['text'])}, B {quoted(b['text'])}"
        out.append(f"{how}: {name}: {', '.join([*parts, said])}")
    return out


def quoted(value: Any) -> str:
    """A value on one line, cut to `SHOWN` characters; what no screen shows is escaped."""
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        text = " | ".join(map(repr, dict.fromkeys(value)))
    else:
        text = repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _summary(found: Comparison) -> list[str]:
    counts = ", ".join(f"{outcome} {found.count(outcome)}" for outcome in ("won", "lost", "tied"))
    counts += f", not scored {n}" if (n := found.count("not scored")) else ""
    out = [f"B {counts} of {len(found.tasks)} tasks, at 5 % after Holm"]
    for side, only in ((found.a, found.only_a), (found.b, found.only_b)):
        if only:
            out.append(one_line(f"only of {side.name}: {', '.join(only)}"))
    out.append(
        "values and differences × 100; 95 % intervals, paired, clustered by image\n"
        "p of a task's first metric after Holm over tasks, in brackets of its other metrics as they are"
    )
    return out


# --- numbers --------------------------------------------------------------------------------------------


def hundredths(value: float) -> str:
    """`92.4`; `–` for no number."""
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def difference(d: Difference) -> str:
    """`+1.2 [-0.3, +2.7]`, in hundredths; turned so that plus is better."""
    if math.isnan(d.value):
        return "–"
    if math.isnan(d.low) or math.isnan(d.high):
        return f"{100 * d.value:+.1f}"
    return f"{100 * d.value:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"


def p_value(p: float, counts: bool = True) -> str:
    text = "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")
    return text if counts else f"({text})"


# --- grids ----------------------------------------------------------------------------------------------


def grid_of(options: CompareOptions) -> str:
    """`evalkit compare --grid`: all runs named."""
    places = [str(options.first), *names(options.others)]
    return grid_table([run for place in places for run in scored_run.read(place)])


def grid_table(runs: Sequence[ScoredRun]) -> str:
    """Resolution × precision × prompt × checkpoint: value, cost, and the difference from the best.

    Cost is what the run recorded: seconds a sample on its device; "?" when a session was killed.
    """
    runs = [r for r in runs if r.scores]
    tasks = list(dict.fromkeys(r.task for r in runs))
    out = []
    for task in tasks:
        some = [r for r in runs if r.task == task]
        metric = next((m for m in some[0].scores if all(m in r.scores for r in some)), None)
        if metric is None:
            raise UserError(
                f"{task}: its runs have no metric in common; `evalkit score` them by one task file"
            )
        judge = scored_run.metric(metric)
        sign = -1 if judge.lower_is_better else 1
        best = max(some, key=lambda r: sign * r.scores[metric].value)
        header = [
            "checkpoint",
            "px",
            "precision",
            "protocol",
            "prompt",
            "n",
            "value",
            "from the best",
            "s/sample",
            "minutes",
            "device",
        ]
        rows = [_point(r, best, metric) for r in sorted(some, key=_axes)]
        out += [one_line(f"{task}  {some[0].scores[metric].metric}"), *aligned([header, *rows]), ""]
    return "\n".join(out)


def _axes(run: ScoredRun) -> tuple[str, int, str, str, str]:
    model = run.identity.get("model", {})
    return (
        run.name, int(run.identity["preparation"]["resolution"]), str(model.get("dtype", "")),
        str(run.identity.get("protocol", "")), repr(run.identity["task"].get("prompt", "")),
    )  # fmt: skip


def _point(run: ScoredRun, best: ScoredRun, metric: str) -> list[str]:
    name, resolution, dtype, protocol, prompt = _axes(run)
    cost = "?" if run.seconds is None else f"{run.seconds / max(1, len(run.ids)):.3g}"
    minutes = "?" if run.seconds is None else f"{run.seconds / 60:.1f}"
    score = run.scores[metric]
    if run is best:
        gap = "best"
    else:
        try:
            found: Any = task_result(best, run, MAY_DIFFER, MARGIN)
            gap = next(difference(m.found) for m in found.metrics if m.metric == metric)
        except UserError:
            gap = "not comparable"
    return [
        name,
        str(resolution),
        dtype,
        protocol,
        prompt,
        f"{score.n:,}",
        hundredths(score.value),
        gap,
        cost,
        minutes,
        run.device,
    ]
