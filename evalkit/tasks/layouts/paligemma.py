"""Lines or rows of {"image", "prefix", "suffix"}: PaliGemma's own training data, several verbs in a file."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from evalkit.data import instructions
from evalkit.data.faults import Faults
from evalkit.data.readers import is_table, read_records
from evalkit.data.same_images import Pictures
from evalkit.errors import DataError
from evalkit.formats.paligemma_lines import PaliGemmaLines
from evalkit.geometry import location_tokens, target_tokens
from evalkit.tasks.layouts import doubts, place
from evalkit.tasks.layouts.place import Place
from evalkit.tasks.layouts.reading import Draft, Reading, object_tokens, task, text_tokens
from evalkit.types import Remarks

NAME = "PaliGemma lines"
Keys = tuple[str, str, str]
LOOKED = 50  # lines, of which one must be right
_FLORENCE = re.compile(r"<loc_\d")
UNASKED = 8  # classes that no prefix asks for, which are named
NEAR = 0.75  # how alike two names are of which one is probably a slip


KEYS = (
    ("image", "prefix", "suffix"),
    ("file_name", "prefix", "suffix"),
    ("file_name", "", "label_for_paligemma"),
)
"""Names of image, prompt and answer; '': no prompt, every answer is one of `detect`."""


class Line(NamedTuple):
    """One line of a file."""

    image: str
    prefix: str
    suffix: str | None
    verb: str
    labels: Sequence[str]  # of the suffix's objects


def look(there: Place, asked: str | None) -> list[Reading]:
    """One reading for all files of a folder whose first line has image, prefix and suffix."""
    files = [name for name in there.named(".jsonl", ".json", ".csv", ".tsv") if _keys(there.root / name)]
    return [_reading(there, splits, asked) for splits in place.by_split(files, asked)]


def _reading(there: Place, splits: dict[str, str], asked: str | None) -> Reading:
    split = place.preferred(splits, asked)
    name = splits[split]
    path = there.root / name
    keys = _keys(path)
    assert keys is not None
    faults = Faults()
    whole, called = path.absolute(), "row" if is_table(path) else "line"
    reader, numbered = PaliGemmaLines(image=keys[0], prefix=keys[1], suffix=keys[2]), dict[int, Line | None]()
    for n, data in read_records(whole, faults):
        if (line := line_of(data, keys)) or faults.tried(
            partial(reader.line, data, str(whole), f"{called} {n + 1}")
        ):
            numbered[n] = line
    first = next(line.image for line in numbered.values() if line is not None)
    source: dict[str, Any] = {"path": name}
    folder = there.folder_with(first.replace("\\", "/"), name)
    if folder is not None and folder != str(Path(name).parent).removeprefix("."):
        source["images"] = folder or "."
    found = of_lines(NAME, there.root, name, split, splits, source, keys, numbered)
    return dataclasses.replace(
        found, wrong=faults.said(), pictures=lambda each: _pictures(there, splits[each])
    )


def of_lines(
    layout: str, root: Path, name: str, split: str, splits: Mapping[str, str], source: dict[str, Any],
    keys: Keys, numbered: Mapping[int, Line | None],
) -> Reading:  # fmt: skip
    """The reading of lines by their numbers from 0, None for each that lacks a key."""
    called = "row" if is_table(Path(name)) else "line"
    lines = [line for line in numbered.values() if line is not None]
    theirs = (n for n, line in numbered.items() if line and _FLORENCE.search(line.suffix or ""))
    if (n := next(theirs, None)) is not None:
        raise DataError(
            f"{root / name}: {called} {n + 1}: {keys[2]}: has tokens of Florence-2, as <loc_62>, which "
            "PaliGemma does not know; export the dataset for PaliGemma, or as COCO"
        )
    wrong = next((n for n, line in numbered.items() if line is None), None)
    lacking = (
        f"{root / name}: {called} {(wrong or 0) + 1} lacks {' or '.join(filter(None, keys))}: write it there"
    )
    notes = [] if wrong is None else [lacking]
    classes, unasked = _classes(lines)

    def told() -> Iterator[tuple[str, Hashable]]:
        return ((f"{called} {n + 1}", line[:3]) for n, line in numbered.items() if line is not None)

    doubted = [
        *_misspelt(root / name, keys[2], numbered),
        *unasked,
        *doubts.repeated(called, name, told),
    ]
    drafts = []
    for verb in instructions.VERBS:
        mine = [line for line in lines if line.verb == verb]
        if mine:
            prompt = "{prefix}" if keys[1] else f"{verb} {' ; '.join(classes)}"
            drafts.append(_draft(verb, mine, name, split, source, keys, prompt))
    return Reading(layout, root, name, split, splits, drafts, classes, notes, doubted)


def _misspelt(path: Path, key: str, numbered: Mapping[int, Line | None]) -> tuple[str, ...]:
    """What is wrong with the boxes of suffixes, in the words of `paligemma_lines`, which leaves them out."""
    remarks, called = Remarks(), "row" if is_table(path) else "line"
    labelled = any(any(line.labels) for line in numbered.values() if line is not None)
    for number, line in numbered.items():
        if line is None or not line.labels or line.suffix is None:
            continue
        for kind, problem in target_tokens.judged(line.suffix, labelled).problems:
            remarks.add(kind, f"{path.absolute()}: {called} {number + 1}: {key}: {problem}")
    return remarks.said()


def _pictures(there: Place, name: str) -> Pictures:
    """The images that a file's lines name."""
    keys = _keys(there.root / name)
    lines = read_records(there.root / name, Faults()) if keys else ()
    images = [data[keys[0]] for _, data in lines if keys and _complete(data, keys)]
    return doubts.named(there, name, images)


def _draft(
    verb: str, lines: list[Line], name: str, split: str, source: dict[str, Any], keys: Keys, prompt: str
) -> Draft:
    suffixes = [line.suffix for line in lines if line.suffix is not None]
    if verb in ("detect", "segment"):
        tokens, count = object_tokens((line.labels for line in lines), verb == "segment"), len(lines)
    else:
        tokens = text_tokens(suffixes)
        count = len({(line.image, line.prefix) for line in lines})
    about = f"The `{verb}` lines of {name}" if verb != "text" else f"The questions of {name}"
    named = zip(("image", "prefix", "suffix"), keys, strict=True)
    other = "".join(f", {what}={key!r}" for what, key in named if key != what)
    spelled = f"paligemma_lines(verb={verb!r}{other})"
    content = task(
        verb, about=about, spelled=spelled, split=split, source=source, prompt=prompt, tokens=tokens,
        answers=suffixes,
    )  # fmt: skip
    return Draft(verb, count, content)


def _classes(lines: list[Line]) -> tuple[list[str], list[str]]:
    """The classes of prefixes and suffixes, and what is odd about them."""
    found: Counter[str] = Counter()
    unasked: Counter[str] = Counter()
    asked_by: dict[str, tuple[str, ...]] = {}
    for line in lines:
        if line.verb not in ("detect", "segment"):
            continue
        if line.prefix not in asked_by:
            asked_by[line.prefix] = instructions.classes(line.prefix)
            found.update(dict.fromkeys(asked_by[line.prefix], 0))
        for label in line.labels:
            found[label] += 1
            unasked[label] += bool(line.prefix) and label not in asked_by[line.prefix]
    asked = list(dict.fromkeys(name for names in asked_by.values() for name in names))
    odd = [
        f"class {c!r} is in {place.counted(n, 'suffix')} whose prefix does not ask for it{_meant(c, asked)}"
        for c, n in unasked.items()
        if n and (c or not any(found))
    ]
    more = [f"{len(odd) - UNASKED:,} more classes are in suffixes whose prefix does not ask for them"]
    return [name for name in found if name or not any(found)], odd[:UNASKED] + more * (len(odd) > UNASKED)


def _meant(name: str, asked: Sequence[str]) -> str:
    """Which class was meant by one that nobody asks for, where one is spelled nearly so."""
    near = difflib.get_close_matches(name, [each for each in asked if each != name], 1, NEAR)
    return f"; it is probably {near[0]!r}" if near else ""


def _keys(path: Path) -> Keys | None:
    """The names of a file's keys; None for a file that is something else."""
    if not any(keys[2].encode() in place.head(path) for keys in KEYS):
        return None  # a file of hundreds of megabytes in one line need not be read for that
    try:
        first = next((data for _, data in read_records(path, Faults(most=LOOKED))), None)
    except DataError:
        return None
    return next((keys for keys in KEYS if _complete(first, keys)), None)


def _complete(data: Any, keys: Keys) -> bool:
    if not isinstance(data, dict) or "answer" in data or keys[2] not in data:
        return False
    return all(isinstance(data.get(key), str) for key in keys[:2] if key)


def line_of(data: Any, keys: Keys) -> Line | None:
    """A line, or None for one that lacks a key."""
    if not _complete(data, keys):
        return None
    prefix = data[keys[1]] if keys[1] else ""
    suffix = None if data[keys[2]] is None else str(data[keys[2]])
    verb = instructions.verb(prefix) if keys[1] else "detect"
    labels = location_tokens.labels(suffix) if suffix and verb in ("detect", "segment") else ()
    return Line(data[keys[0]], prefix, suffix, verb, labels)
