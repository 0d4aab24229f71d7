"""Answers that were made elsewhere: JSON lines, JSON, CSV or TSV, under the keys that other tools write."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evalkit import door
from evalkit.data.faults import Faults
from evalkit.data.readers import read_json, read_lines, read_table
from evalkit.errors import DataError, nearest

IDS = ("id", "question_id", "image_id", "sample_id", "index", "idx")
TEXTS = ("text", "prediction", "answer", "caption", "response", "output", "generated_text")
SHOWN = 12  # keys that a message lists

Keys = tuple[str, str]
"""The keys of the sample's id and of the text."""


def read(
    path: Path, named: Keys | None = None, faults: Faults | None = None
) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """(where for messages, id, text, the whole record) of every answer of a file.

    A `.csv` or `.tsv` has a header; JSON is a list of records, or an object of texts by id; all else is JSON
    lines. Without `named` the keys are the first of `IDS` and of `TEXTS` that the first record has. A
    number is written as text, and a list of one text is that text. What is no answer is left to `faults`, or
    raises DataError with file, line and key.
    """
    found = named
    try:
        for where, record in _records(path, faults):
            try:
                if not isinstance(record, dict):
                    raise DataError(f'{where}: no "id"; a line is {{"id": ..., "text": ...}}')
                found = found or _found(where, record)
                answer = _id(where, record, found[0]), _text(where, record, found)
            except DataError as error:
                if faults is None:
                    raise
                faults.add(str(error))
                continue
            yield where, *answer, record
    except DataError as error:  # the file cannot be read on
        if faults is None:
            raise
        faults.add(str(error))


def _records(path: Path, faults: Faults | None) -> Iterator[tuple[str, Any]]:
    if path.suffix.lower() in (".csv", ".tsv"):
        for number, row in read_table(path, faults=faults):
            yield f"{path}: row {number}", row
        return
    start = _start(path)
    content = read_json(path) if start == "[" or path.suffix.lower() == ".json" else None
    if isinstance(content, list):
        yield from ((f"{path}: [{n}]", record) for n, record in enumerate(content))
    elif isinstance(content, dict):
        inner = [value for value in content.values() if isinstance(value, list)]
        if len(inner) == 1 and inner[0] and isinstance(inner[0][0], dict):  # {"annotations": [...]}
            yield from ((f"{path}: [{n}]", record) for n, record in enumerate(inner[0]))
        else:
            yield from ((f"{path}: {k}", {"id": k, "text": v}) for k, v in content.items())
    else:
        shown = str(path)
        yield from ((f"{shown}: line {number + 1}", line) for number, line in read_lines(path, faults))


def _start(path: Path) -> str:
    """The first character that is no blank."""
    with door.guarded(path), door.opened(path) as file:
        return file.read(256).decode("utf-8-sig", "replace").lstrip()[:1]


def _found(where: str, record: dict[str, Any]) -> Keys:
    """The keys of the first record. Raises DataError where it has none."""
    seen = ", ".join(map(str, list(record)[:SHOWN]))
    pair = []
    for what, known in (("id", IDS), ("text", TEXTS)):
        key = next((key for key in known if key in record), None)
        if key is None:
            raise DataError(
                f'{where}: no "{what}" among its keys ({seen}); a line is {{"id": ..., "text": ...}}, '
                "or name both keys with --keys ID,TEXT"
            )
        pair.append(key)
    return pair[0], pair[1]


def _id(where: str, record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if type(value) not in (int, str) or value == "":
        problem = f"is {value!r}" if key in record else f"is missing{nearest(key, record)}"
        raise DataError(f"{where}: {key}: {problem[:200]}; it must be a sample's id, a number or text")
    return str(value)


def _text(where: str, record: dict[str, Any], named: Keys) -> str:
    key = named[1]
    value = record.get(key)
    if type(value) is list and len(value) == 1:
        value = value[0]
    if type(value) is str:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(value)
    problem = "is missing" if key not in record else _wrong(value)
    raise DataError(f'{where}: no "{key}" for id {record[named[0]]!r}: it {problem}; it must be text')


def _wrong(value: Any) -> str:
    if type(value) is list:
        return f"is a list of {len(value)}"
    return "is null" if value is None else f"is {str(value)[:60]}"
