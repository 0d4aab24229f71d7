"""The leaderboard for other places: HTML, LaTeX, spreadsheets, model cards, lm-eval's readers.

Knows cells and grids; computes no score.
"""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.report import columns as tables
from evalkit.report import leaderboard
from evalkit.report.columns import _tex, neutral, plain
from evalkit.report.html import page
from evalkit.report.leaderboard import BOLD, PLAIN, Cell, Grid, grid, in_order, notes, texts
from evalkit.report.lm_eval import lm_eval
from evalkit.report.model_card import model_index

# --- the ways to show it ------------------------------------------------------------------------------


def terminal(cells: Sequence[Cell], bold: bool, pair: bool = False, width: int | None = None) -> str:
    """The table for a screen: columns aligned, the best and its ties in bold; models that do not fit into
    `width` go below."""
    return _aligned(cells, (BOLD, PLAIN) if bold else ("", ""), False, pair, width)


def markdown(cells: Sequence[Cell], pair: bool = False) -> str:
    return _aligned(cells, ("**", "**"), True, pair)


def to_json(cells: Sequence[Cell]) -> str:
    return json.dumps([record(c) for c in cells], ensure_ascii=False, indent=1) + "\n"


def to_csv(cells: Sequence[Cell]) -> str:
    """One line a score. Text that a spreadsheet would run as a formula is quoted with a '."""
    out = io.StringIO()
    columns = list(record(cells[0])) if cells else []
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for cell in cells:
        content = record(cell)
        writer.writerow([neutral(content[c]) for c in columns])
    return out.getvalue()


def record(cell: Cell) -> dict[str, Any]:
    s = cell.score
    mean = {"runs": cell.runs, "stdev": cell.stdev} if cell.runs else {}
    return {
        "task": s.task,
        "metric": s.metric,
        "model": cell.model,
        "value": None if cell.not_scored else s.value,
        "low": s.low,
        "high": s.high,
        "resolution": cell.resolution,
        "n": s.n,
        "clusters": s.clusters,
        "coverage": s.coverage,
        "invalid": s.invalid,
        "changed": ";".join(cell.changed),
        "stamps": ";".join(cell.stamped),
        "run": cell.run,
        "signature": s.signature,
    } | mean


def _aligned(
    cells: Sequence[Cell],
    marks: tuple[str, str],
    markdown: bool,
    pair: bool = False,
    width: int | None = None,
) -> str:
    if not cells:
        return "no scored runs\n"
    table = grid(cells, pair)
    header, lines = texts(table)
    widths = [max(len(header[i]), *(len(line[i][0]) for line in lines)) for i in range(len(header))]
    out = []
    for columns in _fitting(widths, width):
        if markdown:
            shown = [
                [header[i] for i in columns],
                *([_marked(*line[i], marks) for i in columns] for line in lines),
            ]
            bars = ["| " + " | ".join(t.replace("|", "\\|") for t in row) + " |" for row in shown]
            out += [bars[0], "|" + "|".join(" --- " for _ in columns) + "|", *bars[1:], ""]
            continue
        out.append("  ".join(header[i].ljust(widths[i]) for i in columns).rstrip())
        out.append("  ".join("─" * widths[i] for i in columns))
        for line in lines:
            padded = (_marked(*line[i], marks) + " " * (widths[i] - len(line[i][0])) for i in columns)
            out.append("  ".join(padded).rstrip())
        out.append("")
    found = notes(cells, pair, bool(table.best) and any(marks))
    return "\n".join(out + ([f"{n}  " for n in found] if markdown else found)) + "\n"


def _fitting(widths: Sequence[int], width: int | None) -> Iterator[list[int]]:
    """Columns in parts that fit: the first three in every part, at least one model a part."""
    part, used = [0, 1, 2], sum(widths[:3]) + 4
    for i in range(3, len(widths)):
        if width and len(part) > 3 and used + widths[i] + 2 > width:
            yield part
            part, used = [0, 1, 2], sum(widths[:3]) + 4
        part.append(i)
        used += widths[i] + 2
    yield part


def _marked(text: str, bold: bool, marks: tuple[str, str]) -> str:
    return f"{marks[0]}{text}{marks[1]}" if bold else text


_SUFFIXES = {
    ".md": "md", ".csv": "csv", ".html": "html", ".tex": "latex", ".json": "json", ".txt": "terminal",
    ".yaml": "model-index", ".yml": "model-index",
}  # fmt: skip


def by_suffix(output: Path | None) -> str | None:
    """The form that a file's name asks for."""
    return None if output is None else _SUFFIXES.get(output.suffix)


def render(
    cells: Sequence[Cell], form: str, shape: str | None, pair: bool = False, screen: bool = False
) -> tuple[str, list[str]]:
    """The cells in a form, and sentences on what was left out. Raises UserError for a shape that the
    form does not have, or several models where the form holds one."""
    if shape == "long" and form in ("model-index", "lm-eval"):
        raise UserError(f"--shape long: {form} has a shape of its own; leave it out")
    if form in ("model-index", "lm-eval") and any(c.runs for c in cells):
        raise UserError(f"--mean-over: {form} holds runs, not means over them; leave one of the two out")
    if form == "model-index":
        return model_index(cells)
    if form == "lm-eval":
        return lm_eval(cells), []
    if shape == "long" and form not in ("csv", "json"):
        return _long(cells, form), []
    wide: dict[str, Callable[[Grid], str]] = {"csv": wide_csv, "json": wide_json}
    if form in wide:
        plain = {"csv": to_csv, "json": to_json}
        return (
            wide[form](leaderboard.grid(cells, pair)) if shape == "wide" else plain[form](in_order(cells))
        ), []
    if form == "html":
        return to_html(cells, pair), []
    if form == "latex":
        return to_latex(cells, pair), []
    if form == "md":
        return markdown(cells, pair), []
    width = shutil.get_terminal_size().columns if screen else None
    return terminal(cells, screen, pair, width), []


# --- spreadsheets and JSON ------------------------------------------------------------------------------


def wide_csv(table: Grid) -> str:
    """Tasks × models: the value and half of its interval, of a mean its deviation; two columns a model,
    and a third for a mean: over how many runs."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    means = any(c.runs for c in table.cells.values())
    head = [h for m in table.columns for h in (m, f"{m} ±", *([f"{m} runs"] if means else []))]
    writer.writerow([tables.neutral(h) for h in ("task", "metric", *head)])
    for r, (task, metric) in enumerate(table.rows):
        line: list[Any] = [task, metric]
        for c in range(len(table.columns)):
            cell = table.cells.get((r, c))
            line += ["", ""] if cell is None else [cell.score.value, _half(cell)]
            line += [cell.runs if cell else ""] if means else []
        writer.writerow([tables.neutral(v) for v in line])
    return out.getvalue()


def _half(cell: Cell) -> float | str:
    if cell.stdev is not None:
        return cell.stdev
    low, high = cell.score.low, cell.score.high
    return "" if low is None or high is None else (high - low) / 2


def wide_json(table: Grid) -> str:
    """{task: {metric: {model: record}}}; `best` says who is, ties included."""
    content: dict[str, dict[str, dict[str, Any]]] = {}
    for (r, c), cell in sorted(table.cells.items()):
        task, metric = table.rows[r]
        told = record(cell) | {"best": (r, c) in table.best}
        content.setdefault(task, {}).setdefault(metric, {})[table.columns[c]] = told
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


# --- documents ---------------------------------------------------------------------------------------------


def to_html(cells: Sequence[Cell], pair: bool = False) -> str:
    """A page: one table that scrolls under its heads, models above their resolutions, and its notes."""
    table = leaderboard.grid(cells, pair)
    header, lines = leaderboard.texts(table)
    models = [re.fullmatch(r"(.*?)(?: (\d+ px))?", name, re.S) for name in header[3:]]
    named = [(m[1], m[2] or "") for m in models if m]
    several = any(px for _, px in named)
    over = [(name, len(list(same))) for name, same in itertools.groupby(named, key=lambda pair: pair[0])]
    rows = 2 if several else 1
    head = "".join(f'<th rowspan="{rows}">{h}</th>' for h in header[:3])
    head += "".join(f'<th class="n" colspan="{n}">{html.escape(name)}</th>' for name, n in over)
    below = "".join(f'<th class="n">{px}</th>' for _, px in named)
    out = [f"<tr>{head}</tr>", *([f"<tr>{below}</tr>"] if several else [])]
    body = []
    for _, same in itertools.groupby(lines, key=lambda line: line[0]):
        of_task = list(same)
        for k, line in enumerate(of_task):
            task = f'<th rowspan="{len(of_task)}">{html.escape(line[0][0])}</th>' if k == 0 else ""
            rest = "".join(_cell(text, best) for text, best in line[3:])
            metric, n = html.escape(line[1][0]), html.escape(line[2][0])
            body.append(f'<tr>{task}<td>{metric}</td><td class="n">{n}</td>{rest}</tr>')
    notes = "".join(f"<p>{html.escape(n)}</p>\n" for n in leaderboard.notes(cells, pair, bool(table.best)))
    shown = "<thead>\n" + "\n".join(out) + "\n</thead>\n<tbody>\n" + "\n".join(body) + "\n</tbody>"
    return page("evalkit", f'<div class="wide"><table>\n{shown}\n</table></div>\n{notes}')


def _cell(text: str, best: bool) -> str:
    """`92.4 ±1.6†` with what follows the value set small."""
    value, space, rest = html.escape(text).partition(" ±")
    small = f" <small>±{rest}</small>" if space else ""
    return f'<td class="{"best" if best else "n"}">{value}{small}</td>'


def to_latex(cells: Sequence[Cell], pair: bool = False) -> str:
    """A booktabs tabular; the notes as comments above it."""
    table = leaderboard.grid(cells, pair)
    header, lines = leaderboard.texts(table)
    out = [f"% {n}" for n in leaderboard.notes(cells, pair, bool(table.best))]
    out += [f"\\begin{{tabular}}{{ll{'r' * (len(header) - 2)}}}", "\\toprule"]
    out += [" & ".join(_tex(h) for h in header) + " \\\\", "\\midrule"]
    for line in lines:
        out.append(" & ".join(f"\\textbf{{{_tex(t)}}}" if bold else _tex(t) for t, bold in line) + " \\\\")
    return "\n".join([*out, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _long(cells: Sequence[Cell], form: str) -> str:
    """A line a score, in Markdown, HTML, LaTeX or for a terminal."""
    header = ["task", "metric", "model", "px", "value", "n", "invalid"]
    lines = [
        [c.score.task, c.score.metric, c.model, str(c.resolution or ""), c.text(), f"{c.score.n}",
         f"{c.score.invalid}"]
        for c in in_order(cells)
    ]  # fmt: skip
    return plain(header, lines, form)
