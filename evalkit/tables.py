"""The leaderboard for other places: HTML, LaTeX, spreadsheets, model cards, lm-eval's readers.

Knows cells and grids; computes no score.
"""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
import math
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from evalkit import leaderboard, lookup, pages
from evalkit.errors import UserError
from evalkit.leaderboard import Cell, Grid

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
    wide: dict[str, Callable[[Grid], str]] = {"csv": to_csv, "json": to_json}
    if form in wide:
        plain = {"csv": leaderboard.to_csv, "json": leaderboard.to_json}
        return (
            wide[form](leaderboard.grid(cells, pair)) if shape == "wide" else plain[form](in_order(cells))
        ), []
    if form == "html":
        return to_html(cells, pair), []
    if form == "latex":
        return to_latex(cells, pair), []
    if form == "md":
        return leaderboard.markdown(cells, pair), []
    width = shutil.get_terminal_size().columns if screen else None
    return leaderboard.terminal(cells, screen, pair, width), []


def in_order(cells: Sequence[Cell]) -> list[Cell]:
    """By task, model and resolution, metrics as their task has them: a committed file diffs well."""
    return sorted(cells, key=lambda c: (c.score.task, c.model, c.resolution or 0))


# --- spreadsheets and JSON ------------------------------------------------------------------------------


def to_csv(table: Grid) -> str:
    """Tasks × models: the value and half of its interval, of a mean its deviation; two columns a model,
    and a third for a mean: over how many runs."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    means = any(c.runs for c in table.cells.values())
    head = [h for m in table.columns for h in (m, f"{m} ±", *([f"{m} runs"] if means else []))]
    writer.writerow([leaderboard.neutral(h) for h in ("task", "metric", *head)])
    for r, (task, metric) in enumerate(table.rows):
        line: list[Any] = [task, metric]
        for c in range(len(table.columns)):
            cell = table.cells.get((r, c))
            line += ["", ""] if cell is None else [cell.score.value, _half(cell)]
            line += [cell.runs if cell else ""] if means else []
        writer.writerow([leaderboard.neutral(v) for v in line])
    return out.getvalue()


def _half(cell: Cell) -> float | str:
    if cell.stdev is not None:
        return cell.stdev
    low, high = cell.score.low, cell.score.high
    return "" if low is None or high is None else (high - low) / 2


def to_json(table: Grid) -> str:
    """{task: {metric: {model: record}}}; `best` says who is, ties included."""
    content: dict[str, dict[str, dict[str, Any]]] = {}
    for (r, c), cell in sorted(table.cells.items()):
        task, metric = table.rows[r]
        record = leaderboard.record(cell) | {"best": (r, c) in table.best}
        content.setdefault(task, {}).setdefault(metric, {})[table.columns[c]] = record
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def records(found: Sequence[dict[str, Any]], form: str) -> str:
    """Dicts of the same keys as CSV or JSON."""
    if form == "json":
        return json.dumps(found, ensure_ascii=False, indent=1) + "\n"
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(list(found[0]) if found else [])
    writer.writerows([leaderboard.neutral(v) for v in line.values()] for line in found)
    return out.getvalue()


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
    return pages.page("evalkit", f'<div class="wide"><table>\n{shown}\n</table></div>\n{notes}')


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


_TEX = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$",
        "–": "--", "†": "\\dag{}", "‡": "\\ddag{}", "≈": "$\\approx$", "\n": " "}  # fmt: skip


def _tex(text: str) -> str:
    return re.sub(r"[\\~^±–†‡≈\n&%$#_{}]", lambda m: _TEX.get(m[0], f"\\{m[0]}"), text)


def _long(cells: Sequence[Cell], form: str) -> str:
    """A line a score, in Markdown, HTML, LaTeX or for a terminal."""
    header = ["task", "metric", "model", "px", "value", "n", "invalid"]
    lines = [
        [c.score.task, c.score.metric, c.model, str(c.resolution or ""), c.text(), f"{c.score.n}",
         f"{c.score.invalid}"]
        for c in in_order(cells)
    ]  # fmt: skip
    return plain(header, lines, form)


def plain(header: list[str], lines: Sequence[list[str]], form: str, notes: Sequence[str] = ()) -> str:
    """Text in rows as Markdown, HTML, LaTeX or for a terminal, with sentences below."""
    below = "".join(f"\n{n}  " if form == "md" else f"\n{n}" for n in notes) + ("\n" if notes else "")
    if form == "html":
        told = "".join(f"<p>{html.escape(n)}</p>\n" for n in notes)
        return pages.page("evalkit", f'<div class="wide">{_rows(header, lines, form)}</div>\n{told}')
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


# --- model cards and lm-eval -------------------------------------------------------------------------------


def model_index(cells: Sequence[Cell]) -> tuple[str, list[str]]:
    """The `model-index` block of a Hugging Face model card, and which scores were left out and why.

    Only whole, unchanged runs belong on a card. Keys: huggingface.co/docs/hub/model-cards, "Evaluation
    results". Values are as metrics have them, 0 to 1 (CIDEr unscaled).
    """
    whole = [c for c in in_order(cells) if _fit_for_a_card(c)]
    left = [c for c in cells if not _fit_for_a_card(c)]
    models: dict[str, dict[str, list[Cell]]] = {}
    for cell in whole:
        models.setdefault(cell.model, {}).setdefault(cell.score.task, []).append(cell)
    content = [
        {"name": model, "results": [_card(task, of_task) for task, of_task in by_task.items()]}
        for model, by_task in models.items()
    ]
    text = yaml.safe_dump({"model-index": content}, sort_keys=False, allow_unicode=True, width=1000)
    sentences = [
        f"left out: {c.model} on {c.score.task}, {c.score.metric}: {_why_no_card(c)}; a card holds whole runs"
        for c in left
    ]
    return text, sentences


def _fit_for_a_card(cell: Cell) -> bool:
    return cell.score.coverage == "all" and not cell.changed and not cell.not_scored


def _why_no_card(cell: Cell) -> str:
    if cell.not_scored:
        return cell.text()
    return "changed prompt or settings" if cell.changed else cell.score.coverage


_KINDS = {"boxes": "object-detection", "masks": "image-segmentation"}


def _card(task: str, cells: Sequence[Cell]) -> dict[str, Any]:
    file = cells[0].task_file
    parser = str(file.get("parser", "text")).partition("(")[0]
    split = str(file.get("data", {}).get("split", ""))
    dataset = {"name": str(file.get("about") or task), "type": task}
    return {
        "task": {"type": _KINDS.get(parser, "image-text-to-text")},
        "dataset": dataset | ({"split": split} if split else {}),
        "metrics": [_card_metric(c) for c in cells],
    }


def _card_metric(cell: Cell) -> dict[str, Any]:
    s = cell.score
    told = {"n": s.n, "low": s.low, "high": s.high, "signature": s.signature}
    return {"type": lookup.parse(s.metric)[0], "name": s.metric, "value": s.value, "args": told}


def lm_eval(cells: Sequence[Cell]) -> str:
    """One model's scores as lm-evaluation-harness 0.4 writes them: `results.TASK["METRIC,none"]` and so on.

    A standard error is the width of the 95 % interval over 3.92. Raises UserError for several models.
    """
    models = sorted({c.model for c in cells})
    if len(models) != 1:
        raise UserError(
            f"--format lm-eval: holds one model, here are {len(models)}: {', '.join(models)}; name its runs"
        )
    content: dict[str, Any] = {k: {} for k in ("results", "group_subtasks", "configs", "versions", "n-shot",
                                               "higher_is_better", "n-samples")}  # fmt: skip
    for cell in (c for c in cells if not c.not_scored):
        s = cell.score
        name = s.metric.replace(", ", ";").replace(",", ";")
        result = content["results"].setdefault(s.task, {"alias": s.task})
        result[f"{name},none"] = s.value if math.isfinite(s.value) else None
        known = s.low is not None and s.high is not None
        result[f"{name}_stderr,none"] = (s.high - s.low) / 3.92 if known else "N/A"  # type: ignore[operator]
        content["group_subtasks"][s.task] = []
        content["configs"][s.task] = {
            "task": s.task, "doc_to_text": cell.task_file.get("prompt"), "num_fewshot": 0,
            "metadata": {"signature": s.signature, "coverage": s.coverage},
        }  # fmt: skip
        content["versions"][s.task] = cell.task_file.get("version", 1)
        content["n-shot"][s.task] = 0
        content["higher_is_better"].setdefault(s.task, {})[name] = not s.lower_is_better
        total = cell.task_file.get("data", {}).get("count") or s.n
        content["n-samples"][s.task] = {"original": total, "effective": s.n}
    content["config"] = {"model": "paligemma", "model_args": f"pretrained={models[0]}"}
    content["model_name"] = models[0]
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"
