"""Checked access to parsed data, with errors like `file: key: what is wrong; what would be right`.

Knows the kinds of values that several formats share (texts, ids, boxes, segmentations), not their files.
"""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from evalkit.data.elements import Elements
from evalkit.data.faults import Faults
from evalkit.errors import DataError, nearest
from evalkit.types import Size, Source

MAX_PIXELS = 512 << 20  # of an image
MAX_SIDE = 1 << 20

_KINDS = {
    dict: "an object",
    list: "a list",
    Elements: "a list",
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    type(None): "null",
}


# what people call a target -> what evalkit calls it, where the words are not alike
_CALLED = {
    "answer": ("label", "target", "gt", "gold", "truth", "ground_truth", "groundtruth", "gt_answer", "output",
               "response", "completion", "expected", "reply", "assistant", "solution"),
    "answers": ("labels", "targets", "ground_truths", "gt_answers", "outputs", "responses"),
    "references": ("caption", "captions", "text", "texts", "description", "sentence", "sentences"),
    "bbox": ("box", "bounding_box", "bndbox"),
    "objects": ("boxes", "bboxes", "annotations", "detections", "instances"),
    "segmentation": ("mask", "segments", "polygon", "polygons", "rle"),
}  # fmt: skip
_LAYOUTS = {"conversations": "LLaVA's layout", "messages": "a chat layout"}


def meant_key(seen: str, known: Iterable[str]) -> str:
    """Which of the `known` keys a key that was `seen` probably stands for, or ''."""
    names, word = list(known), seen.strip().lower()
    called = next((name for name, others in _CALLED.items() if word in others and name in names), "")
    return called or next(iter(difflib.get_close_matches(word, names, n=1, cutoff=0.7)), "")


def layout(data: Mapping[str, Any]) -> str:
    """What is wrong with a record of a conversation where records of another kind are read, or ''."""
    for key, name in _LAYOUTS.items():
        if isinstance(data.get(key), list):
            return (
                f"is in {name} ('{key}'); read it with `format: conversations`, or write one question a "
                'line, as {"image": ..., "prefix": ..., "suffix": ...} (docs/data.md)'
            )
    return ""


class Record:
    """One object of a file, with its place in the file for error messages."""

    __slots__ = ("data", "file", "place")

    def __init__(self, data: Any, file: str, place: str = "") -> None:
        if type(data) is not dict:
            raise DataError(f"{file}: {place or 'top level'}: is {_kind(data)}; it must be an object")
        self.data: dict[str, Any] = data
        self.file = file
        self.place = place

    def wrong(self, key: str, problem: str) -> NoReturn:
        place = f"{self.place}.{key}" if self.place and key else self.place or key
        raise DataError(f"{self.file}: {place}: {problem}")

    def has(self, key: str) -> bool:
        return key in self.data

    def get(self, key: str, right: str = "it must be there") -> Any:
        try:
            return self.data[key]
        except KeyError:
            self.wrong(key, f"is missing; {right}{self._seen(key)}")

    def _seen(self, key: str) -> str:
        """What the record has in place of a key: the nearest, or all."""
        if found := layout(self.data):
            return f"; the record {found}"
        names = [name for name in self.data if name.isprintable() and len(name) < 40]
        if not 0 < len(names) <= 20:
            return ""
        near = [name for name in names if meant_key(name, [key])]
        return f"; did you mean {near[0]}?" if near else f"; its keys are {', '.join(names)}"

    def text(self, key: str) -> str:
        value = self.get(key, "it must be a string")
        problem = _text_problem(value)
        if problem:
            self.wrong(key, problem)
        return value  # type: ignore[no-any-return]

    def texts(self, key: str, least: int = 0) -> tuple[str, ...]:
        """A list of strings, with duplicates."""
        values = self.get(key, "it must be a list of strings")
        if type(values) is not list:
            self.wrong(key, f"is {_kind(values)}; it must be a list of strings")
        if set(map(type, values)) != {str} or not "".join(values).isascii():
            for index, value in enumerate(values):
                problem = _text_problem(value)
                if problem:
                    self.wrong(f"{key}[{index}]", problem)
        if len(values) < least:
            self.wrong(key, f"holds {len(values)} strings; there must be at least {least}")
        return tuple(values)

    def integer(self, key: str, least: int | None = None) -> int:
        value = self.get(key, "it must be a whole number")
        if type(value) is not int:
            self.wrong(key, f"is {_kind(value)}; it must be a whole number")
        if least is not None and value < least:
            self.wrong(key, f"is {_short(value)}; it must be at least {least}")
        return int(value)

    def number(self, key: str, least: float = -math.inf) -> float:
        value = self.get(key, "it must be a number")
        if not _finite(value):
            self.wrong(key, f"is {_kind(value)}; it must be a finite number")
        if value < least:
            self.wrong(key, f"is {_short(value)}; it must be at least {least:g}")
        return float(value)

    def scalar(self, key: str) -> str:
        """A string, a finite number or true / false, as a string ('True', as Python spells it)."""
        value = self.get(key, "it must be a string or a number")
        if type(value) is bool or (type(value) is int and abs(value) < 1 << 64):
            return str(value)
        if type(value) is float and math.isfinite(value):
            return str(int(value)) if value.is_integer() and abs(value) < 1 << 53 else str(value)
        problem = _text_problem(value)
        if problem:
            self.wrong(key, f"is {_kind(value)}; it must be a string or a number")
        return str(value)

    def identifier(self, key: str) -> str:
        """A whole number or a string that isn't empty, as a string."""
        value = self.get(key, "it must be a whole number or a string")
        if type(value) is int and abs(value) < 1 << 64:
            return str(value)
        if type(value) is not str or not value or _text_problem(value):
            self.wrong(key, f"is {_kind(value)}; it must be a whole number or a string that is not empty")
        return value

    def name(self, key: str, absolute: bool = False) -> str:
        """A file name, perhaps in subfolders, that cannot leave the images folder; with `absolute` also an
        absolute path, which the door checks."""
        value = self.text(key)
        problem = name_problem(value, absolute)
        if problem:
            self.wrong(key, problem)
        return value

    def flag(self, key: str) -> int:
        """0 or 1; absent or null means 0."""
        value = 0 if self.data.get(key) is None else self.data[key]
        if value not in (0, 1) or not isinstance(value, int):
            self.wrong(key, f"is {_short(value)}; it must be 0 or 1")
        return int(value)

    def size(self, height: str = "height", width: str = "width") -> Size:
        size = self.integer(height, least=1), self.integer(width, least=1)
        self.bound(height, size)
        return size

    def bound(self, key: str, size: Size) -> None:
        """Raises DataError for more pixels than are read of an image."""
        if size[0] * size[1] > MAX_PIXELS or max(size) > MAX_SIDE:
            shown = " x ".join(map(_short, size))
            self.wrong(key, f"is of {shown} pixels; at most 512 megapixels and 1,048,576 per side are read")

    def record(self, key: str) -> Record:
        place = f"{self.place}.{key}" if self.place else key
        return Record(self.get(key, "it must be an object"), self.file, place)

    def records(self, key: str, skip_none: bool = False, faults: Faults | None = None) -> Iterator[Record]:
        """The objects of a list; `skip_none` skips those that the reader did not keep. What is no object is
        left to `faults`, or raises DataError."""
        return (record for _, record in self.placed(key, skip_none, faults))

    def placed(
        self, key: str, skip_none: bool = False, faults: Faults | None = None
    ) -> Iterator[tuple[int, Record]]:
        """The same, each with its place in the list."""
        values = self.get(key, "it must be a list of objects")
        if type(values) is not list and type(values) is not Elements:
            self.wrong(key, f"is {_kind(values)}; it must be a list of objects")
        place = f"{self.place}.{key}" if self.place else key
        kept = (one for one in enumerate(values) if one[1] is not None or not skip_none)
        return objects(kept, f"{place}[{{}}]", self.file, faults)

    def entries(self, faults: Faults) -> Iterator[tuple[str, Record]]:
        """(key, object) of an object of objects; what is none is left to `faults`."""
        for key in self.data:
            if (entry := faults.made(partial(self.record, key))) is not None:
                yield key, entry

    def element(self, key: str, index: int) -> Record:
        """One of the objects that `records` gives."""
        place = f"{self.place}.{key}" if self.place else key
        return Record(self.data[key][index], self.file, f"{place}[{index}]")

    def column(self, key: str, inner: str) -> tuple[str, ...]:
        """The strings under `inner` of a list's objects; equal strings share memory (VQAv2 has millions)."""
        try:
            found = tuple([sys.intern(value[inner]) for value in self.data[key]])
            "".join(found).encode()
        except (
            KeyError,
            TypeError,
            IndexError,
            UnicodeEncodeError,
        ):  # again, slowly, to report what is wrong
            return tuple(record.text(inner) for record in self.records(key))
        return found

    def box(self, key: str = "bbox") -> tuple[float, float, float, float]:
        """A COCO box (x, y, width, height) in pixels; sides may be 0 (as in COCO), but not negative."""
        value = self.get(key, "it must be [x, y, width, height]")
        if type(value) is not list or len(value) != 4 or not all(_finite(part) for part in value):
            self.wrong(key, f"is {_short(value)}; it must be [x, y, width, height], four finite numbers")
        if value[2] < 0 or value[3] < 0:
            self.wrong(key, f"is {_short(value)}; width and height must not be negative")
        x, y, w, h = value
        return float(x), float(y), float(w), float(h)

    def refuse(self, key: str, problem: tuple[str, str] | None) -> None:
        """Raises DataError where there is a problem: its place inside the value, and what is wrong there."""
        if problem:
            self.wrong(f"{key}{problem[0]}", problem[1])


def objects(
    entries: Iterable[tuple[int, Any]], place: str, file: str, faults: Faults | None
) -> Iterator[tuple[int, Record]]:
    """The numbered objects; `place` is theirs, with `{}` for the number. What is none is left to `faults`, or
    raises DataError."""
    for number, data in entries:
        if faults is None or type(data) is dict:
            yield number, Record(data, file, place.format(number))
        else:
            faults.tried(partial(Record, data, file, place.format(number)))


def listed(data: Any, file: str, of: str, faults: Faults) -> Iterator[Record]:
    """The objects of a JSON list at a file's top; `of` says what it must be a list of."""
    if not isinstance(data, (list, Elements)):
        raise DataError(f"{file}: top level: is not a list; it must be a list of {of}")
    return (record for _, record in objects(enumerate(data), "[{}]", file, faults))


def path_of(source: Source, key: str, wanted: tuple[str, ...]) -> Path:
    """The path that the source entry names under `key`; DataError when the entry lacks it."""
    if key not in source.entry:
        raise DataError(
            f"{source.task or 'task'}: data.sources: no '{key}' in {{{', '.join(source.entry)}}};"
            f" this format wants {', '.join(wanted)}"
        )
    return source.path(key)


def paths_of(source: Source, key: str, wanted: tuple[str, ...]) -> dict[str, Path]:
    """group -> file, if the source entry names several files under `key`; a single file is the group ''."""
    path_of(source, key, wanted)
    value = source.entry[key]
    if not isinstance(value, Mapping):
        return {"": source.path(key)}
    return {str(group): source.root / str(name) for group, name in value.items()}


def check_split(file: str, split: str, present: Mapping[str, Any] | set[str]) -> None:
    """Raises DataError if a file does not have the split."""
    if split not in present:
        names = {name for name in present if isinstance(name, str)}
        raise DataError(f"{file}: no split '{split}'{nearest(split, names)}")


class Unique:
    """Refuses repeated ids: `add` raises DataError for a value that it has seen before, with the place of the
    record that has it."""

    __slots__ = ("file", "seen", "what")

    def __init__(self, file: str, what: str) -> None:
        self.file, self.what, self.seen = file, what, set[Any]()

    def add(self, value: Any, record: Record | None = None) -> None:
        if value in self.seen:
            where = f"{self.file}: {record.place}: " if record and record.place else f"{self.file}: "
            raise DataError(f"{where}{self.what} {_short(value)} is repeated; ids must be unique")
        self.seen.add(value)


_STRANGE = re.compile(r"^[/\\]|\.\.|^\s*$")


def name_problem(value: str, absolute: bool = False) -> str:
    """What is wrong with a dataset's file name, or ''."""
    if value.isprintable() and not _STRANGE.search(value):  # as nearly all are
        return ""
    path = PurePosixPath(value.replace("\\", "/"))
    if not value.strip() or "\0" in value:
        return "is not a file name; it must name an image"
    if ".." in path.parts or (path.is_absolute() and not absolute):
        return f"is {_short(value)}; it must be a name below the images folder"
    return ""


def filled(template: str, number: int) -> str:
    """A file name from a %-template such as `COCO_val2014_%012d.jpg`."""
    try:
        return template % number
    except (TypeError, ValueError):
        raise DataError(
            f"image_name: '{template}' cannot take one number; write it like COCO_val2014_%012d.jpg"
        ) from None


def _finite(value: Any) -> bool:
    kind = type(value)
    return (kind is float and math.isfinite(value)) or (kind is int and abs(value) < 1 << 53)


def _text_problem(value: Any) -> str:
    if type(value) is not str:
        return f"is {_kind(value)}; it must be a string"
    if value.isascii():
        return ""
    try:
        value.encode()
    except UnicodeEncodeError:
        return "holds half a character (a lone surrogate); it must be valid Unicode"
    return ""


def _kind(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def _short(value: Any) -> str:
    """A value for an error message; only its kind if it is huge or nested."""
    if isinstance(value, (list, tuple)):
        if len(value) > 8 or any(isinstance(part, (list, dict, tuple)) for part in value):
            return f"a list of {len(value)}"
        return f"[{', '.join(_short(part) for part in value)}]"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, int) and abs(value) > 1 << 64:
        return "a huge number"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
