"""`evalkit published`, `table --published` and `explain`: scores beside the papers', and why they differ."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evalkit import artefacts, baseline, compare, counts, leaderboard, published, results, tables
from evalkit.errors import UserError
from evalkit.leaderboard import Cell
from evalkit.published import Beside, Named, Published

HEADER = ["task", "metric", "model", "px", "value", "published", "difference", "within", "source or why not"]
NOTE = (
    "within: of twice the published run-to-run deviation, and 0.05 points of rounding; `–` where no "
    "deviation is published. `evalkit explain RUN` says more"
)


# --- published --------------------------------------------------------------------------------------------


def show(what: str | None) -> int:
    """`evalkit published [TASK|MODEL]`: the rows, or how many there are of each task."""
    if what is None:
        for task, n in sorted(Counter(row.task for row in published.load()).items()):
            print(f"{task:<26} {n:>3} number{'' if n == 1 else 's'}")
        print(f"models: {', '.join(published.models())}")
        return 0
    rows = published.search(what)
    header = ["task", "metric", "of", "model", "kind", "px", "score", "stdev", "source"]
    lines = [
        [r.task, r.metric, r.part, r.model, r.kind, str(r.resolution), _points(r.score, True),
         "" if r.stdev is None else _points(r.stdev, True),
         r.source + (f"; not comparable: {r.differs}" if r.differs else "")]
        for r in rows
    ]  # fmt: skip
    print(tables.plain(header, lines, "terminal"), end="")
    print("\nscores × 100; stdev over five fine-tunes")
    return 0


# --- the table --------------------------------------------------------------------------------------------


def table(cells: Sequence[Cell], form: str, model: str | None) -> str:
    """A line a score with the published number beside it, and one a group or detail that has one."""
    given = published.given(model) if model else None
    found = [(c, part, b) for c in tables.in_order(cells) for part, b in _beside(c, given)]
    if form in ("csv", "json"):
        return tables.records([_record(*f) for f in found], form)
    lines = [_line(*f) for f in found]
    notes = [NOTE, *leaderboard.notes(cells, marked=False)]
    return tables.plain(HEADER, lines, form, notes)


def _beside(cell: Cell, given: Named | None) -> Iterator[tuple[str, Beside]]:
    named = given or published.name(cell.model)
    if cell.not_scored:
        rows = [
            r for r in published.for_task(cell.score.task)
            if named is not None and r in published.match(r.task, named, cell.resolution, r.metric)
            and cell.score.metric in (leaderboard.WHOLE, r.metric)
        ]  # fmt: skip
        yield "", Beside(rows[0] if rows else None, why_not=leaderboard.why_not_scored(cell.not_scored))
        return
    told = (cell.resolution, cell.task_file, cell.changed)
    yield "", published.beside(cell.score, named, *told)
    of_metric = [r.part for r in published.for_task(cell.score.task) if r.metric == cell.score.metric]
    for part in dict.fromkeys(p for p in of_metric if p):
        found = published.beside(cell.score, named, *told, part=part)
        if found.row is not None:
            yield part, found


def _line(cell: Cell, part: str, found: Beside) -> list[str]:
    row, gap = found.row, found.difference
    within = "n/a" if gap is None else {True: "yes", False: "NO", None: "–"}[found.within]
    deviation = f" ±{100 * row.stdev:.1f}" if row is not None and row.stdev is not None else ""
    return [
        cell.score.task,
        cell.score.metric + (f" [{part}]" if part else ""),
        cell.model,
        str(cell.resolution or ""),
        cell.text() if not part else "–" if found.value is None else _points(found.value),
        "n/a" if row is None else _points(row.score) + deviation,
        "n/a" if gap is None else f"{100 * gap:+.1f}",
        within,
        found.why_not or "; ".join(filter(None, (row.source if row else "", found.note))),
    ]


def _verdict(found: Beside, difference: str) -> str:
    if found.difference is None:
        return "not compared"
    said = {
        True: "within twice the deviation between runs",
        False: "NOT within twice the deviation between runs",
        None: "no deviation between runs is published",
    }
    return f"difference {difference}, {said[found.within]}"


def _record(cell: Cell, part: str, found: Beside) -> dict[str, Any]:
    row = found.row
    return leaderboard.record(cell) | {
        "part": part,
        "part_value": found.value if part else None,
        "published": row.score if row else None,
        "published_stdev": row.stdev if row else None,
        "difference": found.difference,
        "within": found.within,
        "published_source": row.source if row else "",
        "why_not": found.why_not,
        "note": "" if found.why_not else found.note,
    }


def _points(value: float, exact: bool = False) -> str:
    text = f"{100 * value:.2f}" if exact else f"{100 * value:.1f}"
    return text[:-1] if exact and text.endswith("0") else text


# --- explain ----------------------------------------------------------------------------------------------


def explain(places: Sequence[Path], model: str | None) -> int:
    """`evalkit explain RUN`: why its number may differ from the published one; `A B`: what differs first."""
    if len(places) == 2:
        return _first_difference(*places)
    if len(places) != 1:
        raise UserError(f"explain: takes one run, or two to tell apart; here are {len(places)}")
    given = published.given(model) if model else None
    folders = results.find(places)
    if not folders:
        raise UserError(f"{places[0]}: holds no runs; give a run folder or a folder of runs")
    for number, folder in enumerate(folders):
        run = folder.read_run()
        if run is None:
            raise UserError(f"{folder.path}: holds no run.json; give a run folder")
        cells = leaderboard.collect([folder])
        if not cells:
            raise UserError(f"{folder.path}: is not scored yet; `evalkit score {folder.path}` does it")
        try:
            lines = reasons(run, cells, given)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{folder.path}: run.json: is not as evalkit writes it ({error})") from None
        print(("\n" if number else "") + "\n".join(lines))
    return 0


def reasons(run: dict[str, Any], cells: Sequence[Cell], given: Named | None) -> list[str]:
    """The "why not" list of one run: its scores beside the published, then each cause, `≠` where it holds,
    `=` where it is as published, `?` where it can't be told."""
    named = given or published.name(run["model"])
    lines = [f"{run['name']}"]
    rows: list[Published] = []
    for cell in cells:
        for part, found in _beside(cell, given):
            line = _line(cell, part, found)
            lines.append(
                f"  {line[1]}: {line[4]}, published {line[5]}, {_verdict(found, line[6])}; {line[8]}"
            )
            rows += [found.row] if found.row is not None else []
            if found.row is not None and named is not None:
                others = published.match(cell.score.task, named, cell.resolution, found.row.metric, part)[1:]
                lines += [f"    also published: {_points(r.score, True)} ({r.source})" for r in others]
    causes = [*_of_split(run, rows, named), *_of_engine(run), *_of_samples(run, cells), *_of_runs(rows)]
    lines += [f"  {mark} {cause:<12} {text}" for mark, cause, text in causes]
    lines += [f"  ! {'known':<12} {fact}" for fact in artefacts.known(run["task"])]
    return lines


Cause = tuple[str, str, str]  # mark, cause, what is so


def _of_split(run: dict[str, Any], rows: Sequence[Published], named: Named | None) -> Iterator[Cause]:
    task, split = run["task"], run["task_file"]["data"]["split"]
    if not rows:
        servers = [r for r in published.for_task(artefacts.reported_on(task)) if "test server" in r.differs]
        if servers:
            yield "≠", "split", f"the first paper's figures are of the test server, this is {split}"
        else:
            yield "?", "split", f"this is {split}; no published number was found to lay beside it"
    elif differs := next((r.differs for r in rows if r.differs), ""):
        yield "≠", "split", differs
    elif rows[0].split != split:
        yield "≠", "split", f"published on {rows[0].split}, this is {split}"
    else:
        yield "=", "split", f"{split}, as published"
    if artefacts.reported_on(task):
        if named is not None and named.released:
            yield "≠", "trained on", "the released fine-tune saw this split in training"
        else:
            yield (
                "?",
                "trained on",
                "published figures of this split are of fine-tunes on train alone; is yours?",
            )


def _of_engine(run: dict[str, Any]) -> Iterator[Cause]:
    identity = run["identity"]
    model, decode = identity.get("model", {}), identity["task"].get("decode", {})

    def against(cause: str, mine: Any, wanted: Any, how: str = "") -> Cause:
        if mine is None:
            return "?", cause, f"not told by this backend; published with {wanted}{how}"
        same = mine == wanted
        return "=" if same else "≠", cause, f"{mine}" + ("" if same else f"; published with {wanted}{how}")

    yield against("protocol", identity.get("protocol"), "paper")
    yield against("precision", model.get("dtype"), "float32")
    kv = "; expect drift, of tenths of a point"
    yield against("kv precision", model.get("kv_dtype"), "bfloat16", kv)
    yield against("beam", decode.get("beams", 1), artefacts.beams(run["task"]))
    told = model.get("protocol")
    if isinstance(told, dict) and told.get("sliding_window"):
        yield "≠", "window", "alternate layers see the last tokens only (--sliding-window); published without"
    if model.get("quantisation"):
        yield "≠", "quantised", "the weights are quantised; the second paper measured 0.2 % for its own way"
    if decode.get("temperature"):
        yield "≠", "sampled", "text drawn at a temperature; published greedy or by beam"
    if decode.get("mode") == "likelihood":
        yield "≠", "likelihood", "the most likely of given choices; published by generating"
    if model.get("unidentified"):
        yield "?", "model", "does not say what it is"
    file = run["task_file"]
    for key, value in (file.get("overrides") or {}).items():
        yield "≠", "prompt" if key == "prompt" else "task", f"changed on the command line: {key}={value}"
    if file.get("prompt_source") == "unpublished":
        yield "?", "prompt", "was never published; this is evalkit's own"
    elif "prompt" not in (file.get("overrides") or {}):
        yield "=", "prompt", f"{file.get('prompt')!r}"


def _of_samples(run: dict[str, Any], cells: Sequence[Cell]) -> Iterator[Cause]:
    score = cells[0].score
    yield "=" if score.coverage == "all" else "≠", "coverage", f"{score.coverage}, {score.n:,} samples"
    data = run["task_file"]["data"]
    count, theirs = data.get("count"), data.get("published_count")
    if theirs:
        of = f" (officially {count:,})" if count else ""
        if score.n == theirs:
            yield "?", "count", f"{score.n:,}{of}, {published.AS_MANY}"
        else:
            yield "≠", "count", f"{score.n:,} samples{of}; published on {theirs:,}, a list that isn't public"
    elif count and score.n != count:
        alike = "".join(f"; {score.n:,} is {what}" for what in counts.resembles(run["task"], score.n))
        yield "≠", "count", f"{score.n:,} samples, officially {count:,}{alike}"
    elif not count:
        yield "?", "count", f"{score.n:,} samples; the official number is not known"


def _of_runs(rows: Sequence[Published]) -> Iterator[Cause]:
    if not rows:
        return
    spread = "" if rows[0].stdev is None else f", deviation {_points(rows[0].stdev, True)}"
    if rows[0].mean_of_five:
        yield "?", "fine-tunes", f"published: the mean of five{spread}; this run is of one"
    else:
        yield "=", "fine-tunes", f"published: one run{spread}"


def _first_difference(one: Path, two: Path) -> int:
    """The first thing that keeps two runs from being compared, each of one task; status 0 either way."""
    a, b = (_only(place) for place in (one, two))
    found = compare.first_difference(a, b)
    if found is not None:
        print(f"{found[0]}: {found[1]}")
        return 0
    model = [k for k in a.identity.get("model", {}) if a.identity["model"][k] != b.identity["model"].get(k)]
    if model:
        told = [_named(run.identity["model"].get(model[0])) for run in (a, b)]
        print(f"comparable; the models differ, first in {model[0]}: {told[0]} against {told[1]}")
        return 0
    text = next((i for i, x, y in zip(a.ids, a.texts, b.texts, strict=True) if x != y), None)
    if text is None:
        print("nothing differs: one identity, the same texts")
    else:
        print(f"comparable; the same model, and sample {text} is the first to be answered in another way")
    return 0


def _named(value: Any) -> str:
    """A value of an identity for people; digests by their beginnings, as tables and signatures have them."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_named(v)}" for key, v in value.items())
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1...", str(value))


def _only(place: Path) -> baseline.Answered:
    runs = baseline.read(place)
    if len(runs) != 1:
        raise UserError(f"{place}: holds {len(runs)} runs; explain A B takes one run each")
    return runs[0]


def write(arguments: Any, cells: Sequence[Cell], form: str) -> None:
    """`evalkit table --published`, printed or written. Raises UserError for forms of another shape."""
    if form in ("model-index", "lm-eval") or arguments.shape == "wide":
        asked = "--shape wide" if arguments.shape == "wide" else f"--format {form}"
        raise UserError(f"--published: is a line a score; leave {asked} out")
    text = table(cells, form, arguments.published_model)
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        results.atomic_write(arguments.output, text)
