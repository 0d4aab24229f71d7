"""`evalkit explain`: why a run's number may differ from the published one, or two runs from each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evalkit.comparison.alike import first_difference
from evalkit.errors import UserError
from evalkit.published import counts, facts
from evalkit.published.numbers import AS_MANY, Named, Published, for_task, given, match, name
from evalkit.report import causes, leaderboard
from evalkit.report.leaderboard import Cell
from evalkit.report.published import beside, line, points, verdict
from evalkit.runs import naming, scored_run, store
from evalkit.runs.store import RunFolder
from evalkit.tasks import loader
from evalkit.tasks.loader import CONFIDENCE
from evalkit.types import as_trained, remarked


def explained(places: Sequence[Path], model: str | None) -> list[str]:
    """Lines on why the number of one run (or of each below a folder) may differ from the published one; of
    two runs, on what differs first."""
    if len(places) == 2:
        return [_first_difference(*places)]
    if len(places) != 1:
        raise UserError(f"explain: takes one run, or two to compare; here are {len(places)}")
    wanted = given(model) if model else None
    folders = store.find(places)
    if not folders:
        raise UserError(f"{places[0]}: holds no runs; give a run folder or a folder of runs")
    lines: list[str] = []
    for folder in folders:
        run = folder.read_run()
        if run is None:
            raise UserError(f"{folder.path}: holds no run.json; give a run folder")
        cells = leaderboard.collect([folder])
        if not cells:
            raise UserError(f"{folder.path}: is not scored yet; `evalkit score {folder.path}` does it")
        try:
            lines += [*([""] if lines else []), *reasons(run, cells, wanted), *_unsealed(folder, run)]
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{folder.path}: run.json: is not as evalkit writes it ({error})") from None
    return lines


def reasons(run: dict[str, Any], cells: Sequence[Cell], wanted: Named | None) -> list[str]:
    """The "why not" list of one run: its scores and the published ones, then each cause, `≠` where it holds,
    `=` where it is as published, `?` where it is not known."""
    named = wanted or name(run["model"])
    own = _is_own(run)
    lines = [f"{run['name']}"]
    rows: list[Published] = []
    for cell in cells:
        for part, found in beside(cell, wanted):
            row = line(cell, part, found)
            beside_it = f", published {row[5]}, {verdict(found, row[6])}; {row[8]}"
            lines.append(f"  {row[1]}: {row[4]}" + ("" if own else beside_it))
            rows += [found.row] if found.row is not None else []
            if found.row is not None and named is not None:
                others = match(cell.score.task, named, cell.resolution, found.row.metric, part)[1:]
                lines += [f"    also published: {points(r.score, True)} ({r.source})" for r in others]
    known = [*_of_split(run, rows, named), *_of_engine(run, own), *_of_samples(run, cells), *_of_runs(rows)]
    lines += [f"  {mark} {cause:<12} {text}" for mark, cause, text in known]
    lines += [f"  ! {'known':<12} {fact}" for fact in facts.known(run["task"])]
    return lines


def _is_own(run: dict[str, Any]) -> bool:
    """Whether a task is somebody's own: nothing is published that its number could differ from."""
    return (
        not for_task(run["task"]) and not facts.reported_on(run["task"]) and run["task"] not in loader.names()
    )


def _unsealed(folder: RunFolder, run: dict[str, Any]) -> list[str]:
    """Which of the run's files an older evalkit wrote: what was edited in them does not show."""
    files = [] if run["seal"] else ["run.json"]
    files += [] if (folder.read_scores(run) or run)["seal"] else ["scores.json, rows.jsonl"]
    for part, size in folder.unsealed(run["digest"], run).items():
        files.append(f"predictions/{part}" + (f" up to byte {size:,}" if run["seal"] else ""))
    said = f"{', '.join(files)}: of an older evalkit; what was edited there does not show"
    return [f"  ! {'not sealed':<12} {said}"] if files else []


Cause = tuple[str, str, str]  # mark, cause, what is so


def _of_split(run: dict[str, Any], rows: Sequence[Published], named: Named | None) -> Iterator[Cause]:
    task, split = run["task"], run["task_file"]["data"]["split"]
    if _is_own(run):
        yield "=", "split", f"{split}, of your own"
    elif not rows:
        servers = [r for r in for_task(facts.reported_on(task)) if "test server" in r.differs]
        if servers:
            yield "≠", "split", f"the first paper's figures are of the test server, this is {split}"
        else:
            yield "?", "split", f"this is {split}; no published number was found to compare it with"
    elif differs := next((r.differs for r in rows if r.differs), ""):
        yield "≠", "split", differs
    elif rows[0].split != split:
        yield "≠", "split", f"published on {rows[0].split}, this is {split}"
    else:
        yield "=", "split", f"{split}, as published"
    if facts.reported_on(task):
        if named is not None and named.released:
            yield "≠", "trained on", "the released fine-tune saw this split in training"
        elif rows:
            yield (
                "?",
                "trained on",
                "published figures of this split are of fine-tunes on train alone; is yours?",
            )


def _of_engine(run: dict[str, Any], own: bool) -> Iterator[Cause]:
    """How it was run; of an own task without what the papers did."""
    identity = run["identity"]
    model, decode = identity.get("model", {}), identity["task"].get("decode", {})

    def against(cause: str, mine: Any, wanted: Any, how: str = "") -> Cause:
        if own:
            return ("?", cause, "not known of this backend") if mine is None else ("=", cause, f"{mine}")
        if mine is None:
            return "?", cause, f"not known of this backend; published with {wanted}{how}"
        same = mine == wanted
        return "=" if same else "≠", cause, f"{mine}" + ("" if same else f"; published with {wanted}{how}")

    yield against("protocol", identity.get("protocol"), "paper")
    yield against("precision", model.get("dtype"), "float32")
    kv = "; expect drift, of tenths of a point"
    yield against("kv precision", model.get("kv_dtype"), "bfloat16", kv)
    yield against("beam", decode.get("beams", 1), facts.beams(run["task"]))
    rules = model.get("protocol")
    if isinstance(rules, dict) and rules.get("sliding_window"):
        yield "≠", "window", "alternate layers see the last tokens only (--sliding-window); published without"
    if model.get("conventions"):
        yield "≠", "as trained", f"{as_trained(model['conventions'])}; published checkpoints: by the protocol"
    if model.get("quantisation"):
        yield "≠", "quantised", "the weights are quantised; the second paper measured 0.2 % for its own way"
    yield from _of_adapter(naming.adapter(run), model)
    if decode.get("temperature"):
        yield "≠", "sampled", "text drawn at a temperature; published greedy or by beam"
    if decode.get("mode") == "likelihood":
        yield "≠", "likelihood", "the most likely of given choices; published by generating"
    if model.get("unidentified") or "" in run.get("used", {}).values():
        yield "?", "model", "does not say what it is"
    file = run["task_file"]
    for key, value in (file.get("overrides") or {}).items():
        if key == CONFIDENCE:
            continue
        yield "≠", "prompt" if key == "prompt" else "task", f"changed on the command line: {key}={value}"
    if file.get("prompt_source") == "unpublished":
        yield "?", "prompt", "was never published; this is evalkit's own"
    elif "prompt" not in (file.get("overrides") or {}):
        yield "=", "prompt", f"{file.get('prompt')!r}"


def _of_adapter(how: str, model: dict[str, Any]) -> Iterator[Cause]:
    if not how:
        return
    if model.get("quantisation"):
        yield "=", "adapter", how
    else:
        asked = "; if it was trained on quantised weights, --quantize nf4 runs it as trained"
        yield "?", "adapter", how + asked


def _of_samples(run: dict[str, Any], cells: Sequence[Cell]) -> Iterator[Cause]:
    score = cells[0].score
    yield "=" if score.coverage == "all" else "≠", "coverage", f"{score.coverage}, {score.n:,} samples"
    data = run["task_file"]["data"]
    count, theirs = data.get("count"), data.get("published_count")
    if theirs:
        of = f" (officially {count:,})" if count else ""
        if score.n == theirs:
            yield "?", "count", f"{score.n:,}{of}, {AS_MANY}"
        else:
            yield "≠", "count", f"{score.n:,} samples{of}; published on {theirs:,}, a list that isn't public"
    elif count and score.n != count:
        alike = "".join(f"; {score.n:,} is {what}" for what in counts.resembles(run["task"], score.n))
        yield "≠", "count", f"{score.n:,} samples, officially {count:,}{alike}"
    elif not count and not _is_own(run):
        yield "?", "count", f"{score.n:,} samples; the official number is not known"
    said = run.get("data", {})
    yield from (
        ("!", "data", line) for line in dict.fromkeys([*said.get("doubts", ()), *said.get("remarks", ())])
    )
    remarks = {what: n for cell in cells for what, n in cell.score.remarks.items()}
    if remarks:
        yield "!", "answers", remarked(remarks)
    found = (line for cell in cells for line in causes.odd(cell.score, run["task_file"]))
    yield from (("!", "cause", line) for line in dict.fromkeys(found))
    yield from (("!", "error", line) for cell in cells for line in causes.errors(cell.score))
    yield from (("!", "confidence", line) for cell in cells for line in causes.confidence(cell.score))


def _of_runs(rows: Sequence[Published]) -> Iterator[Cause]:
    if not rows:
        return
    spread = "" if rows[0].stdev is None else f", deviation {points(rows[0].stdev, True)}"
    if rows[0].mean_of_five:
        yield "?", "fine-tunes", f"published: the mean of five{spread}; this run is of one"
    else:
        yield "=", "fine-tunes", f"published: one run{spread}"


def _first_difference(one: Path, two: Path) -> str:
    """The first thing that keeps two runs from being compared, each of one task."""
    a, b = (_only(place) for place in (one, two))
    found = first_difference(a, b)
    if found is not None:
        return f"{found[0]}: {found[1]}"
    model = [k for k in a.identity.get("model", {}) if a.identity["model"][k] != b.identity["model"].get(k)]
    if model:
        values = [_named(run.identity["model"].get(model[0])) for run in (a, b)]
        return f"comparable; the models differ, first in {model[0]}: {values[0]} against {values[1]}"
    text = next((i for i, x, y in zip(a.ids, a.texts, b.texts, strict=True) if x != y), None)
    if text is None:
        return "nothing differs: one identity, the same texts"
    return f"comparable; the same model, and sample {text} is the first to be answered in another way"


def _named(value: Any) -> str:
    """A value of an identity for people; digests by their beginnings, as tables and signatures have them."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_named(v)}" for key, v in value.items())
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1...", str(value))


def _only(place: Path) -> scored_run.ScoredRun:
    runs = scored_run.read(place)
    if len(runs) != 1:
        raise UserError(f"{place}: holds {len(runs)} runs; explain A B takes one run each")
    return runs[0]
