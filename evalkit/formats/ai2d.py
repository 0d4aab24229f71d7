"""AI2D's questions/*.json, annotations/*.json and ai2d_test_ids.csv: diagrams with four options.

Kembhavi et al., 2016. Letters are drawn into the diagrams as the reference does.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from evalkit import door
from evalkit.data.faults import Faults
from evalkit.data.readers import read_json, read_text
from evalkit.data.records import Record, Unique, path_of
from evalkit.data.sources import image_ref
from evalkit.errors import DataError
from evalkit.files import spool
from evalkit.types import Format, Mark, Sample, Source

FONT = 64 << 20  # bytes


@dataclass(frozen=True)
class Ai2d(Format):
    """One sample per question, id = questionId, target = the right option's text.

    The split "test" has the images that the source's `ids` file lists, "train" all others. For questions
    about letters (`abcLabel`) every text in the diagram is covered by a white box with its
    replacement letter; the source's `font` names the TrueType file for the letters (the reference uses
    DM Sans; without a font file, Pillow's own font is used). `draw=False` leaves the diagrams as they are.
    """

    joined: str = " \t "
    draw: bool = True

    fields: ClassVar[tuple[str, ...]] = ("question", "choices")
    keys: ClassVar[tuple[str, ...]] = ("questions", "annotations", "images", "ids")
    gives: ClassVar[tuple[str, ...]] = ("texts",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        folder, images = path_of(source, "questions", self.keys), path_of(source, "images", self.keys)
        boxes = path_of(source, "annotations", self.keys)
        font = _font(source.path("font")) if "font" in source.entry else ""
        listed = _ids(path_of(source, "ids", self.keys))
        if split not in ("test", "train"):
            raise DataError(f"{source.path('ids')}: no split '{split}'; there are: test, train")
        files = sorted(folder.glob("*.json"), key=lambda p: (len(p.name), p.name))
        if not files:
            raise DataError(f"{folder}: cannot be read or holds no <number>.png.json")
        unique, faults = Unique(str(folder), "questionId"), Faults(each_file=True)

        def of(path: Path) -> Iterator[Sample]:
            stem = path.name.split(".")[0]
            if (stem in listed) != (split == "test"):
                return
            top = Record(read_json(path), str(path))
            picture = top.name("imageName") if top.has("imageName") else f"{stem}.png"
            ask = partial(self._of, unique, images, picture, boxes, font)
            yield from faults.each(top.record("questions").entries(faults), ask)

        yield from faults.of_all(files, of)

    def _of(
        self, unique: Unique, images: Path, picture: str, boxes: Path, font: str, entry: tuple[str, Record]
    ) -> Iterator[Sample]:
        """The sample of a question."""
        text, question = entry
        name = question.identifier("questionId")
        unique.add(name, question)
        choices = question.texts("answerTexts", least=2)
        place = question.integer("correctAnswer", least=0)
        if place >= len(choices):
            question.wrong("correctAnswer", f"is {place}; there are {len(choices)} answerTexts")
        wording = Record({"question": text}, question.file, "questions").text("question")
        letters = self.draw and question.data.get("abcLabel") is True
        marks = _labels(boxes / f"{picture}.json", font) if letters else ()
        yield Sample(
            id=name,
            images=(image_ref(images, picture, marks),),
            fields={"question": wording, "choices": self.joined.join(choices)},
            target=(choices[place],),
            group="letters" if question.data.get("abcLabel") is True else "words",
            cluster=picture,
            choices=choices,
        )


def _ids(path: Path) -> frozenset[str]:
    """The image numbers in a file with one per line."""
    lines = read_text(path).split()
    if not lines:
        raise DataError(f"{path}: is empty; it must list one image number a line")
    return frozenset(line.strip(",").removesuffix(".png") for line in lines)


def _font(path: Path) -> str:
    """A copy of the font, which stays as it is now. Raises DataError if it is none."""
    from PIL import ImageFont

    with door.guarded(path, "labels of images need a TrueType font"):
        data = door.read(path, FONT)
    try:
        ImageFont.truetype(io.BytesIO(data), 10)
    except OSError as error:
        raise DataError(f"{path}: is not a TrueType font ({error}); labels of images need one") from None
    return str(spool(data))


def _labels(path: Path, font: str) -> tuple[Mark, ...]:
    """One white box with a letter for each text in the diagram."""
    top = Record(read_json(path), str(path))
    texts = top.record("text")
    marks = []
    for name in texts.data:
        entry = texts.record(name)
        corners = entry.get("rectangle", "it must be [[x0, y0], [x1, y1]]")
        flat = [c for p in corners for c in p] if _is_pair(corners) else []
        if len(flat) != 4 or not all(type(c) in (int, float) and abs(c) < 1e6 for c in flat):
            entry.wrong("rectangle", "must be [[x0, y0], [x1, y1]], numbers in pixels")
        x0, y0, x1, y1 = (float(c) for c in flat)
        letter = entry.text("replacementText")
        marks.append(Mark("label", (y0, x0, y1, x1), "pixels", text=letter, font=font))
    return tuple(marks)


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, list) for part in value)
