"""Known answers of a dataset: what a training would have had as suffixes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evalkit.data import instructions
from evalkit.tasks import loader
from evalkit.types import Sample, Size, Task

if TYPE_CHECKING:
    from evalkit.models.paligemma.known_answers import Known

BINS = (1023, 1024)
MOST = 8  # objects in an answer: longer ones cost time and add little


def answers(task: Task, sample: Sample) -> Mapping[int, str]:
    """A sample's answer by the bins of its boxes; {} where it has none that can be written: no target, masks,
    words with outlines."""
    target = sample.target
    if isinstance(target, tuple) and target:
        return _same(Counter(map(str, target)).most_common(1)[0][0])
    if not isinstance(target, Mapping):
        return {}
    if isinstance(target.get("answers"), Sequence) and target["answers"]:
        return _same(Counter(map(str, target["answers"])).most_common(1)[0][0])
    prompt = loader.prompt(task, sample.fields)
    if instructions.verb(prompt) != "detect":
        return {}
    size = target.get("size") or sample.size
    if size is None:
        return {}
    if "box" in target:
        y0, x0, y1, x1 = target["box"]
        label = prompt.partition(" ")[2].strip()
        return {bins: f"{_tokens((y0, x0, y1, x1), size, bins)} {label}" for bins in BINS}
    objects = target.get("objects") or []
    if not 0 < len(objects) <= MOST:
        return {}
    return {bins: " ; ".join(_object(each, size, bins) for each in objects) for bins in BINS}


def _same(text: str) -> Mapping[int, str]:
    return dict.fromkeys(BINS, text) if text.strip() else {}


def _object(each: Mapping[str, Any], size: Size, bins: int) -> str:
    x, y, w, h = each["box"]
    return f"{_tokens((y, x, y + h, x + w), size, bins)} {each['category']}"


def _tokens(corners: Sequence[float], size: Size, bins: int) -> str:
    """Location tokens of corners (y, x, y, x) in pixels: rounded in steps of 1/1023 as big_vision does, or
    cut in steps of 1/1024 as Roboflow does."""
    found = []
    for value, side in zip(corners, (*size, *size), strict=True):
        exact = value / side * bins
        number = round(exact) if bins == 1023 else math.floor(exact + 1e-6)
        found.append(f"<loc{min(1023, max(0, number)):04d}>")
    return "".join(found)


def known(task: Task, samples: Sequence[Sample]) -> Iterator[Known]:
    """The samples with an answer that can be written."""
    from evalkit.models.paligemma.known_answers import Known

    for sample in samples:
        found = answers(task, sample)
        if found:
            name = f"{task.name}:{sample.id}"
            cluster = sample.cluster or sample.id
            yield Known(name, cluster, sample.images, loader.prompt(task, sample.fields), found)
