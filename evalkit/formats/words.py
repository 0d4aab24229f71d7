"""Words in photos with their outlines, one text file per image: ICDAR 2015 and Total-Text.

Karatzas et al., 2015; Ch'ng and Chan, 2017; files as distributed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from evalkit.data.faults import Faults
from evalkit.data.readers import read_text
from evalkit.data.records import path_of
from evalkit.data.sources import image_ref
from evalkit.errors import DataError
from evalkit.types import Format, Sample, Source

_LINE = {
    "x": re.compile(r"x:\s*\[\[([\d\s-]*)\]?\]"),
    "y": re.compile(r"y:\s*\[\[([\d\s-]*)\]?\]"),
    "text": re.compile(r"transcriptions:\s*\[\s*(?:u?('.*'|\".*\"))?\s*\]\s*$"),
}
_PREFIX = {"icdar15": "gt_", "totaltext": "poly_gt_"}


@dataclass(frozen=True)
class Words(Format):
    """One sample per image, id = its file's stem; illegible words have `legible: False`.

    Target: {"size": (h, w), "words": [{"text", "vertices": ((x, y), ...) in pixels, "legible"}]}.
    `form`: icdar15 (gt_img_1.txt: x1,y1,...,x4,y4,text; ### is illegible) or totaltext
    (poly_gt_img1.txt: x: [[..]], y: [[..]], ornt: .., transcriptions: [u'..'], which may span several
    lines; # is illegible).
    """

    form: Literal["icdar15", "totaltext"] = "icdar15"
    suffix: str = ".jpg"

    fields: ClassVar[tuple[str, ...]] = ()
    keys: ClassVar[tuple[str, ...]] = ("words", "images")
    gives: ClassVar[tuple[str, ...]] = ("words",)

    def samples(self, source: Source, split: str) -> Iterator[Sample]:
        from evalkit.images.prepare import header_size

        folder, images = path_of(source, "words", self.keys), path_of(source, "images", self.keys)
        prefix = _PREFIX[self.form]
        files = sorted(folder.glob(f"{prefix}*.txt"), key=lambda p: (len(p.name), p.name))
        if not files:
            raise DataError(f"{folder}: cannot be read or holds no {prefix}*.txt")
        faults = Faults(each_file=True)

        def of(path: Path) -> Iterator[Sample]:
            stem = path.stem.removeprefix(prefix)
            ref = image_ref(images, f"{stem}{self.suffix}")
            size = header_size(ref)
            read = _icdar15 if self.form == "icdar15" else _totaltext
            found = _lines(path) if self.form == "icdar15" else _entries(_lines(path))
            made = (faults.made(partial(read, line, f"{path}: line {n}")) for n, line in found)
            words = [word for word in made if word is not None]
            yield Sample(stem, (ref,), {}, {"size": size, "words": words}, size=size, cluster=stem)

        yield from faults.of_all(files, of)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    lines = read_text(path).split("\n")
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _entries(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Entries, each joined to one line: numpy broke those of outlines with many points."""
    found: list[tuple[int, str]] = []
    for number, line in lines:
        if found and not line.lstrip().startswith("x:"):
            found[-1] = found[-1][0], f"{found[-1][1]} {line}"
        else:
            found.append((number, line))
    return iter(found)


def _icdar15(line: str, where: str) -> dict[str, Any]:
    """A word from a line of eight corner coordinates and the text, which may itself hold commas."""
    parts = line.split(",", 8)
    if len(parts) < 9 or not all(re.fullmatch(r"\s*-?\d{1,6}\s*", part) for part in parts[:8]):
        raise DataError(f"{where}: must be x1,y1,x2,y2,x3,y3,x4,y4,text with whole numbers")
    numbers = [int(part) for part in parts[:8]]
    return _word(numbers[::2], numbers[1::2], parts[8], parts[8] != "###")


def _totaltext(line: str, where: str) -> dict[str, Any]:
    found = {key: pattern.search(line) for key, pattern in _LINE.items()}
    if not found["x"] or not found["y"] or not found["text"]:
        raise DataError(f"{where}: must be x: [[..]], y: [[..]], ornt: [..], transcriptions: [u'..']")
    xs, ys = ([int(n) for n in found[axis].group(1).split()] for axis in "xy")  # type: ignore[union-attr]
    if len(xs) != len(ys) or len(xs) < 3:
        raise DataError(f"{where}: holds {len(xs)} x and {len(ys)} y; an outline has at least three points")
    text = _unquoted(found["text"].group(1) or "") or "#"
    return _word(xs, ys, text, text != "#")


def _unquoted(quoted: str) -> str:
    """The value of a Python string literal; where it is none, the text between its quotes, unchanged."""
    try:
        return str(ast.literal_eval(quoted)) if quoted else ""
    except (ValueError, SyntaxError):
        return quoted[1:-1]


def _word(xs: list[int], ys: list[int], text: str, legible: bool) -> dict[str, Any]:
    return {"text": text, "vertices": tuple(zip(xs, ys, strict=True)), "legible": legible}
