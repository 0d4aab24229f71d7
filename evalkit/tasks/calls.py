"""Detection with many classes: a prompt for some of them at a time, so several calls for an image, whose
answers are joined and, where the task says so, cleared of boxes that two calls gave for one thing."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Container, Iterable, Sequence
from typing import Any

from evalkit.data import instructions
from evalkit.errors import UserError
from evalkit.geometry.boxes import iou
from evalkit.types import Box, Mask, Parser, Prediction, Request, Size, Task

MARK = "\0"  # between a sample's id and the number of a call after the first
BETWEEN = " ; "  # between the answers of two calls, as between objects
ORDERS = ("listed", "alphabet", "reversed", "shuffled")


# --- asking ------------------------------------------------------------------------------------------


def prompts(task: Task, whole: str) -> tuple[str, ...]:
    """The prompts of a sample's calls: the whole one where the task sets neither how many classes a call may
    name nor their order."""
    if task.classes_per_call is None and task.class_order == ORDERS[0]:
        return (whole,)
    verb, names = instructions.verb(whole), instructions.classes(whole)
    if verb not in ("detect", "segment") or not names:
        key = "class_order" if task.classes_per_call is None else "classes_per_call"
        raise UserError(
            f"{task.path}: {key}: goes with prompts that name classes, as `detect cat ; dog`; here is "
            f"{whole[:80]!r}"
        )
    ordered = _ordered(names, task.class_order)
    return tuple(f"{verb} {BETWEEN.join(part)}" for part in _parts(ordered, task.classes_per_call))


def _ordered(names: Sequence[str], order: str) -> list[str]:
    """`shuffled`: by a digest of each name, so that it is the same everywhere."""
    if order == "shuffled":
        return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return sorted(names) if order == "alphabet" else list(names)[:: -1 if order == "reversed" else 1]


def _parts(names: Sequence[str], most: int | None) -> list[Sequence[str]]:
    size = most or len(names)
    return [names[start : start + size] for start in range(0, len(names), size)]


def several(task: Task) -> bool:
    """Whether samples of a task may take several calls."""
    return task.classes_per_call is not None


def each(request: Request) -> list[Request]:
    """The requests of a sample's calls, made of one whose prompt has a line for each. The first one's id is
    the sample's."""
    prompts = request.prompt.split("\n")
    if len(prompts) == 1:
        return [request]
    return [
        dataclasses.replace(
            request,
            id=f"{request.id}{MARK}{n}" if n else request.id,
            prompt=prompt,
            whole=request.prompt,
            call=n,
        )
        for n, prompt in enumerate(prompts)
    ]


def sample_of(request: str, samples: Container[str]) -> str:
    """The id of a call's sample, of those that there are: an id may hold anything."""
    return request if request in samples else request.rpartition(MARK)[0]


class Joining:
    """Puts the answers of a sample's calls together, in whatever order they come."""

    def __init__(self, requests: Iterable[Request]) -> None:
        """`requests`: those of samples that may have several."""
        self._whole = {each.id: each.whole for each in requests if each.whole and not each.further}
        self._there: dict[str, dict[str, Prediction]] = {}

    def add(self, prediction: Prediction) -> Prediction | None:
        """The sample's prediction with its last answer; None before."""
        if not self._whole:
            return prediction
        sample = sample_of(prediction.id, self._whole)
        whole = self._whole.get(sample)
        if whole is None:
            return prediction
        there = self._there.setdefault(sample, {})
        there[prediction.id] = prediction
        if len(there) <= whole.count("\n"):
            return None
        del self._there[sample]
        first = there.pop(sample)
        return joined([first, *(there[name] for name in sorted(there, key=_call))], whole)


def _call(request: str) -> int:
    """The number of a call after the first."""
    return int(request.rpartition(MARK)[2])


def joined(answers: Sequence[Prediction], whole: str) -> Prediction:
    """One prediction of the calls of a sample, whose prompts are `whole`. The first answer may be a recording
    of all of them."""
    first = answers[0]
    if first.calls:
        return dataclasses.replace(first, prompt=whole)
    margins = [answer.margin for answer in answers if answer.margin is not None]
    ends = [answer.end_logprob for answer in answers if answer.end_logprob is not None]
    kept = all(answer.logprobs is not None for answer in answers)
    return Prediction(
        first.id,
        whole,
        BETWEEN.join(answer.text for answer in answers if answer.text),
        tuple(token for answer in answers for token in answer.tokens),
        tuple(value for answer in answers for value in answer.logprobs or ()) if kept else None,
        "length" if any(answer.stop == "length" for answer in answers) else first.stop,
        min(margins) if len(margins) == len(answers) else None,
        first.image_digests,
        first.sizes,
        sum(ends) if len(ends) == len(answers) else None,
        tuple((len(answer.text), len(answer.tokens)) for answer in answers),
    )


# --- reading -----------------------------------------------------------------------------------------


def parts(prediction: Prediction) -> list[Prediction]:
    """The answers of the calls; the prediction itself where there was one."""
    if not prediction.calls:
        return [prediction]
    found, at, token = [], 0, 0
    for letters, tokens in prediction.calls:
        logprobs = prediction.logprobs
        part = dataclasses.replace(
            prediction,
            text=prediction.text[at : at + letters],
            tokens=prediction.tokens[token : token + tokens],
            logprobs=None if logprobs is None else logprobs[token : token + tokens],
            end_logprob=None,
            calls=(),
        )
        found.append(part)
        at += letters + (len(BETWEEN) if letters else 0)
        token += tokens
    return found


def answers(
    task: Task, parser: Parser, predictions: Sequence[Prediction], sizes: Sequence[Size | None]
) -> list[Any | None]:
    """What the parser reads, each call by itself, joined."""
    if not any(prediction.calls for prediction in predictions):
        return parser.answers(predictions, sizes)
    calls = [parts(prediction) for prediction in predictions]
    every = [size for size, some in zip(sizes, calls, strict=True) for _ in some]
    read = iter(parser.answers(list(itertools.chain.from_iterable(calls)), every))
    return [_answer([next(read) for _ in some], task.nms_across_calls) for some in calls]


def _answer(read: Sequence[Any | None], most: float | None) -> Any | None:
    """The objects of all calls. Unreadable, unless another call has objects."""
    if len(read) == 1:
        return read[0]
    objects = [(call, one) for call, answer in enumerate(read) for one in answer or ()]
    if not objects:
        return None if any(answer is None for answer in read) else ()
    return tuple(one for _, one in (objects if most is None else suppressed(objects, most)))


def suppressed(objects: Sequence[tuple[int, Any]], most: float) -> list[tuple[int, Any]]:
    """The objects, in their order, but for those whose box overlaps by more than `most` (IoU) with one of a
    better score that another call gave, whatever the labels; of equal scores the earlier is kept. Greedy, as
    torchvision's nms."""
    kept: list[int] = []
    for i in sorted(range(len(objects)), key=lambda i: (-_box(objects[i][1]).score, i)):
        call, box = objects[i][0], _box(objects[i][1]).coordinates
        others = (k for k in kept if objects[k][0] != call)
        if not any(iou(_box(objects[k][1]).coordinates, box) > most for k in others):
            kept.append(i)
    return [objects[i] for i in sorted(kept)]


def _box(one: Any) -> Box:
    found: Box = one.box if isinstance(one, Mask) else one
    return found
