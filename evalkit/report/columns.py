"""The one writer of tables: rows of text aligned for a screen, as Markdown, HTML, LaTeX, CSV or JSON.

Knows text and which of it is marked; not what a column means.
"""

from __future__ import annotations

import csv
import html
import re
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

from evalkit import files
from evalkit.printing import CELL, PLAIN, one_line
from evalkit.report.html import page

UNMARKED = ("", "")
SHEET = 100  # columns of a table in a file or a pipe
LONG = 30  # what is longer may stand below a table

Marked = tuple[str, bool]
"""A cell that may be marked (as the best of its row) and whether it is."""
Row = Sequence[str | Marked]


def screen_width() -> int | None:
    """Columns of the screen that is printed to; None for a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def painted(text: str, colour: str) -> str:
    """Text in a colour, or as it is where the colour is ''."""
    return f"{colour}{text}{PLAIN}" if colour else text


HALF = "half of the 95 % interval, [both ends] where it is uneven"
CENTRED = 0.0011  # how far from its interval's middle a value may be, so that ± is right to the tenth shown


def interval(value: float, low: float | None, high: float | None) -> str:
    """What follows a value, in hundredths: ` ±1.6`, or ` [0.2, 31.2]` where the value is not in the middle;
    '' without an interval."""
    if low is None or high is None:
        return ""
    if abs((low + high) / 2 - value) < CENTRED:
        return f" ±{50 * (high - low):.1f}"
    return f" [{100 * low:.1f}, {100 * high:.1f}]"


def text_of(cell: str | Marked) -> str:
    """A cell's text without its mark."""
    return cell if isinstance(cell, str) else cell[0]


def marked(cell: str | Marked, marks: tuple[str, str]) -> str:
    """A cell's text, between `marks` where it is marked."""
    return f"{marks[0]}{cell[0]}{marks[1]}" if not isinstance(cell, str) and cell[1] else text_of(cell)


def clean(rows: Sequence[Row]) -> list[list[str | Marked]]:
    """Rows of which every cell is one line that steers nothing."""

    def one(cell: str | Marked) -> str | Marked:
        text = one_line(text_of(cell), CELL)
        return text if isinstance(cell, str) else (text, cell[1])

    return [[one(cell) for cell in row] for row in rows]


def widths(rows: Sequence[Row]) -> list[int]:
    """How wide every column is."""
    rows = clean(rows)
    return [max(len(text_of(row[i])) for row in rows) for i in range(len(rows[0]))] if rows else []


def aligned(
    rows: Sequence[Row],
    rule: bool = False,
    right: Collection[int] = (),
    marks: tuple[str, str] = UNMARKED,
) -> list[str]:
    """Lines of columns, two spaces apart; with a `rule` below the first, columns in `right` to the right."""
    rows = clean(rows)
    wide = widths(rows)
    lines = []
    for row in rows:
        cells = []
        for i, cell in enumerate(row):
            space = " " * (wide[i] - len(text_of(cell)))
            cells.append(space + marked(cell, marks) if i in right else marked(cell, marks) + space)
        lines.append("  ".join(cells).rstrip())
    return [*lines[:1], "  ".join("─" * w for w in wide), *lines[1:]] if rule else lines


def fitted(rows: Sequence[Sequence[str]], width: int, keys: int) -> list[str]:
    """Lines of a table of at most `width` columns, as far as it can be. Names that all rows have are said
    once above it, long text of the last column stands below it by number, and what is still too wide is cut
    into parts, each with the first `keys` columns."""
    if _fits(rows, width):
        return aligned(rows)
    rows = [[text_of(cell) for cell in row] for row in clean(rows)]
    held = [{row[i] for row in rows[1:]} for i in range(len(rows[0]))]
    for some in held[:keys]:
        some.discard("")  # as in the row above
    same = [len(rows) > 2 and len(some) == 1 for some in held]
    alike = [one and (i < keys or rows[1][i] == "n/a") for i, one in enumerate(same)]
    above = ", ".join(f"{name} {rows[1][i]}" for i, name in enumerate(rows[0]) if alike[i] and rows[1][i])
    keys = sum(not said for said in alike[:keys])
    rows = [[cell for cell, said in zip(row, alike, strict=True) if not said] for row in rows]
    lines, below = ([above, ""] if above else []), dict[str, str]()
    if not _fits(rows, width) and max((len(row[-1]) for row in rows[1:]), default=0) > LONG:
        for row in rows[1:]:
            below.setdefault(row[-1], f"[{len(below) + 1}]")
        rows = [rows[0], *([*row[:-1], below[row[-1]]] for row in rows[1:])]
    parts = _parts(widths(rows), width, keys)
    for i, part in enumerate(parts):
        lines += [""] * (i > 0) + aligned([[row[at] for at in part] for row in rows])
    return lines + [""] * bool(below) + [f"{number} {text}" for text, number in below.items()]


def _fits(rows: Sequence[Row], width: int) -> bool:
    return sum(w + 2 for w in widths(rows)) - 2 <= width


def _parts(wide: Sequence[int], width: int, keys: int) -> list[list[int]]:
    """Columns in parts that fit: the first `keys` in every part, at least one other a part; one part if names
    are so long that no other column would fit beside them."""
    head = list(range(keys))
    parts, used = [list(head)], sum(wide[i] + 2 for i in head)
    if used + min(wide[keys:], default=0) > width:
        return [list(range(len(wide)))]
    for i in range(keys, len(wide)):
        if len(parts[-1]) > keys and used + wide[i] > width:
            parts.append(list(head))
            used = sum(wide[k] + 2 for k in head)
        parts[-1].append(i)
        used += wide[i] + 2
    return parts


def markdown(rows: Sequence[Row], marks: tuple[str, str] = UNMARKED) -> list[str]:
    """Lines of a Markdown table; the first row is the header."""
    cells = [
        [marked((in_markdown(text_of(c)), not isinstance(c, str) and c[1]), marks) for c in r]
        for r in clean(rows)
    ]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return [lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]]


def in_markdown(text: str) -> str:
    """Text that stays text in Markdown: no HTML, no link, no end of a cell."""
    plain = html.escape(one_line(text), quote=False)
    return re.sub(r"[|\\]|(?<=\])\(|(?<!\w)[*~]|[*~](?!\w)", lambda m: f"\\{m[0]}", plain)


def csv_text(rows: Iterable[Iterable[Any]], safe: bool = True) -> str:
    """CSV. Where it is to be `safe`, text that a spreadsheet would run as a formula is quoted with a '."""
    written: list[str] = []
    # A row's end is \r\n, else a cell with \r alone is not quoted, and readers end the row there.
    writer = csv.writer(SimpleNamespace(write=written.append), lineterminator="\r\n")
    writer.writerows([_harmless(value) for value in row] if safe else row for row in rows)
    return "".join(row.removesuffix("\r\n") + "\n" for row in written)


def _harmless(value: Any) -> Any:
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def json_text(content: Any) -> str:
    """JSON as evalkit writes it for people and programs."""
    return files.json_text(content, indent=1) + "\n"


def records(found: Sequence[dict[str, Any]], form: str) -> str:
    """Dicts of the same keys as `csv` or `json`."""
    if form == "json":
        return json_text(found)
    return csv_text([list(found[0]) if found else [], *(line.values() for line in found)])


_TEX = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$",
        "–": "--", "†": "\\dag{}", "‡": "\\ddag{}", "≈": "$\\approx$", "\n": " "}  # fmt: skip


def latex(rows: Sequence[Row]) -> list[str]:
    """Lines of a tabular's inside, marked cells in bold."""

    def shown(cell: str | Marked) -> str:
        text = re.sub(r"[\\~^±–†‡≈\n&%$#_{}]", lambda m: _TEX.get(m[0], f"\\{m[0]}"), text_of(cell))
        return marked((text, not isinstance(cell, str) and cell[1]), ("\\textbf{", "}"))

    return [" & ".join(shown(cell) for cell in row) + " \\\\" for row in rows]


def plain(rows: Sequence[Sequence[str]], form: str, notes: Sequence[str] = (), keys: int = 3) -> str:
    """Text in rows, the header first, as `md`, `html`, `latex` or `terminal`, with sentences below. The first
    `keys` columns name a row: where a screen is too narrow, each part of the table has them."""
    if form == "html":
        sentences = "".join(f"<p>{html.escape(n)}</p>\n" for n in notes)
        return page("evalkit", f'<div class="wide">{_html(rows)}</div>\n{sentences}')
    if form == "latex":
        inside = "\n".join(latex(rows))
        tabular = f"\\begin{{tabular}}{{lll{'r' * (len(rows[0]) - 3)}}}\n{inside}\n\\end{{tabular}}\n"
        return tabular + "".join(f"% {n}\n" for n in notes)
    lines = markdown(rows) if form == "md" else fitted(rows, screen_width() or SHEET, keys)
    said = [in_markdown(n) + "  " if form == "md" else one_line(n) for n in notes]
    below = "".join(f"\n{n}" for n in said) + ("\n" if notes else "")
    return "\n".join(lines) + "\n" + below


def _html(rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(t)}</th>" for t in rows[0])
    cells = ("".join(f"<td>{html.escape(t)}</td>" for t in line) for line in rows[1:])
    body = "\n".join(f"<tr>{line}</tr>" for line in cells)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
