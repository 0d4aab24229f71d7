"""Tasks × checkpoints: values with intervals, the best in bold, partial runs stamped.

Knows scores and runs as they lie in results folders; computes no score itself.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.results import RunFolder, scores_of
from evalkit.types import Score

STAMPS = {
    "limited": ("†", "a part of the samples, on purpose (--limit or --ids)"),
    "early": ("‡", "decided early: a sequential test stopped it (--until-decided); not a score of the task"),
    "incomplete": ("!", "incomplete: samples are missing, from the disk or from the run"),
    "changed": ("~", "prompt or settings of the task changed on the command line"),
    "sampled": ("≈", "text drawn at a temperature, not greedy; the seed is in the run's identity"),
    "quantised": ("q", "weights quantised (--quantize)"),
    "unidentified": ("?", "unidentified: the model's class doesn't say what it is, so never gone on with"),
}
BOLD, PLAIN = "\033[1m", "\033[0m"


@dataclass(frozen=True)
class Cell:
    """One score with the run it comes from."""

    score: Score
    run: str
    model: str
    changed: tuple[str, ...]  # `--set` and `--prompt` overrides
    ways: tuple[str, ...] = ()  # sampled, quantised, unidentified
    not_scored: str = ""  # why there is no value

    @property
    def stamped(self) -> tuple[str, ...]:
        """The names of its stamps, in the order of STAMPS."""
        names = {self.score.coverage, *self.ways} | ({"changed"} if self.changed else set())
        return tuple(name for name in STAMPS if name in names)

    @property
    def stamps(self) -> str:
        return "".join(STAMPS[name][0] for name in self.stamped)

    def text(self) -> str:
        """`92.4 ±1.6†`, in hundredths."""
        score = self.score
        if self.not_scored:
            return "not scored"
        half = "" if score.low is None or score.high is None else f" ±{50 * (score.high - score.low):.1f}"
        return f"{100 * score.value:.1f}{half}{self.stamps}"


def collect(folders: Iterable[RunFolder]) -> list[Cell]:
    """The cells of all scored runs, models told apart where one name ran in two ways."""
    runs = []
    for folder in folders:
        run = folder.read_run()
        if run is not None:
            runs.append((folder, run, scores_of(folder)))
    ways: dict[tuple[str, str], list[str]] = {}
    for _, run, scores in runs:
        if scores:
            ways.setdefault((run["task"], run["model"]), []).append(run["digest"])
    cells = []
    for folder, run, scores in runs:
        model = run["model"]
        if len(ways.get((run["task"], model), [])) > 1:
            model = f"{model} [{_way(run)}]"
        changed = tuple(run.get("task_file", {}).get("overrides", {}))
        cells += [Cell(score, folder.name, model, changed, _ways(run)) for score in scores]
        why = run.get("task_file", {}).get("not_scored", "")
        if why:
            n = len(folder.entries())
            empty = Score(run["task"], "–", "", math.nan, None, None, n, n, "all", 0)
            cells.append(Cell(empty, folder.name, model, changed, _ways(run), why))
    return cells


def _ways(run: dict[str, Any]) -> tuple[str, ...]:
    """What of a run's identity a reader of the table must be told."""
    identity = run.get("identity", {})
    model, decode = identity.get("model", {}), identity.get("task", {}).get("decode", {})
    said = {
        "sampled": decode.get("temperature"),
        "quantised": model.get("quantisation"),
        "unidentified": model.get("unidentified"),
    }
    return tuple(name for name, value in said.items() if value)


def _way(run: dict[str, Any]) -> str:
    """What tells two runs of one checkpoint apart, for people; the digest makes it certain."""
    identity = run.get("identity", {})
    model = identity.get("model", {})
    quantised = (model.get("quantisation") or {}).get("scheme")
    return ", ".join(
        str(p) for p in (model.get("dtype"), quantised, identity.get("protocol"), run["digest"][:6]) if p
    )


# --- the four ways to show it ----------------------------------------------------------------------


def terminal(cells: Sequence[Cell], bold: bool) -> str:
    """The table for a screen: columns aligned, the best of comparable runs in bold."""
    return _aligned(cells, (BOLD, PLAIN) if bold else ("", ""), markdown=False)


def markdown(cells: Sequence[Cell]) -> str:
    return _aligned(cells, ("**", "**"), markdown=True)


def to_json(cells: Sequence[Cell]) -> str:
    return json.dumps([_record(c) for c in cells], ensure_ascii=False, indent=1) + "\n"


def to_csv(cells: Sequence[Cell]) -> str:
    """One line a score. Text that a spreadsheet would run as a formula is quoted with a '."""
    out = io.StringIO()
    columns = list(_record(cells[0])) if cells else []
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for cell in cells:
        record = _record(cell)
        writer.writerow([_neutral(record[c]) for c in columns])
    return out.getvalue()


def _record(cell: Cell) -> dict[str, Any]:
    s = cell.score
    return {
        "task": s.task,
        "metric": s.metric,
        "model": cell.model,
        "value": None if cell.not_scored else s.value,
        "low": s.low,
        "high": s.high,
        "n": s.n,
        "clusters": s.clusters,
        "coverage": s.coverage,
        "invalid": s.invalid,
        "changed": ";".join(cell.changed),
        "stamps": ";".join(cell.stamped),
        "run": cell.run,
        "signature": s.signature,
    }


def _neutral(value: Any) -> Any:
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _aligned(cells: Sequence[Cell], marks: tuple[str, str], markdown: bool) -> str:
    if not cells:
        return "no scored runs\n"
    models = list(dict.fromkeys(sorted(c.model for c in cells)))
    rows: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.score.task, cell.score.metric), {})[cell.model] = cell
    order = {c.score.task: i for i, c in reversed(list(enumerate(cells)))}
    keys = sorted(rows, key=lambda k: order[k[0]])  # metrics stay in the order of the task file
    header = ["task", "metric", "n", *models]
    lines = []
    for key in keys:
        row = rows[key]
        best = _best(row)
        n = sorted({c.score.n for c in row.values()})
        shown = [(row[m].text(), m in best) if m in row else ("–", False) for m in models]
        lines.append([(key[0], False), (key[1], False), ("–".join(map(str, n)), False), *shown])
    widths = [max(len(header[i]), *(len(line[i][0]) for line in lines)) for i in range(len(header))]
    if markdown:
        out = [
            "| " + " | ".join(h.replace("|", "\\|") for h in header) + " |",
            "|" + "|".join(" --- " for _ in header) + "|",
        ]
        out += [
            "| " + " | ".join(_marked(t, b, marks).replace("|", "\\|") for t, b in line) + " |"
            for line in lines
        ]
    else:
        out = ["  ".join(h.ljust(w) for h, w in zip(header, widths, strict=True)).rstrip()]
        out.append("  ".join("─" * w for w in widths))
        for line in lines:
            padded = (
                _marked(t, b, marks) + " " * (w - len(t)) for (t, b), w in zip(line, widths, strict=True)
            )
            out.append("  ".join(padded).rstrip())
    notes = _notes(cells)
    return "\n".join(out + (["", *(f"{n}  " for n in notes)] if markdown else ["", *notes])) + "\n"


def _marked(text: str, bold: bool, marks: tuple[str, str]) -> str:
    return f"{marks[0]}{text}{marks[1]}" if bold else text


def _best(row: dict[str, Cell]) -> set[str]:
    """The models with the best value, where at least two were scored on the same samples."""
    if len(row) < 2 or len({(c.score.n, c.score.coverage, _targets(c.score)) for c in row.values()}) > 1:
        return set()
    if any(c.not_scored for c in row.values()):
        return set()
    sign = -1 if next(iter(row.values())).score.lower_is_better else 1
    top = max(sign * c.score.value for c in row.values())
    return {m for m, c in row.items() if sign * c.score.value == top}


def _targets(score: Score) -> str:
    return next((p for p in score.signature.split("|") if p.startswith("targets:")), "")


def _notes(cells: Sequence[Cell]) -> list[str]:
    reasons = [f"{c.score.task}: not scored, because {c.not_scored}" for c in cells if c.not_scored]
    used = {mark for c in cells for mark in c.stamps}
    notes = ["values × 100, ± half of the 95 % interval (clustered by image)"]
    notes += [f"{mark} {meaning}" for mark, meaning in STAMPS.values() if mark in used]
    invalid = [
        f"{c.model}: {c.score.task} {c.score.invalid} of {c.score.n}" for c in cells if c.score.invalid
    ]
    notes += dict.fromkeys(reasons)
    unique = list(dict.fromkeys(invalid))
    if unique:
        more = f"; and {len(unique) - 6} more" if len(unique) > 6 else ""
        notes.append("unreadable answers, scored as wrong: " + "; ".join(unique[:6]) + more)
    return notes
