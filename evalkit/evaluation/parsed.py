"""Predictions as a task's parser reads them: answers, which are invalid, and what is odd about texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from evalkit.data.packed import Samples
from evalkit.data.sequences import Column
from evalkit.tasks import calls
from evalkit.types import CUT, UNREADABLE, Parser, Prediction, Size, Task, target_kinds

_ALIKE = 1 << 16  # answers of which equal ones are one object


class Given(Column[Prediction]):
    """The predictions of samples, in their order, without a list of what the mapping may only make."""

    def __init__(self, samples: Samples, predictions: Mapping[str, Prediction]) -> None:
        super().__init__(predictions.__getitem__, samples.ids)


class Parsed:
    """What the parser reads of predictions, each looked at once where it reads them one by one: to make a
    prediction, or to read it from a journal, takes longer than all that is done with it."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.invalid: list[bool] = []
        self.images: list[str] = []  # the digests of each prediction's images, '' where there are none
        self._odd = Counter[str]()
        self._cut = 0

    @classmethod
    def of(
        cls, task: Task, parser: Parser, samples: Samples, predictions: Mapping[str, Prediction]
    ) -> Parsed:
        found, given = cls(), Given(samples, predictions)
        together: list[Any] | None = None
        if type(parser).answers is not Parser.answers or calls.several(task):
            sizes = [_size(s, p) for s, p in zip(samples.sizes, given, strict=True)]
            together = calls.answers(task, parser, given, sizes)
        found._read(parser, samples, given, together)
        return found

    def _read(
        self, parser: Parser, samples: Samples, given: Iterable[Prediction], together: list[Any] | None
    ) -> None:
        same: dict[str, str] = {}
        share, targets = same.setdefault, samples.targets
        for i, (prediction, stated) in enumerate(zip(given, samples.sizes, strict=True)):
            size = _size(stated, prediction)
            answer = parser.read(prediction, size) if together is None else together[i]
            if type(answer) is str and len(same) < _ALIKE:
                answer = share(answer, answer)
            bad = parser.invalid(answer) or (answer == () and _wants_one(targets[i]))
            why = parser.remark(prediction, size)
            if bad:
                self._odd[UNREADABLE + (why or "as its parser says")] += 1
            elif why and answer != ():
                self._odd[why] += 1
            self._cut += prediction.stop == "length"
            self.answers.append(answer)
            self.invalid.append(bad)
            images = "+".join(prediction.image_digests)
            self.images.append(self.images[-1] if self.images and self.images[-1] == images else images)

    def remarks(self) -> dict[str, int]:
        """What is odd about the texts, the commonest first: why one is unreadable, what stands in it that no
        answer has, and that it was cut."""
        found = Counter({**self._odd, CUT: self._cut})
        return {what: n for what, n in found.most_common() if n}


def _size(stated: Size | None, prediction: Prediction) -> Size | None:
    return stated or (prediction.sizes[0] if prediction.sizes else None)


def _wants_one(target: Any) -> bool:
    """Whether exactly one box or mask is asked for."""
    return not target_kinds(target).isdisjoint(("box", "mask"))
