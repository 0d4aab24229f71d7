"""The trend of a training run: as a table for the screen, as CSV, and as a page with curves."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from evalkit.comparison.trend import Point, Trend
from evalkit.files import atomic_write
from evalkit.report import columns, leaderboard
from evalkit.report.columns import interval
from evalkit.report.html import Spot, chart, curve, legend, page
from evalkit.stats.intervals import FEW

# --- for the eye --------------------------------------------------------------------------------------------

_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float]) -> str:
    """Values as a line of blocks, the lowest and highest of them at its ends."""
    low, high = min(values), max(values)
    span = high - low or 1.0
    return "".join(_BARS[min(7, int(8 * (v - low) / span))] for v in values)


def table(trend: Trend, width: int = 120) -> str:
    """A line a score: its trend and, by step, the last checkpoints that fit into `width`, with error bars,
    the best among them always; `*` marks it."""
    if not trend.points:
        return "no checkpoint yet\n"
    keys = list(dict.fromkeys(k for p in trend.points for k in p.values))
    lines = [sparkline([p.values[k][0] for p in trend.points if k in p.values][-20:]) for k in keys]
    best = trend.best
    assert best is not None
    timed = any(p.seconds is not None for p in trend.points)
    by_point = {
        id(p): [str(p.step) + "*" * (p is best), *(_shown(p, k) for k in keys), *[p.cost] * timed]
        for p in trend.points
    }
    left = [["score by step", *keys, *["predicting took"] * timed], ["trend", *lines, *[""] * timed]]
    taken = sum(max(map(len, column)) + 2 for column in left)
    kept: list[Point] = []
    for p in [best, *(q for q in reversed(trend.points) if q is not best)]:
        taken += max(map(len, by_point[id(p)])) + 2
        if kept and taken > width:
            break
        kept.append(p)
    shown = [*left, *(by_point[id(p)] for p in trend.points if p in kept)]
    out = columns.aligned(list(zip(*shown, strict=True)))
    more = len(trend.points) - len(kept)
    out.append(
        f"best: {best.name}, mean over tasks {100 * best.mean:.1f}"
        + (f"; {more} more in {trend.path.with_suffix('.csv').name}" if more else "")
    )
    return "\n".join([*out, *_legend(trend.points)]) + "\n"


def save(trend: Trend) -> None:
    """Keeps the trend as JSON, and writes it as CSV and HTML next to that."""
    trend.save()
    atomic_write(trend.path.with_suffix(".csv"), to_csv(trend))
    atomic_write(trend.path.with_suffix(".html"), to_html(trend))


def to_csv(trend: Trend) -> str:
    """One line a checkpoint and score."""
    rows: list[list[Any]] = [
        ["step", "checkpoint", "task", "metric", "value", "low", "high", "n", "coverage", "drop", "seconds"]
    ]
    for p in trend.points:
        for key, (value, low, high, n) in p.values.items():
            task, _, metric = key.partition(" ")
            dropped = any(d.startswith(f"{task}:") for d in p.drops)
            coverage = p.coverage.get(key, "all")
            rows.append(
                [p.step, p.name, task, metric, value, low, high, n, coverage, int(dropped), p.seconds]
            )
    return columns.csv_text(rows)


def to_html(trend: Trend) -> str:
    """A page: the best, what fell, one curve a score with a band of 95 % intervals, and the numbers."""
    keys = list(dict.fromkeys(k for p in trend.points for k in p.values))
    best = trend.best
    named = f"best: {best.name}, mean over tasks {100 * best.mean:.1f}" if best else "no checkpoint yet"
    fallen = "".join(f"<li>{html.escape(f'{p.name}: {d}')}</li>\n" for p in trend.points for d in p.drops)
    curves = "\n".join(
        f"<figure><figcaption>{html.escape(k)}</figcaption>{curve(_spots(trend.points, k))}</figure>"
        for k in keys
    )
    head = "<th>checkpoint</th>" + "".join(
        f'<th class="n">{html.escape(k)}</th>' for k in [*keys, "predicting took"]
    )
    lines = "\n".join(
        f"<tr><th>{html.escape(p.name)}</th>"
        + "".join(f'<td class="{"best" if p is best else "n"}">{_shown(p, k)}</td>' for k in keys)
        + f'<td class="n">{p.cost}</td></tr>'
        for p in trend.points
    )
    return page(
        "evalkit watch",
        f"<h1>{html.escape(named)}</h1>\n"
        + (f"<p>fell significantly:</p>\n<ul>\n{fallen}</ul>\n" if fallen else "")
        + "<p>values × 100 by step, bands and bars are 95 % intervals; red: significantly below the best "
        "before it, or the baseline</p>\n"
        f'<div class="curves">\n{_together(trend.points)}{curves}\n</div>\n'
        f"{_forgotten(trend.points)}"
        f'<br>\n<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n'
        "</table></div>\n" + "".join(f"<p>{html.escape(line)}</p>\n" for line in _legend(trend.points)),
    )


def _spots(points: Sequence[Point], key: str) -> list[Spot]:
    """One score over the steps."""
    task = key.partition(" ")[0]
    spots = []
    for p in points:
        if key in p.values:
            v, low, high, n = p.values[key]
            low, high = (v if side is None else side for side in (low, high))
            label = f"{p.name}: {100 * v:.1f} [{100 * low:.1f}, {100 * high:.1f}], n {n:,}"
            bad = any(d.startswith(f"{task}:") for d in p.drops)
            spots.append(Spot(p.step, 100 * v, 100 * low, 100 * high, label, bad))
    return spots


def _together(points: Sequence[Point]) -> str:
    """One figure with the first score of every task; '' where there is one task only."""
    firsts: dict[str, str] = {}
    for name in (name for p in points for name in p.values):
        firsts.setdefault(name.partition(" ")[0], name)
    if len(firsts) < 2:
        return ""
    drawn = chart([_spots(points, name) for name in firsts.values()])
    return f"<figure><figcaption>all tasks</figcaption>{drawn}{legend(list(firsts.values()))}</figure>\n"


def _forgotten(points: Sequence[Point]) -> str:
    """What each checkpoint lost against its base: curves of the differences, and a table; '' without one."""
    tasks = list(dict.fromkeys(task for p in points for task in p.lost))
    if not tasks:
        return ""
    lines = {task: _losses(points, task) for task in tasks}
    drawn = {task: spots for task, spots in lines.items() if spots}
    figure = f"<figure>{chart(list(drawn.values()))}{legend(list(drawn))}</figure>" if drawn else ""
    head = "<th>checkpoint</th>" + "".join(f'<th class="n">{html.escape(task)}</th>' for task in tasks)
    rows = "\n".join(
        f"<tr><th>{html.escape(p.name)}</th>"
        + "".join(f'<td class="n">{html.escape(_loss(p, task))}</td>' for task in tasks)
        + "</tr>"
        for p in points
    )
    return (
        "<h1>against the base</h1>\n<p>each task's first metric × 100 minus that of the base, with 95 % "
        "intervals; forgotten and gained: at 5 % after Holm over the tasks; red: forgotten</p>\n"
        f'<div class="curves">{figure}</div>\n<br>\n<div class="wide"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>\n"
    )


def _losses(points: Sequence[Point], task: str) -> list[Spot]:
    """The differences of a task from the base, by step."""
    spots = []
    for p in points:
        kind, value, low, high = p.lost.get(task, ("", None, None, None))
        if value is not None and low is not None and high is not None:
            label = f"{p.name}: {task} {_loss(p, task)}"
            spots.append(Spot(p.step, 100 * value, 100 * low, 100 * high, label, kind == "forgotten"))
    return spots


def _loss(point: Point, task: str) -> str:
    """`forgotten −3.1 [−4.2, −2.0]`; `–` where it is not compared."""
    kind, value, low, high = point.lost.get(task, ("–", None, None, None))
    if value is None or low is None or high is None:
        return kind
    return f"{kind} {100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _shown(point: Point, key: str) -> str:
    """`92.4 ±1.6†` or `5.1 [0.2, 31.2]†`, in hundredths; `–` where there is no such score."""
    if key not in point.values:
        return "–"
    v, low, high, _ = point.values[key]
    mark = leaderboard.STAMPS[point.coverage[key]][0] if key in point.coverage else ""
    return f"{100 * v:.1f}{interval(v, low, high)}{mark}"


def _legend(points: Sequence[Point]) -> list[str]:
    """What the marks mean, and a word on small samples."""
    used = {coverage for p in points for coverage in p.coverage.values()}
    lines = [f"{mark} {meaning}" for name, (mark, meaning) in leaderboard.STAMPS.items() if name in used]
    if any(n < FEW for p in points for *_, n in p.values.values()):
        lines.append(f"fewer than {FEW} samples: such intervals are rough")
    return lines
