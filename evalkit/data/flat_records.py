"""Turns flat records, one question each, into samples by named keys, for file and hub formats.

Knows no dataset: the task file says which key holds what.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from evalkit.data.records import Record, filled
from evalkit.types import Format, Sample

LETTERS = "ABCDEFGHIJ"
# An answer of more parts is kept unchanged: nine parts have 362,880 orders. InfoVQA's reference lists even
# those; finding the best order without listing them would need a search.
PARTS = 8


@dataclass(frozen=True)
class FlatRecords(Format):
    """Which keys of a record make a sample; '' if there is no such key.

    id          left out: the record's place from 0
    image       a file name, or a number that `image_name` ('%012d.jpg') turns into one; or a list of several
    question    the prompt's `{question}`
    answers     the target, a tuple of strings: from a string, a number, a list of them, or a list of objects
                that hold it under `inner`; '' for a test split whose answers are hidden; null, an empty
                list or an empty cell of a table: a question without target, which is not scored; `names`: a
                number (or true, false) chooses one of these; `literal`: the string spells a Python list
    choices     a list, shown joined by `joined` as the prompt's `{choices}`; `correct` is the key of the
                right choice's place (a number or a letter), and the target is then its text; `letters`:
                the prompt's `{options}` shows "(A) a, (B) b", and the target is the letter
    each        a list of strings: one sample for each, as the prompt's `{question}`
    bbox        the target is a box [x, y, width, height] in pixels (`corners`: [x0, y0, x1, y1]), in the
                form that box metrics read; `height`, `width`: keys of the image's size
    group, cluster   what scores are broken down by; what is resampled together (default: the image)
    where, value     only records in which `where` is `value`
    split_key   only records in which this key holds the split
    permuted    an answer with this separator is accepted with its parts in any order
    drop_empty  empty answers are dropped; a question that has only empty ones is not scored
    extra       further keys that the prompt may name; an empty value is shown as `blank`
    """

    id: str = ""
    image: str = "image"
    image_name: str = ""
    question: str = "question"
    answers: str = "answers"
    inner: str = "answer"
    names: tuple[str, ...] = ()
    literal: bool = False
    choices: str = ""
    joined: str = " \t "
    correct: str = ""
    letters: bool = False
    each: str = ""
    bbox: str = ""
    corners: bool = False
    height: str = "height"
    width: str = "width"
    group: str = ""
    cluster: str = ""
    where: str = ""
    value: Any = True
    split_key: str = ""
    permuted: str = ""
    drop_empty: bool = False
    extra: tuple[str, ...] = ()
    blank: str = ""

    fields: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[str, ...]] = ("texts",)
    elsewhere: ClassVar[bool] = False  # whether an image may have an absolute path of another machine

    def __post_init__(self) -> None:
        if self.bbox:
            object.__setattr__(self, "gives", ("box",))

    def wanted(self, record: Record, split: str) -> bool:
        """Whether the record belongs to the split, and to the part that `where` selects."""
        if self.split_key and record.text(self.split_key) != split:
            return False
        return not self.where or record.get(self.where) == self.value

    def image_names(self, record: Record) -> list[str]:
        """The names of the record's images, checked to stay below their folder."""
        value = record.get(self.image, "it must name an image")
        if isinstance(value, list):
            if not value:
                record.wrong(self.image, "is empty; it must name at least one image")
            inside = Record({str(i): part for i, part in enumerate(value)}, record.file, f"{record.place}")
            return [self._image_name(inside, str(i)) for i in range(len(value))]
        return [self._image_name(record, self.image)]

    def _image_name(self, record: Record, key: str) -> str:
        if "%d" in self.image_name or "%0" in self.image_name:
            return filled(self.image_name, record.integer(key, least=0))
        if not self.image_name:
            return record.name(key, self.elsewhere)
        text = record.identifier(key)
        return Record({key: self.image_name.replace("%s", text)}, record.file, record.place).name(key)

    def read(self, record: Record, place: int | str, pictures: Any) -> Iterator[Sample]:
        """The samples of one record. `pictures(record)` gives (images, their name, their size); `place` is
        the sample's id if no key holds one.

        Raises DataError with file and key for missing or wrong values.
        """
        name = record.identifier(self.id) if self.id else str(place)
        images, called, size = pictures(record)
        fields = {key: self._shown(record, key) for key in self.extra}
        if self.question:
            fields["question"] = record.text(self.question)
        target: Any = self._target(record, fields, size)
        choices = record.texts(self.choices, least=1) if self.choices and not self.bbox else ()
        choices = tuple(LETTERS[: len(choices)]) if self.letters else choices
        group = record.scalar(self.group) if self.group else ""
        cluster = record.identifier(self.cluster) if self.cluster else called
        if not self.each:
            yield Sample(
                name, images, fields, target, size=size, group=group, cluster=cluster, choices=choices
            )
            return
        for index, text in enumerate(record.texts(self.each, least=1)):
            yield Sample(
                f"{name}-{index}",
                images,
                {**fields, "question": text},
                target,
                size=size,
                group=group,
                cluster=cluster,
                choices=choices,
            )

    def _shown(self, record: Record, key: str) -> str:
        empty = self.blank and record.data.get(key) in (None, "")
        return self.blank if empty else record.scalar(key)

    def _target(self, record: Record, fields: dict[str, str], size: Any) -> Any:
        if self.bbox:
            return self._box(record, size)
        if self.choices:
            choices = record.texts(self.choices, least=1)
            fields["choices"] = self.joined.join(choices)
            if self.letters:
                if len(choices) > len(LETTERS):
                    record.wrong(
                        self.choices, f"holds {len(choices)}; at most {len(LETTERS)} can be lettered"
                    )
                lettered = zip(LETTERS, choices, strict=False)
                fields["options"] = ", ".join(f"({letter}) {choice}" for letter, choice in lettered)
            if self.correct:
                return self._choice(record, choices)
        if not self.answers:
            return ()
        found = self._answers(record)
        if self.drop_empty:
            found = tuple(text for text in found if text)
        return _permuted(found, self.permuted) if self.permuted else found

    def _choice(self, record: Record, choices: tuple[str, ...]) -> tuple[str, ...]:
        value = record.get(self.correct, "it must be the right choice's place, from 0")
        if isinstance(value, str):
            letter = value.strip("() ").upper()
            value = int(value) if value.isdecimal() else (LETTERS.find(letter) if len(letter) == 1 else -1)
        if type(value) is not int or not 0 <= value < len(choices):
            record.wrong(
                self.correct, f"is not one of {len(choices)} choices; it must be from 0 to {len(choices) - 1}"
            )
        return (LETTERS[value] if self.letters else choices[value],)

    def _answers(self, record: Record) -> tuple[str, ...]:
        value = record.get(self.answers, "it must hold the answer, or a list of them")
        if value is None or value == []:
            return ()
        if self.literal and isinstance(value, str):
            try:
                value = ast.literal_eval(value)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                record.wrong(self.answers, "is not a Python list; it must be like ['a', 'b']")
            record = Record({**record.data, self.answers: value}, record.file, record.place)
        if self.names:
            index = (
                int(record.flag(self.answers)) if isinstance(value, bool) else record.integer(self.answers)
            )
            if not 0 <= index < len(self.names):
                record.wrong(self.answers, f"is {index}; it must be from 0 to {len(self.names) - 1}")
            return (self.names[index],)
        if not isinstance(value, list):
            return (record.scalar(self.answers),)
        if value and all(isinstance(part, dict) for part in value):
            return record.column(self.answers, self.inner)
        return record.texts(self.answers)

    def _box(self, record: Record, size: Any) -> dict[str, Any]:
        if size is None:
            record.wrong(self.bbox, "needs the image's size; name its keys: height='...', width='...'")
        x, y, w, h = record.box(self.bbox)
        if self.corners:
            w, h = w - x, h - y
        return {"size": size, "box": (y, x, y + h, x + w), "iscrowd": 0}


def _permuted(answers: tuple[str, ...], separator: str) -> tuple[str, ...]:
    """Every answer with its parts in every order, without duplicates, the given order first."""
    found: dict[str, None] = {}
    for answer in answers:
        parts = answer.split(separator)
        orders: Iterable[Sequence[str]]
        orders = itertools.permutations(parts) if len(parts) <= PARTS else [parts]
        found.update(dict.fromkeys(separator.join(order) for order in orders))
    return tuple(found)
