"""A gate's decision: for a terminal, and for machines as JSON, JUnit, GitHub's annotations and job summary.

Text that a model wrote is data here: it can start no workflow command and no markup.
"""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any
from urllib.parse import quote

from evalkit.comparison.compare import task_record
from evalkit.comparison.gate import FAIL, INCONCLUSIVE, PASS, Decision, TaskDecision
from evalkit.files import atomic_write
from evalkit.printing import CELL, GREEN, RED, SENTENCE, YELLOW, cut, one_line, visible
from evalkit.report import links
from evalkit.report.columns import json_text, painted
from evalkit.report.comparison import difference, hundredths

_COLOURS = {PASS: GREEN, FAIL: RED, INCONCLUSIVE: YELLOW}


def text_of(decision: Decision, colour: bool) -> str:
    """The decision for a terminal: a line a task, the first differing sample side by side."""
    lines = []
    names = [one_line(t.task, CELL) for t in decision.tasks]
    width = max(map(len, names))
    for t, name in zip(decision.tasks, names, strict=True):
        mark = painted(t.status, _COLOURS[t.status]) if colour else t.status
        lines.append(f"{mark:<{len(mark) + 12 - len(t.status)}}  {name:<{width}}  {one_line(t.why)}")
        if t.differing:
            lines.append(f"    baseline   {one_line(repr(t.differing['baseline']))}")
            lines.append(f"    candidate  {one_line(repr(t.differing['candidate']))}")
        lines += [f"    warning: {one_line(w)}" for w in t.warnings]
    lines += [f"note: {one_line(n)}" for n in decision.notes]
    final = painted(decision.status, _COLOURS[decision.status] if colour else "")
    sides = [one_line(name, CELL) for name in (decision.candidate, decision.baseline)]
    return "\n".join([*lines, f"{sides[0]} against {sides[1]}: {final}"])


_MARKS = {PASS: "✅", FAIL: "❌", INCONCLUSIVE: "❔"}
_UNFIT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # for XML 1.0


def to_json(decision: Decision) -> str:
    content = {
        "status": decision.status,
        "exit_status": decision.exit_status,
        "candidate": decision.candidate,
        "baseline": decision.baseline,
        "tasks": [_record(t) for t in decision.tasks],
        "notes": decision.notes,
    }
    return json_text(content)


def write(
    decision: Decision, as_json: str | Path | None, junit: str | Path | None, pages: str | Path | None = None
) -> None:
    """The files that CI reads, those that are asked for; `pages` is where the runs' report is."""
    if as_json is not None:
        atomic_write(Path(as_json), to_json(decision))
    if junit is not None:
        atomic_write(Path(junit), to_junit(decision, str(pages or "")))


def _record(t: TaskDecision) -> dict[str, Any]:
    return {
        "task": t.task,
        "status": t.status,
        "why": t.why,
        "margin": t.margin,
        "metric": t.metric.spelled,
        "same_weights": t.same_weights,
        "updated": t.updated,
        "needed": t.needed,
        "warnings": t.warnings,
        "differing": t.differing,
        "comparison": task_record(t.result),
    }


def to_junit(decision: Decision, pages: str = "") -> str:
    """One test case a task; a failed one is a failure, an inconclusive one an error. `pages` is where the
    runs' report is: each case names its task's page."""
    suite = ET.Element(
        "testsuite", name="evalkit check", tests=str(len(decision.tasks)),
        failures=str(sum(t.status == FAIL for t in decision.tasks)),
        errors=str(sum(t.status == INCONCLUSIVE for t in decision.tasks)),
    )  # fmt: skip
    for t in decision.tasks:
        case = ET.SubElement(suite, "testcase", classname="evalkit", name=_fit(t.task))
        kind = {FAIL: "failure", INCONCLUSIVE: "error"}.get(t.status)
        if kind:
            ET.SubElement(case, kind, type=t.status, message=_fit(t.why)).text = _fit(_side_by_side(t))
        out = ET.SubElement(case, "system-out")
        samples = [f"samples: {links.to_task(pages, t.task)}"] if pages else []
        out.text = _fit("\n".join([t.why, *(f"warning: {w}" for w in t.warnings), *samples]))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _fit(text: str) -> str:
    return _UNFIT.sub("\ufffd", text)


def _side_by_side(t: TaskDecision) -> str:
    if t.differing is None:
        return t.why
    two = [f"{side}: {t.differing[side]!r}" for side in ("baseline", "candidate")]
    return "\n".join([f"sample {t.differing['id']}", *two])


# --- GitHub -----------------------------------------------------------------------------------------------


def workflow_commands(decision: Decision) -> str:
    """Workflow commands, one a task that does not pass and one a warning."""
    lines = []
    for t in decision.tasks:
        if t.status != PASS:
            kind = "error" if t.status == FAIL else "warning"
            lines.append(_command(kind, f"{t.task}: {t.status}", t.why))
        lines += [_command("warning", t.task, w) for w in t.warnings]
    return "".join(f"{line}\n" for line in lines)


def _command(kind: str, title: str, message: str) -> str:
    return f"::{kind} title={_property(title)}::{_message(message)}"


def _message(text: str) -> str:
    return visible(cut(text, SENTENCE).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A"))


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def neutral(text: str) -> str:
    """Text for a log that reads workflow commands: no line of it can start one (`::` or `##[`)."""
    shown = _fit(text).replace("\r", "\n")
    return re.sub(r"(?m)^(\s*)(::|##\[)", "\\1\u200b\\2", shown).replace("\u2028", " ").replace("\u2029", " ")


def summary(decision: Decision, pages: str = "") -> str:
    """The job summary, Markdown. Tasks link to their pages where `pages` says where the runs' report is."""
    out = [
        f"### evalkit check: {_MARKS[decision.status]} {decision.status}",
        "",
        f"{_cell(decision.candidate)} against {_cell(decision.baseline)}",
        "",
        "| task | | metric | n | baseline | candidate | difference | margin | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for t in decision.tasks:
        d = t.metric.found
        shown = difference(d)
        cells = [
            t.task, _MARKS[t.status], t.metric.spelled, f"{d.n:,}", hundredths(d.a), hundredths(d.b),
            shown, f"{100 * t.margin:g}", t.why.removeprefix(f"{t.metric.spelled} {shown}, "),
        ]  # fmt: skip
        line = [_cell(c) for c in cells]
        if pages:
            line[0] = f"[{line[0]}]({_address(links.to_task(pages, t.task))})"
        out.append("| " + " | ".join(line) + " |")
    for t in decision.tasks:
        out += [f"\n⚠️ {_cell(t.task)}: {_cell(w)}" for w in t.warnings]
        if t.differing:
            out += [f"\n{_cell(t.task)}, sample {_cell(t.differing['id'])}:", ""]
            out += [
                f"- {side}: <code>{_cell(t.differing[side])}</code>" for side in ("baseline", "candidate")
            ]
    out += [f"\n{_cell(n)}" for n in decision.notes]
    return "\n".join(out) + "\n"


def _address(link: str) -> str:
    """An address inside of a Markdown link."""
    return quote(link, safe=":/?#[]@!$&'*+,;=%~._-").replace("|", "%7C")


def _cell(text: str) -> str:
    """Text in a Markdown table: no markup, no mention, no new line."""
    plain = html.escape(_fit(text), quote=False).replace("\n", "⏎").replace("\r", "")
    return re.sub(r"([|`*_\[\]@~#\\])", lambda m: f"&#{ord(m[1])};", plain)
