"""evalkit.report.columns: docstring to be written."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from evalkit.report.html import page


def _screen() -> int | None:
    """Columns of the screen that is printed to; None for a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """The header, a rule and the lines; numbers to the right, but for differences."""
    widths = [max(len(h), *(len(line[i]) for line in lines)) for i, h in enumerate(header)]
    right = {i for i, h in enumerate(header) if h in ("n", "A", "B", "p")}

    def joined(cells: Sequence[str]) -> str:
        padded = (c.rjust(widths[i]) if i in right else c.ljust(widths[i]) for i, c in enumerate(cells))
        return "  ".join(padded).rstrip()

    return [joined(header), "  ".join("─" * w for w in widths), *map(joined, lines)]


def neutral(value: Any) -> Any:
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def records(found: Sequence[dict[str, Any]], form: str) -> str:
    """Dicts of the same keys as CSV or JSON."""
    if form == "json":
        return json.dumps(found, ensure_ascii=False, indent=1) + "\n"
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(list(found[0]) if found else [])
    writer.writerows([neutral(v) for v in line.values()] for line in found)
    return out.getvalue()


_TEX = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$",
        "–": "--", "†": "\\dag{}", "‡": "\\ddag{}", "≈": "$\\approx$", "\n": " "}  # fmt: skip


def _tex(text: str) -> str:
    return re.sub(r"[\\~^±–†‡≈\n&%$#_{}]", lambda m: _TEX.get(m[0], f"\\{m[0]}"), text)


def plain(header: list[str], lines: Sequence[list[str]], form: str, notes: Sequence[str] = ()) -> str:
    """Text in rows as Markdown, HTML, LaTeX or for a terminal, with sentences below."""
    below = "".join(f"\n{n}  " if form == "md" else f"\n{n}" for n in notes) + ("\n" if notes else "")
    if form == "html":
        told = "".join(f"<p>{html.escape(n)}</p>\n" for n in notes)
        return page("evalkit", f'<div class="wide">{_rows(header, lines, form)}</div>\n{told}')
    return _rows(header, lines, form) + (
        "".join(f"% {n}\n" for n in notes) if form == "latex" else below
    )  # fmt: skip


def _rows(header: list[str], lines: Sequence[list[str]], form: str) -> str:
    if form == "md":
        rows = [[t.replace("|", "\\|") for t in line] for line in [header, *lines]]
        bars = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([bars[0], "|" + " --- |" * len(header), *bars[1:]]) + "\n"
    if form == "html":
        head = "".join(f"<th>{html.escape(t)}</th>" for t in header)
        cells = ("".join(f"<td>{html.escape(t)}</td>" for t in line) for line in lines)
        body = "\n".join(f"<tr>{line}</tr>" for line in cells)
        return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    if form == "latex":
        body = "\n".join(" & ".join(_tex(t) for t in line) + " \\\\" for line in [header, *lines])
        return f"\\begin{{tabular}}{{lll{'r' * (len(header) - 3)}}}\n{body}\n\\end{{tabular}}\n"
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    shown = [
        "  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip() for line in [header, *lines]
    ]
    return "\n".join(shown) + "\n"
