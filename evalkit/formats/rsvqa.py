"""RSVQA's *_questions.json with *_answers.json: questions about satellite and aerial images.

Lobry et al., 2020; schema as in the repository syvlo/RSVQA.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from evalkit.data.faults import Faults
from evalkit.data.readers import read_json
from evalkit.data.records import Record, Unique, path_of
from evalkit.data.sources import image_ref
from evalkit.types import Format, Sample, Source


@dataclass(frozen=True)
class Rsvqa(Format):
    """One sample per active question, group = its type, target = (its first active answer,).

    Which answer counts is as in google-research/big_vision datasets/rsvqa_hr @ 0127fb6b.
    `image_name`: the image file of an img_id, "%d.tif" (low resolution) or "%d.png" (high).
    `leave_out`: question types to skip (the published figures skip the numeric ones).
    """

    image_name: str = "%d.tif"
    leave_out: tuple[str, ...] = ("count", "area")

    fields: ClassVar[tuple[str, ...]] = ("question",)
    keys: ClassVar[tuple[str, ...]] = ("questions", "answers", "images")
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path, images = path_of(source, "questions", self.keys), path_of(source, "images", self.keys)
        faults = Faults()
        answers = _answers(path_of(source, "answers", self.keys), faults)
        unique = Unique(str(path), "question id")

        def of(question: Record) -> Iterator[Sample]:
            if question.data.get("active") is not True:
                return
            kind = question.text("type")
            if kind in self.leave_out:
                return
            number = question.integer("id")
            unique.add(number, question)
            listed = question.get("answers_ids", "it must be a list of answers' ids")
            chosen = next((i for i in listed if i in answers), None) if _are_ids(listed) else None
            if chosen is None:
                question.wrong("answers_ids", "names no active answer; it must be a list of answers' ids")
            name = self.image_name.replace("%d", str(question.integer("img_id", least=0)))
            fields = {"question": question.text("question")}
            ref = image_ref(images, name)
            yield Sample(str(number), (ref,), fields, (answers[chosen],), group=kind, cluster=name)

        top = Record(read_json(path), str(path))
        yield from faults.of_all(top.records("questions", faults=faults), of)


def _answers(path: Path, faults: Faults) -> dict[int, str]:
    unique, found = Unique(str(path), "answer id"), dict[int, str]()

    def keep(answer: Record) -> None:
        unique.add(answer.integer("id"), answer)
        found[answer.integer("id")] = answer.text("answer")

    for answer in Record(read_json(path), str(path)).records("answers", faults=faults):
        if answer.data.get("active") is True:
            faults.tried(partial(keep, answer))
    return found


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and all(type(part) is int for part in value)
