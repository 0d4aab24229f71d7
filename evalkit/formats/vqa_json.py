"""VQA's questions file with its annotations file (VQAv2, OK-VQA); test splits have questions only.

The ten answers are passed on unchanged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from evalkit.data.readers import read_json
from evalkit.data.records import Record, Unique, filled, path_of
from evalkit.data.sources import image_ref
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
        top = Record(read_json(path), str(path))
        subtype = str(top.data.get("data_subtype", ""))
        if subtype and not subtype.startswith(split):
            raise DataError(
                f"{path}: data_subtype: is '{subtype}'; it must begin with the split asked for, '{split}'"
            )
        images, template = self._images(path_of(source, "images", self.keys), subtype, str(path))
        answers = None
        if "annotations" in source.entry or not split.startswith("test"):
            answers = _annotations(path_of(source, "annotations", self.keys))
        unique = Unique(str(path), "question_id")
        for question in top.records("questions"):
            number = question.integer("question_id")
            unique.add(number)
            name = filled(template, question.integer("image_id", least=0))
            fields = {"question": question.text("question"), "question_type": ""}
            target: tuple[str, ...] = ()
            group = ""
            if answers is not None:
                target, group, fields["question_type"] = _answer(question, answers, self.answer)
            ref = image_ref(images, name)
            yield Sample(str(number), (ref,), fields, target, group=group, cluster=name)

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


def _annotations(path: Path) -> dict[int, Record]:
    """question_id -> annotation."""
    top = Record(read_json(path), str(path))
    unique, result = Unique(str(path), "question_id"), {}
    for annotation in top.records("annotations"):
        number = annotation.integer("question_id")
        unique.add(number)
        result[number] = annotation
    return result


def _answer(question: Record, answers: dict[int, Record], key: str) -> tuple[tuple[str, ...], str, str]:
    """The answers, the answer type and the question type of one question."""
    number = question.data["question_id"]
    annotation = answers.pop(
        number, None
    )  # pop frees the memory: the answers of all questions need a gigabyte
    if annotation is None:
        question.wrong(
            "question_id", f"{number} has no annotation; the annotations file must hold every question"
        )
    if annotation.integer("image_id") != question.data["image_id"]:
        annotation.wrong("image_id", f"is not the image of question {number}, {question.data['image_id']}")
    target = annotation.column("answers", key)
    if not target:
        annotation.wrong("answers", "is empty; a question needs at least one answer")
    group = annotation.text("answer_type") if annotation.has("answer_type") else ""
    return target, group, annotation.text("question_type") if annotation.has("question_type") else ""
