"""What trackers are told of a scored run: its numbers, its cost, and the same few samples at each step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evalkit import registry, trackers
from evalkit.data import sources
from evalkit.errors import DataError
from evalkit.evaluation.plan import Plan, again
from evalkit.runs.journal_lines import Entry
from evalkit.tasks import calls
from evalkit.tasks.dataset import DatasetCache, Selection, choose
from evalkit.trackers import Shown, Told
from evalkit.types import Box, Mask, Metric, Sample, Score

SAMPLES = 16  # that are shown, one an image
SIDE = 448  # pixels; larger pictures are made smaller
LETTERS = 500  # of a text


def told(plan: Plan, scores: Sequence[Score], datasets: DatasetCache, training: str = "") -> Told:
    """A scored run for trackers; `training` names the curve of a checkpoint called `checkpoint-N` alone."""
    series, step = trackers.series_of(plan.model, training)
    record = plan.folder.read_run() or {}
    numbers = trackers.numbers(trackers.keys(scores))
    if scores:
        numbers |= {f"{plan.task.name}/{name}": value for name, value in cost(record, scores[0].n).items()}
    signature = scores[0].signature if scores else ""
    return Told(series, step, plan.task.name, plan.folder.name, numbers, signature, _samples(plan, datasets))


def cost(record: Mapping[str, Any], n: int) -> dict[str, float]:
    """What a run took so far: `n` samples, and `seconds` of predicting where they are known."""
    took = [s["seconds"] for s in record.get("sessions", []) if isinstance(s.get("seconds"), int | float)]
    return {"n": float(n), **({"seconds": float(sum(took))} if took else {})}


def _samples(plan: Plan, datasets: DatasetCache) -> list[Shown]:
    """The first samples of the seeded order, so that each step of a training shows the same."""
    data, entries = again(plan, datasets), plan.folder.entries()
    wanted = set(plan.wanted) & entries.keys()
    there = [s for s in data.samples if s.id in wanted]
    found: dict[str, Sample] = {}
    for sample in choose(there, Selection(SAMPLES, plan.selection.seed)):
        found.setdefault(sample.cluster or sample.id, sample)
    return [one for s in found.values() if (one := _shown(plan, s, entries[s.id])) is not None]


def _shown(plan: Plan, sample: Sample, entry: Entry) -> Shown | None:
    """None where the image cannot be read any more."""
    prediction = entry.prediction
    size = sample.size or (prediction.sizes[0] if prediction.sizes else None)
    try:
        (answer,) = calls.answers(plan.task, plan.parser, [prediction], [size])
        picture = _picture(plan, sample, answer)
    except DataError:
        return None
    return Shown(
        sample.id,
        prediction.prompt,
        _text(sample.target),
        prediction.text[:LETTERS],
        _score(plan, sample, answer),
        picture,
    )


def _picture(plan: Plan, sample: Sample, answer: Any) -> Any:
    from PIL import Image

    from evalkit.images import overlay, prepare

    pixels = [prepare.decode(sources.read_bytes(i), exif=plan.preparation.exif) for i in sample.images]
    if len(pixels) == 1:
        things = answer if isinstance(answer, tuple | list) else ()
        things = [thing for thing in things if isinstance(thing, Box | Mask)]
        pixels = [overlay.drawn(pixels[0], things, overlay.of_target(sample.target))]
    small = []
    for each in pixels:
        picture = Image.fromarray(each)
        picture.thumbnail((SIDE, SIDE))
        small.append(np.asarray(picture, dtype=np.uint8))
    height = max(each.shape[0] for each in small)
    padded = [np.pad(p, ((0, height - p.shape[0]), (0, 0), (0, 0)), constant_values=255) for p in small]
    return np.concatenate(padded, axis=1)


def _text(target: Any) -> str:
    """A target in one line; of boxes and masks the labels, the picture has the rest."""
    if isinstance(target, Mapping):
        some = target.get("objects")
        said = (
            [str(each["category"]) for each in some] if some is not None else [str(target.get("label", ""))]
        )
    else:
        said = [str(each) for each in target] if isinstance(target, list | tuple) else [str(target)]
    return " | ".join(dict.fromkeys(said))[:LETTERS]


def _score(plan: Plan, sample: Sample, answer: Any) -> float | None:
    """The sample's own score by the first metric that has one."""
    metrics: list[Metric] = [registry.make("metrics", m) for m in plan.task.metrics]
    metric = next((m for m in metrics if not m.corpus and not m.package), None)
    if metric is None or sample.target in (None, ()):
        return None
    try:
        rows = metric.rows([answer], [sample.target])
        value = None if isinstance(rows, list) else float(metric.value(rows[0]))
    except Exception:  # it is for the eye only: scoring says what is wrong
        return None
    return value if value is not None and math.isfinite(value) else None
