"""One sample of runs for a notebook: its picture with boxes and masks drawn, target and answers."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalkit.errors import UserError, nearest
from evalkit.printing import cut, one_line, visible
from evalkit.viewer import assembled, ink
from evalkit.viewer.gather import Gathered, TaskRuns, gather
from evalkit.viewer.masks import of_targets
from evalkit.viewer.pictured import pictured
from evalkit.viewer.pictures import Pictures, wanted
from evalkit.viewer.stream import Survey, side_by_side, survey

PIXELS = 768  # of a picture's longer side
LEAST = 448  # of a small picture's width, as it is shown
LETTERS = 2000  # of a text
GUESSED = 5000  # ids of a task that a mistyped one may mean
TARGET = "#007a5a"  # as page/style.css
LEFT = "text-align:left"
THICK = 0.004  # of a line, of the picture's longer side


@dataclass(frozen=True)
class Sample:
    """A sample as the report shows it: `record` has prompt, target, answers, boxes in pixels, scores."""

    task: str
    names: tuple[str, ...]  # of the checkpoints, in the order of the record's runs
    record: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.record["id"])

    def lines(self) -> list[tuple[str, str]]:
        """What is known of it in words: a label and a text each."""
        target = self.record["target"]
        texts = dict.fromkeys([*target["texts"], *(box[4] for box in target["boxes"] if box[4])])
        found = [("prompt", str(self.record["prompt"]))]
        found += [("target", " | ".join(texts))] if texts else []
        for name, run in self._answers():
            found.append((f"{name}: answer", run["answer"] or "(nothing)"))
            found += [(f"{name}: unreadable", run["invalid"])] if run["invalid"] else []
            scores = [f"{metric} {value:.3g}" for metric, value in run["scores"] if value is not None]
            found += [(f"{name}: score", ", ".join(scores))] if scores else []
            found += [(f"{name}: {label}", text) for label, text in run["why"]]
        return found

    def _answers(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Each checkpoint that has the sample, and its answer."""
        return ((name, run) for name, run in zip(self.names, self.record["runs"], strict=True) if run)

    def __repr__(self) -> str:
        rows = [f"  {one_line(label)}: {one_line(text, 300)}" for label, text in self.lines()]
        return "\n".join([f"<Sample {one_line(self.task)} {one_line(self.id)}>", *rows])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="{LEFT}">{_safe(label)}</th><td style="{LEFT}">{_safe(text)}</td></tr>'
            for label, text in self.lines()
        )
        pictures = "".join(self._picture(image, k == 0) for k, image in enumerate(self.record["images"]))
        head = f"<p><b>{_safe(self.task)}</b> {_safe(self.id)}</p>"
        return f'<div class="evalkit">{head}{pictures}{self._legend()}<table>{rows}</table></div>'

    def _picture(self, image: Mapping[str, Any], first: bool) -> str:
        """The picture; boxes and masks lie on the first."""
        if image["src"] is None and not image["width"]:
            return f"<p>{_safe(image.get('missing') or 'no picture')}</p>"
        width, height = image["width"], image["height"]
        wide = min(max(width, LEAST), PIXELS)
        inside = (
            f'<image href="{html.escape(image["src"])}" width="{width}" height="{height}"/>'
            if image["src"]
            else ""
        )
        if first:
            every = [_shapes(*part, max(width, height)) for part in self._parts()]
            inside += "".join(below for below, _ in every) + "".join(above for _, above in every)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            f'aria-label="picture of the sample" style="max-width:100%;width:{wide}px">'
            f"{inside}</svg>" + (f"<p>{_safe(image.get('missing', ''))}</p>" if not image["src"] else "")
        )

    def _parts(self) -> Iterator[tuple[Mapping[str, Any], str, Sequence[float]]]:
        """What is drawn: boxes and masks, their colour and dashes; the target's line is whole."""
        yield self.record["target"], TARGET, ()
        for side, run in enumerate(self.record["runs"]):
            if run:
                yield run, ink.colour(side), ink.dashes(side)[1]

    def _legend(self) -> str:
        if not any(part["boxes"] or part["masks"] for part, _, _ in self._parts()):
            return ""
        names = ["target", *(name for name, _ in self._answers())]
        keys = (
            f'<svg width="30" height="10"><line x1="0" x2="30" y1="5" y2="5" stroke="{colour}" '
            f'stroke-width="3" stroke-dasharray="{_dashes(dashes, 3)}"/></svg> {_safe(name)} '
            for name, (_, colour, dashes) in zip(names, self._parts(), strict=True)
        )
        return f"<p>{''.join(keys)}</p>"


def _shapes(part: Mapping[str, Any], colour: str, dashes: Sequence[float], longest: float) -> tuple[str, str]:
    """Boxes and masks as SVG: white lines and tints that lie below everything, so that lines are seen on any
    picture and none hides another; and the lines themselves, the whole one the thickest."""
    thick = THICK * longest
    own = thick if dashes else 2 * thick
    line = (
        f'fill="none" stroke="{colour}" stroke-width="{own:.2f}" stroke-dasharray="{_dashes(dashes, thick)}"'
    )
    white = f'fill="none" stroke="white" stroke-width="{own + 1.5 * thick:.2f}"'
    below, above = [], []
    for mask in part["masks"]:
        place = f'd="{html.escape(mask["path"])}"'
        below.append(f'<path {place} fill="{colour}" fill-opacity="0.3" fill-rule="evenodd"/>')
        below.append(f"<path {place} {white}/>")
        above.append(f"<path {place} {line}/>")
    for box in part["boxes"]:
        (x0, x1), (y0, y1) = sorted((box[0], box[2])), sorted((box[1], box[3]))
        place = f'x="{x0}" y="{y0}" width="{x1 - x0:.2f}" height="{y1 - y0:.2f}"'
        below.append(f"<rect {place} {white}/>")
        above.append(f"<rect {place} {line}/>")
        if box[4]:
            above.append(
                f'<text x="{x0 + 2 * thick:.2f}" y="{y0 + 8 * thick:.2f}" font-size="{7 * thick:.2f}" '
                f'font-family="sans-serif" fill="{colour}" stroke="white" stroke-width="{1.5 * thick:.2f}" '
                f'paint-order="stroke">{_safe(cut(box[4], 40))}</text>'
            )
    return "".join(below), "".join(above)


def _dashes(dashes: Sequence[float], thick: float) -> str:
    return " ".join(f"{thick * length:.2f}" for length in dashes) or "none"


def _safe(text: str) -> str:
    """Text for HTML: nothing in it is markup, and nothing is unseen."""
    return html.escape(visible(cut(text, LETTERS)))


# --- reading it ---------------------------------------------------------------------------------------


def sample(places: Sequence[Path], name: str, task: str = "", roots: Sequence[Path] = ()) -> Sample:
    """A sample of runs, with the answer of each run of its task. Raises UserError where no task has it, or
    several have."""
    gathered = gather(places)
    tasks = [runs.name for runs in gathered.tasks]
    if task and task not in tasks:
        raise UserError(f"show: task={task!r}: no run is of it{nearest(task, tasks)}")
    known: list[str] = []
    having: list[tuple[TaskRuns, Survey]] = []
    for runs in gathered.tasks:
        if task in ("", runs.name):
            found = survey(runs)
            known += list(found.places)[:GUESSED]
            having += [(runs, found)] if name in found.places else []
    said = repr(one_line(name, 200))
    if not having:
        raise UserError(f"show: {said}: no sample is called so{nearest(name, known, most=5)}")
    if len(having) > 1:
        several = ", ".join(runs.name for runs, _ in having)
        raise UserError(f"show: {said}: several tasks have it; name one with task=: {several}")
    return _read(gathered, *having[0], name, roots)


def _read(gathered: Gathered, runs: TaskRuns, found: Survey, name: str, roots: Sequence[Path]) -> Sample:
    pictures = Pictures(Path(), inline=True)  # where nothing is written
    pictures.longest = PIXELS
    lines = next(lines for id, lines in side_by_side(runs.parts) if id == name)
    images = {image.key: (image, k) for k, line in enumerate(lines) if line for image in pictured(line)}
    only = replace(found, places={name: 0}, images=images)
    records: list[dict[str, Any]] = []
    masks, _ = of_targets(runs, [name], roots)
    try:
        pictures.ask(wanted([part.run for part in runs.parts], images, roots))
        assembled.read(runs, only, len(gathered.sides), pictures, lambda k, some: records.extend(some), masks)
    finally:
        pictures.close()
    return Sample(runs.name, gathered.sides, records[0])
