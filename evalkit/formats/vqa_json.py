"""VQA's questions file with its annotations file (VQAv2, OK-VQA); test splits have questions only.

The ten answers are passed on unchanged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from evalkit.data.faults import Faults
from evalkit.data.records import Record, Unique, filled, path_of
from evalkit.data.sources import image_ref
from evalkit.data.streamed import read_lists
from evalkit.errors import DataError
from evalkit.types import Format, Sample, Source


@dataclass(frozen=True)
class VqaJson(Format):
    """One sample per question, id = question_id, target = all answers (VQAv2: ten), group = answer_type.

    A source without `annotations` is allowed for test splits only; the target is then ().
    `image_name` is a %-template for the image's number; by default COCO's, with the folder that the
    questions file states as its data_subtype (test-dev2015 has its images in test2015).
    """

    image_name: str = ""
    answer: str = "answer"  # key of an answer's text; OK-VQA has `answer` (stemmed) and `raw_answer`

    fields: ClassVar[tuple[str, ...]] = ("question", "question_type")
    keys: ClassVar[tuple[str, ...]] = ("questions", "images")  # and annotations, except for test splits
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        path = path_of(source, "questions", self.keys)
        top, faults = Record(read_lists(path), str(path)), Faults()
        subtype = str(top.data.get("data_subtype", ""))
        if subtype and not subtype.startswith(split):
            raise DataError(
                f"{path}: data_subtype: is '{subtype}'; it must begin with the split asked for, '{split}'"
            )
        images, template = self._images(path_of(source, "images", self.keys), subtype, str(path))
        answers = None
        if "annotations" in source.entry or not split.startswith("test"):
            answers = _Answers(path_of(source, "annotations", self.keys), self.answer, faults)
        unique = Unique(str(path), "question_id")

        def sample(question: Record) -> Sample:
            number = question.integer("question_id")
            unique.add(number, question)
            name = filled(template, question.integer("image_id", least=0))
            fields = {"question": question.text("question"), "question_type": ""}
            target: tuple[str, ...] = ()
            group = ""
            if answers is not None:
                target, group, fields["question_type"] = answers.of(question)
            ref = image_ref(images, name)
            return Sample(str(number), (ref,), fields, target, group=group, cluster=name)

        filled(template, 0)
        for question in top.records("questions", faults=faults):
            if made := faults.made(partial(sample, question)):
                yield made
        faults.done()

    def _images(self, images: Path, subtype: str, file: str) -> tuple[Path, str]:
        """The folder of the images (perhaps one below `images`) and the template of their names."""
        folder = subtype.replace("test-dev", "test")
        if folder and os.path.isdir(images / folder):
            images = images / folder
        if self.image_name:
            return images, self.image_name
        if not folder:
            raise DataError(
                f"{file}: data_subtype: is missing; it must name the images' folder, such as val2014,"
                f" or the task give vqa_json(image_name='COCO_val2014_%012d.jpg')"
            )
        return images, f"COCO_{folder.replace('%', '%%')}_%012d.jpg"


class _Answers:
    """The annotations, found by question_id."""

    def __init__(self, path: Path, key: str, faults: Faults) -> None:
        self._top, self._key = Record(read_lists(path), str(path)), key
        self._places: dict[int, int] = {}
        unique = Unique(str(path), "question_id")
        for place, annotation in self._top.placed("annotations", faults=faults):
            if faults.tried(partial(annotation.integer, "question_id")):
                number = annotation.data["question_id"]
                faults.tried(partial(unique.add, number, annotation))
                self._places[number] = place

    def of(self, question: Record) -> tuple[tuple[str, ...], str, str]:
        """The answers, the answer type and the question type of one question."""
        number = question.data["question_id"]
        if number not in self._places:
            question.wrong(
                "question_id",
                f"{number} has no annotation; the annotations file must hold every question",
            )
        annotation = self._top.element("annotations", self._places[number])
        if annotation.integer("image_id") != question.data["image_id"]:
            annotation.wrong(
                "image_id", f"is not the image of question {number}, {question.data['image_id']}"
            )
        target = annotation.column("answers", self._key)
        if not target:
            annotation.wrong("answers", "is empty; a question needs at least one answer")
        types = [annotation.text(k) if annotation.has(k) else "" for k in ("answer_type", "question_type")]
        return target, types[0], types[1]
