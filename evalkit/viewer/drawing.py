"""Sections of a report as figures, by matplotlib: the same numbers as the page's, for paper.

Each function returns a Figure of a width in inches; heights follow from what is shown. Knows no run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.viewer import ink

ROW, EDGE = 0.17, 0.42  # inches: of a row, and of an axis with its words
CURVE = 2.4  # inches: the height of a curve
LETTERED = 16  # columns of a matrix in which counts can be read
OTHERS = "(others)"

Data = Mapping[str, Any]


@dataclass(frozen=True)
class Sheet:
    """What all figures of a report share: inches, the checkpoints' names, how many rows are shown, and the
    scale of scores (100 where tables print × 100)."""

    width: float
    names: Sequence[str]
    most: int = 20
    scale: float = 1

    def axes(self, rows: int, heights: Sequence[float], columns: int = 1) -> tuple[Any, list[Any]]:
        """A figure with axes below (or beside) each other, of these heights in inches."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(self.width, sum(heights)), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, height_ratios=heights)
        return figure, list(grid.flat)

    def unit(self, name: str) -> str:
        """`score × 100`."""
        return f"{ink.short(name)} × {self.scale:g}" if self.scale != 1 else ink.short(name)

    def scaled(self, value: Any) -> float:
        """A number as it is shown, NaN for none."""
        return math.nan if value is None else self.scale * float(value)


# --- values with intervals ----------------------------------------------------------------------------


def forest(sheet: Sheet, tasks: Sequence[Data]) -> Any:
    """Each task's scores with their intervals, a row a checkpoint; diamonds are published values. `tasks` are
    the report's."""
    rows = [[run for run, score in enumerate(task["scores"]) if scored(score)] for task in tasks]
    figure, axes = sheet.axes(len(tasks), [EDGE + ROW * max(1, len(some)) + 0.12 for some in rows])
    for axis, task, some in zip(axes, tasks, rows, strict=True):
        for y, run in enumerate(some):
            score = task["scores"][run]
            _strip(axis, sheet, y, score, run)
            written = f"{sheet.scaled(score['value']):.{task.get('digits', 1)}f}"
            axis.text(1.02, y, written, transform=axis.get_yaxis_transform(), va="center")
        for row in task["published"]:
            if row.get("run") in some:
                _published(axis, sheet, some.index(row["run"]) + 0.28, row)
        _rows(axis, [sheet.names[run] for run in some])
        metric = str(task["metric"]).partition("(")[0]
        axis.set_title(f"{ink.short(task['name'], 40)}, {sheet.unit(metric)}")
    shown = any(row.get("run") in some for t, some in zip(tasks, rows, strict=True) for row in t["published"])
    if shown:
        figure.legend(
            handles=[_diamond([math.nan], [math.nan])], labels=["published"], loc="outside lower right"
        )
    return figure


def differences(sheet: Sheet, compared: Sequence[Data], tasks: Sequence[Data]) -> Any:
    """How much better the second of two checkpoints is, whole and by group, with intervals."""
    rows = [
        [{"name": "all", **each}, *each["groups"][: sheet.most - 1]] if len(each["groups"]) > 1
        else [{"name": "all", **each}]
        for each in compared
    ]  # fmt: skip
    figure, axes = sheet.axes(len(rows), [EDGE + ROW * len(some) + 0.12 for some in rows])
    for axis, each, some in zip(axes, compared, rows, strict=True):
        for y, row in enumerate(some):
            _strip(axis, sheet, y, {**row, "value": row["difference"]}, each["b"])
        axis.axvline(0, color=ink.SOFT, linewidth=0.8)
        _rows(axis, [f"{ink.short(row['name'])} ({row['n']:,})" for row in some])
        names = f"{sheet.names[each['b']]} − {sheet.names[each['a']]}"
        axis.set_title(f"{ink.short(tasks[each['task']]['name'], 30)}: {ink.short(names, 60)}")
        axis.set_xlabel(sheet.unit("difference"))
    return figure


def scored(score: Data | None) -> bool:
    return score is not None and score["value"] is not None


def _strip(axis: Any, sheet: Sheet, y: float, score: Data, run: int) -> None:
    low, high = sheet.scaled(score["low"]), sheet.scaled(score["high"])
    axis.plot([low, high], [y, y], color=ink.colour(run), linewidth=1, solid_capstyle="butt")
    axis.plot([sheet.scaled(score["value"])], [y], ink.shape(run), color=ink.colour(run))


def _published(axis: Any, sheet: Sheet, y: float, row: Data) -> None:
    axis.plot([sheet.scaled(row["low"]), sheet.scaled(row["high"])], [y, y], color=ink.SOFT, linewidth=0.8)
    axis.add_line(_diamond([sheet.scaled(row["value"])], [y]))
    axis.autoscale_view()


def _diamond(x: Sequence[float], y: Sequence[float]) -> Any:
    from matplotlib.lines import Line2D

    return Line2D(x, y, linestyle="", marker="D", markersize=3.2, color=ink.INK, markerfacecolor="white")


def _rows(axis: Any, names: Sequence[str]) -> None:
    """Names beside rows, the first at the top."""
    axis.set_yticks(range(len(names)), [ink.short(name) for name in names])
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", visible=False)
    axis.spines["left"].set_visible(False)


# --- bars -------------------------------------------------------------------------------------------


def bars(sheet: Sheet, section: Data) -> Any:
    """A bar a checkpoint in each row; where nothing has a value, how many samples it has."""
    rows = section["rows"][: sheet.most]
    runs = [run for run in range(len(sheet.names)) if any(_at(row["values"], run) for row in rows)]
    counted = not runs
    if counted:
        runs = [run for run in range(len(sheet.names)) if any(_count(row, run) for row in rows)]
    figure, (axis,) = sheet.axes(1, [EDGE + len(rows) * (0.06 + 0.11 * max(1, len(runs)))])
    thick = 0.8 / max(1, len(runs))
    for k, run in enumerate(runs):
        places = [y + (k - (len(runs) - 1) / 2) * thick for y in range(len(rows))]
        values = [_count(row, run) if counted else _value(sheet, row, run) for row in rows]
        axis.barh(places, values, 0.9 * thick, **_filling(run))
        for y, row in zip(places, rows, strict=True):
            if not counted and (one := _at(row["values"], run)) and one["low"] is not None:
                axis.plot(
                    [sheet.scaled(one["low"]), sheet.scaled(one["high"])], [y, y], color=ink.INK, lw=0.8
                )
    _rows(axis, [f"{ink.short(row['label'])} ({_counts(row, runs)})" for row in rows])
    axis.set_xlabel("samples" if counted else sheet.unit(section["unit"]))
    _legend(figure, sheet, runs, _patch)
    return figure


def _at(values: Sequence[Any], run: int) -> Any:
    """A run's value, None without one."""
    found = values[run] if run < len(values) else None
    return found if found and found["value"] is not None else None


def _value(sheet: Sheet, row: Data, run: int) -> float:
    one = _at(row["values"], run)
    return math.nan if one is None else sheet.scaled(one["value"])


def _count(row: Data, run: int) -> int:
    """Of how many samples (or objects) a row is; a list says it for each checkpoint."""
    n = row["n"]
    return (n[run] or 0) if isinstance(n, list) else n


def _counts(row: Data, runs: Sequence[int]) -> str:
    if not isinstance(row["n"], list):
        return f"{row['n']:,}"
    return ", ".join(f"{_count(row, run):,}" for run in runs)


def histogram(sheet: Sheet, section: Data) -> Any:
    """How many samples lie in each interval, a line a checkpoint."""
    figure, (axis,) = sheet.axes(1, [CURVE])
    score = section["column"] == "score"
    edges = [sheet.scale * edge if score else edge for edge in section["edges"]]
    runs = [one["run"] for one in section["series"]]
    for one in section["series"]:
        run = one["run"]
        filled = {"fill": True, "alpha": 0.75} if len(runs) == 1 else {"linestyle": ink.dashes(run)}
        axis.stairs(one["counts"], edges, color=ink.colour(run), linewidth=1.2, **filled)
    axis.set_xlabel(sheet.unit(section["title"].lower()) if score else ink.short(section["title"], 60))
    axis.set_ylabel("samples")
    axis.set_xlim(edges[0], edges[-1])
    axis.set_ylim(bottom=0)
    _legend(figure, sheet, runs, lambda run: _line(run, False))
    return figure


# --- matrices ---------------------------------------------------------------------------------------


def matrices(sheet: Sheet, sections: Sequence[Data]) -> Any:
    """Which class was answered for which, a matrix a checkpoint; colours are shares of a row."""
    shown = [_largest(section, sheet.most) for section in sections]
    size = len(shown[0][0])
    beside = min(len(shown), 2 if sheet.width > 5 else 1)
    below = math.ceil(len(shown) / beside)
    figure, axes = sheet.axes(below, [sheet.width / beside] * below, beside)
    picture = None
    for axis, section, (names, cells) in zip(axes, sections, shown, strict=False):
        shares = [[cell / max(1, sum(row)) for cell in row] for row in cells]
        picture = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for y, row in enumerate(cells if size <= LETTERED else []):
            for x, cell in enumerate(row):
                if cell:
                    dark = shares[y][x] > 0.55
                    axis.text(x, y, f"{cell:,}", ha="center", va="center", color="white" if dark else ink.INK,
                              fontsize=max(3.5, min(6.0, 60 / size)))  # fmt: skip
        axis.set_xticks(range(size), names, rotation=90)
        axis.set_yticks(range(size), names)
        axis.grid(visible=False)
        axis.set_xlabel("answered")
        axis.set_ylabel("true")
        if len(shown) > 1:
            axis.set_title(ink.short(sheet.names[section["run"]]))
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    figure.colorbar(picture, ax=axes, label="share of the true class", shrink=0.6)
    return figure


def _largest(section: Data, most: int) -> tuple[list[str], list[list[int]]]:
    """The names of a matrix and its cells; of a large one the commonest classes, the rest as one."""
    names, cells = section["rows"], section["cells"]
    weight = [sum(cells[k]) + sum(row[k] for row in cells) for k in range(len(names))]
    kept = sorted(sorted(range(len(names)), key=lambda k: -weight[k])[:most])
    if len(kept) == len(names):
        return [ink.short(name, 18) for name in names], cells
    rest = [k for k in range(len(names)) if k not in set(kept)]
    parts = [*([k] for k in kept), rest]
    merged = [[sum(cells[a][b] for a in rows for b in columns) for columns in parts] for rows in parts]
    return [*(ink.short(names[k], 18) for k in kept), OTHERS], merged


# --- curves -----------------------------------------------------------------------------------------


def curve(sheet: Sheet, section: Data) -> Any:
    """Lines through points, with intervals where they are known."""
    figure, (axis,) = sheet.axes(1, [CURVE])
    runs = []
    for k, one in enumerate(section["series"]):
        run = k if one["run"] is None else one["run"]
        runs.append(run)
        _points(axis, one["points"], run, section["x"].get("scale", 1), section["y"].get("scale", 1))
    if section["diagonal"]:
        axis.plot([0, 1], [0, 1], color=ink.SOFT, linewidth=0.8, linestyle="-", zorder=1)
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1)
    axis.set_xlabel(section["x"]["label"])
    axis.set_ylabel(section["y"]["label"])
    _legend(figure, sheet, runs, lambda run: _line(run, True))
    return figure


def trend(sheet: Sheet, tasks: Sequence[Data]) -> Any:
    """Scores by the step of a training, a curve a task; the band is the interval."""
    figure, axes = sheet.axes(len(tasks), [CURVE / 1.5] * len(tasks))
    for axis, task in zip(axes, tasks, strict=True):
        points = [[p["step"], p["value"], p["low"], p["high"]] for p in task["points"]]
        _points(axis, points, 0, 1, sheet.scale)
        axis.set_title(ink.short(task["name"], 60))
        axis.set_ylabel(sheet.unit(ink.short(task["metric"].partition("(")[0] or "score", 20)))
    axes[-1].set_xlabel("step")
    return figure


MARKED = 25  # points of a curve that have a shape each; of more, some have


def _points(axis: Any, points: Sequence[Sequence[Any]], run: int, x: float, y: float) -> None:
    known = [p for p in points if p[1] is not None]
    at = [x * p[0] for p in known]
    low, high = ([math.nan if p[k] is None else y * p[k] for p in known] for k in (2, 3))
    axis.fill_between(at, low, high, color=ink.colour(run), alpha=0.15, linewidth=0)
    every = 1 if len(known) <= MARKED else len(known) // 10
    axis.plot(at, [y * p[1] for p in known], marker=ink.shape(run), markevery=every,
              linestyle=ink.dashes(run), color=ink.colour(run))  # fmt: skip


def _legend(figure: Any, sheet: Sheet, runs: Sequence[int], handle: Callable[[int], Any]) -> None:
    """The checkpoints' names above the figure, where there are several."""
    if len(sheet.names) < 2 or not runs:
        return
    found = figure.legend(
        handles=[handle(run) for run in runs], labels=[str(run) for run in runs], loc="outside upper left",
        ncols=2 if sheet.width > 5 else 1,
    )  # fmt: skip
    for text, run in zip(found.get_texts(), runs, strict=True):
        text.set_text(
            ink.short(sheet.names[run], 40)
        )  # as labels, names that begin with `_` would be left out


def _patch(run: int) -> Any:
    from matplotlib.patches import Patch

    return Patch(**_filling(run))


def _filling(run: int) -> dict[str, Any]:
    """A colour, and a pattern for who prints without colours."""
    return {"facecolor": ink.colour(run), "edgecolor": "white", "linewidth": 0, "hatch": ink.hatch(run)}


def _line(run: int, marked: bool) -> Any:
    from matplotlib.lines import Line2D

    shape = ink.shape(run) if marked else ""
    return Line2D([], [], color=ink.colour(run), linestyle=ink.dashes(run), marker=shape)
