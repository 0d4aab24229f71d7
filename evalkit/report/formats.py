"""The leaderboard's forms, one table: name to writer. Knows cells and grids; computes no score."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit import collecting, own_code, registry
from evalkit.errors import UserError, nearest
from evalkit.options.fields import paths
from evalkit.options.verbs import TableOptions
from evalkit.printing import BOLD, PLAIN, one_line
from evalkit.report import breakdowns, columns, leaderboard, links, published, seeds
from evalkit.report.columns import UNMARKED, Row, csv_text, json_text
from evalkit.report.html import page
from evalkit.report.leaderboard import Cell, grid, in_order, notes, record, texts
from evalkit.report.lm_eval import lm_eval
from evalkit.report.model_card import model_index
from evalkit.runs import store

Cells = Sequence[Cell]


@dataclass(frozen=True)
class Form:
    """One way to write the leaderboard. A shape that is None is one that the form does not have."""

    about: str
    suffixes: tuple[str, ...] = ()
    wide: Callable[[Cells, bool], str] | None = None  # tasks × models; ties by paired samples or not
    long: Callable[[Cells], str] | None = None  # a line a score
    own: Callable[[Cells], tuple[str, list[str]]] | None = None  # a shape of its own, and what is left out
    usual: str = "wide"


def terminal(cells: Cells, bold: bool, pair: bool = False, width: int | None = None) -> str:
    """The table for a screen: columns aligned, the best and its ties in bold; models that do not fit into
    `width` go below."""
    return _aligned(cells, (BOLD, PLAIN) if bold else UNMARKED, False, pair, width)


def markdown(cells: Cells, pair: bool = False) -> str:
    return _aligned(cells, ("**", "**"), True, pair)


def to_json(cells: Cells) -> str:
    return columns.records([record(c) for c in cells], "json")


def to_csv(cells: Cells) -> str:
    """One line a score."""
    return columns.records([record(c) for c in cells], "csv")


def _aligned(
    cells: Cells,
    marks: tuple[str, str],
    markdown: bool,
    pair: bool = False,
    width: int | None = None,
) -> str:
    if not cells:
        return "no scored runs\n"
    table = grid(cells, pair)
    header, lines = texts(table)
    rows: list[Row] = [header, *lines]
    out = []
    for part in _fitting(columns.widths(rows), width):
        some = [[row[i] for i in part] for row in rows]
        out += columns.markdown(some, marks) if markdown else columns.aligned(some, rule=True, marks=marks)
        out.append("")
    found = notes(cells, pair, bool(table.best) and any(marks))
    said = [f"{columns.in_markdown(n)}  " if markdown else one_line(n) for n in found]
    return "\n".join(out + said) + "\n"


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


# --- spreadsheets and JSON ------------------------------------------------------------------------------


def wide_csv(cells: Cells, pair: bool = False) -> str:
    """Tasks × models, three columns a model: the value and the ends of its interval, or a mean, its deviation
    and over how many runs."""
    table = grid(cells, pair)
    about = ("±", "runs") if any(c.runs for c in cells) else ("low", "high")
    head = [h for m in table.columns for h in (m, *(f"{m} {a}" for a in about))]
    rows: list[list[Any]] = [["task", "metric", *head]]
    for r, (task, metric) in enumerate(table.rows):
        line: list[Any] = [task, metric]
        for c in range(len(table.columns)):
            cell = table.cells.get((r, c))
            line += ["", "", ""] if cell is None or cell.not_scored else _figures(cell)
        rows.append(line)
    return csv_text(rows)


def _figures(cell: Cell) -> list[Any]:
    score = cell.score
    found = [score.value, *((cell.stdev, cell.runs) if cell.runs else (score.low, score.high))]
    return ["" if figure is None else figure for figure in found]


def wide_json(cells: Cells, pair: bool = False) -> str:
    """{task: {metric: {model: record}}}; `best` says who is, ties included."""
    table = grid(cells, pair)
    content: dict[str, dict[str, dict[str, Any]]] = {}
    for (r, c), cell in sorted(table.cells.items()):
        task, metric = table.rows[r]
        shown = record(cell) | {"best": (r, c) in table.best}
        content.setdefault(task, {}).setdefault(metric, {})[table.columns[c]] = shown
    return json_text(content)


# --- documents ---------------------------------------------------------------------------------------------


def to_html(cells: Cells, pair: bool = False, report: str = "") -> str:
    """A page: one table that scrolls under its heads, models above their resolutions, and its notes. Tasks
    link into `report`, where one is named."""
    return page("evalkit", html_table(cells, pair, report))


def html_table(cells: Cells, pair: bool = False, report: str = "") -> str:
    """The table and its notes as a part of a page."""
    table = grid(cells, pair)
    header, lines = texts(table)
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
            task = f'<th rowspan="{len(of_task)}">{_linked(line[0][0], report)}</th>' if k == 0 else ""
            rest = "".join(_cell(text, best) for text, best in line[3:])
            metric, n = html.escape(line[1][0]), html.escape(line[2][0])
            body.append(f'<tr>{task}<td>{metric}</td><td class="n">{n}</td>{rest}</tr>')
    sentences = "".join(f"<p>{html.escape(n)}</p>\n" for n in notes(cells, pair, bool(table.best)))
    shown = "<thead>\n" + "\n".join(out) + "\n</thead>\n<tbody>\n" + "\n".join(body) + "\n</tbody>"
    return f'<div class="wide"><table>\n{shown}\n</table></div>\n{sentences}'


def _linked(task: str, report: str) -> str:
    name = html.escape(task)
    return f'<a href="{html.escape(links.to_task(report, task))}">{name}</a>' if report else name


def _cell(text: str, best: bool) -> str:
    """`92.4 ±1.6†` or `5.1 [0.2, 31.2]†` with what follows the value set small."""
    figure = re.fullmatch(r"(-?[\d.]+) ([±\[].*)", html.escape(text))
    value, small = (figure[1], f" <small>{figure[2]}</small>") if figure else (html.escape(text), "")
    return f'<td class="{"best" if best else "n"}">{value}{small}</td>'


def to_latex(cells: Cells, pair: bool = False) -> str:
    """A booktabs tabular; the notes as comments above it."""
    table = grid(cells, pair)
    header, lines = texts(table)
    out = [f"% {n}" for n in notes(cells, pair, bool(table.best))]
    out += [f"\\begin{{tabular}}{{ll{'r' * (len(header) - 2)}}}", "\\toprule"]
    out += [*columns.latex([header]), "\\midrule", *columns.latex(lines), "\\bottomrule", "\\end{tabular}"]
    return "\n".join(out) + "\n"


WIDE = 200  # columns of a table for no screen: what a pager, a log or an editor still shows


def _plain(cells: Cells, pair: bool) -> str:
    return terminal(cells, False, pair, WIDE)


def _long(form: str) -> Callable[[Cells], str]:
    """A writer of one line a score."""

    def write(cells: Cells) -> str:
        header = ["task", "metric", "model", "px", "value", "n", "invalid"]
        lines = [
            [c.score.task, c.score.metric, c.model, str(c.resolution or ""), c.text(), f"{c.score.n}",
             f"{c.score.invalid}"]
            for c in in_order(cells)
        ]  # fmt: skip
        return columns.plain([header, *lines], form)

    return write


# --- the table of forms ------------------------------------------------------------------------------------

FORMS: dict[str, Form] = {
    "terminal": Form("columns for a screen", (".txt",), _plain, _long("terminal")),
    "md": Form("a Markdown table", (".md",), markdown, _long("md")),
    "csv": Form("for spreadsheets", (".csv",), wide_csv, lambda c: to_csv(in_order(c)), usual="long"),
    "html": Form("a page that needs nothing else", (".html",), to_html, _long("html")),
    "latex": Form("a booktabs tabular", (".tex",), to_latex, _long("latex")),
    "json": Form("for programs", (".json",), wide_json, lambda c: to_json(in_order(c)), usual="long"),
    "model-index": Form("a Hugging Face model card's results", (".yaml", ".yml"), own=model_index),
    "lm-eval": Form("as lm-evaluation-harness writes results", own=lambda c: (lm_eval(c), [])),
}


def by_suffix(output: Path | None) -> str | None:
    """The form that a file's name asks for."""
    suffix = output.suffix if output is not None else ""
    return next((name for name, form in FORMS.items() if suffix and suffix in form.suffixes), None)


def find(name: str) -> Form:
    """A form by name; `module:FILE.py:FUNCTION` or an entry point `evalkit.forms` names a function of one's
    own, which gets the cells and gives the text. Raises UserError for one that is not there."""
    if name in FORMS:
        return FORMS[name]
    points = registry.entry_points("forms")
    if not name.startswith(registry.OWN) and name not in points:
        raise UserError(f"--format {name}: no such form{nearest(name, [*FORMS, *points])}")
    if not own_code.is_allowed():
        raise UserError(f"--format {name}: is code of your own; --allow-code lets it run")
    if name in points:
        write = own_code.load_entry_point(points[name])
    else:
        write = own_code.load(name.removeprefix(registry.OWN), f"--format {name}", "function", typed=True)
    return Form("of your own", own=lambda cells: (str(write(cells)), []))


def cells_of(options: TableOptions) -> list[Cell]:
    """The cells that `evalkit table` is asked for."""
    with collecting.paused():
        cells = leaderboard.collect(store.find(paths(options.runs) or [Path("results")]))
    return seeds.over_seeds(cells) if options.mean_over else cells


def render(cells: Cells, options: TableOptions, screen: int | None = None) -> tuple[str, list[str]]:
    """The cells as asked for, and sentences on what was left out. Raises UserError for a form that does not
    exist, and for what a form or a shape cannot show. `screen` is the width of a terminal."""
    output = None if options.output is None else Path(options.output)
    name = options.format or by_suffix(output) or "terminal"
    form = find(name)
    _refuse(name, form, options)
    if options.per:
        return breakdowns.table(cells, name, options.per), []
    if options.published or options.published_model:
        return published.table(cells, name, options.published_model), []
    if form.own is not None:
        return form.own(cells)
    if (options.shape or form.usual) == "long":
        assert form.long is not None
        return form.long(cells), []
    if name == "terminal" and screen:
        return terminal(cells, True, options.paired, screen), []
    assert form.wide is not None
    if options.report:
        return to_html(cells, options.paired, str(options.report)), []
    return form.wide(cells, options.paired), []


def _refuse(name: str, form: Form, options: TableOptions) -> None:
    """Raises UserError for what would be asked for in vain."""
    beside = options.published or options.published_model
    if options.report and (name != "html" or beside or options.per or options.shape == "long"):
        raise UserError("--report: only the wide table of --format html has links; leave it out")
    if form.own is not None and options.shape:
        raise UserError(f"--shape {options.shape}: {name} has a shape of its own; leave it out")
    if form.own is not None and options.mean_over and name in FORMS:
        raise UserError(f"--mean-over: {name} holds runs, not means over them; leave one of the two out")
    if beside and (form.own is not None or options.shape == "wide"):
        asked = "--shape wide" if options.shape == "wide" else f"--format {name}"
        raise UserError(f"--published: is a line a score; leave {asked} out")
    if options.per and (
        beside or form.own is not None or options.shape or options.paired or options.mean_over
    ):
        raise UserError(
            f"--per {options.per}: is a table of its own; leave the other shape or --format {name} out"
        )
    if options.paired and (beside or form.own is not None or (options.shape or form.usual) == "long"):
        shown = "--published" if beside else "--shape long" if form.own is None else f"--format {name}"
        raise UserError(f"--paired: {shown} marks no best; leave one of the two out")
