"""Whole files as plain data: JSON, JSON lines and CSV; errors give the line."""

from __future__ import annotations

import csv
import functools
import gc
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from evalkit import door
from evalkit.data.faults import Faults
from evalkit.data.records import Record, layout
from evalkit.errors import DataError

# --- opening -----------------------------------------------------------------------------------


def read_json(path: Path, keep: Callable[[dict[str, Any]], bool] | None = None) -> Any:
    """A whole JSON file (UTF-8, byte order mark allowed). Raises DataError with the line of the problem.

    Objects for which `keep` is false become None as soon as they are read, so that a few thousand of
    COCO's 860,000 annotations don't need memory for all.
    """
    with door.guarded(path, text="save the file as UTF-8 JSON"):
        return parse_json(door.read(path).decode("utf-8-sig"), str(path), keep=keep)


def read_text(path: Path, right: str = "") -> str:
    """A whole text file (UTF-8, byte order mark allowed). Raises DataError that ends with what is right."""
    with door.guarded(path, right, text=right or "save the file as UTF-8 text"):
        return door.text(path, door.WHOLE)


def parse_json(
    text: str, where: str, line: int | None = None, keep: Callable[[dict[str, Any]], bool] | None = None
) -> Any:
    """JSON text to plain data; `line` is its number for errors if the text is one line of a file."""
    if not text.strip():
        raise DataError(f"{where}: {'' if line is None else f'line {line}: '}is empty; it must hold JSON")
    collecting = gc.isenabled()
    gc.disable()  # a large file creates millions of objects and no cycles: collection would only cost time
    try:
        return decoder(keep).decode(text)
    except json.JSONDecodeError as error:
        at, problem = error.lineno if line is None else line, f"{error.msg} at column {error.colno}"
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            problem = f"{'the file' if line is None else 'it'} ends early; it is cut off ({problem})"
    except RecursionError:
        at, problem = line or 1, "is nested too deeply"
    except ValueError as error:  # a key twice, or an integer of thousands of digits
        at, problem = line or 1, str(error).split(";")[0]
    finally:
        if collecting:
            gc.enable()
    raise DataError(f"{where}: line {at}: is not valid JSON: {problem}")


def _object(
    pairs: list[tuple[str, Any]], keep: Callable[[dict[str, Any]], bool] | None = None
) -> dict[str, Any] | None:
    """Refuses a repeated key, of which json alone would silently keep the last value."""
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} is repeated")
    return result if keep is None or keep(result) else None


def decoder(keep: Callable[[dict[str, Any]], bool] | None = None) -> json.JSONDecoder:
    """Reads JSON in which no key is repeated; raises ValueError. `keep` as for `read_json`."""
    return json.JSONDecoder(object_pairs_hook=functools.partial(_object, keep=keep)) if keep else _DECODER


_DECODER = json.JSONDecoder(object_pairs_hook=_object)  # making one takes longer than reading a short line


def read_lines(path: Path, faults: Faults | None = None) -> Iterator[tuple[int, Any]]:
    """The lines of a JSON lines file as (line number from 0, data); blank lines are skipped. Those that are
    no JSON are left to `faults`, or raise DataError."""
    with door.guarded(path), door.opened(path) as file:
        yield from parse_lines(file, path, faults)


def line_records(path: Path, faults: Faults | None = None) -> Iterator[tuple[int, Record]]:
    """The objects of a JSON lines file, as `read_lines` gives them. What is no object is left to `faults`, or
    raises DataError."""
    shown = str(path)
    for number, data in read_lines(path, faults):
        if faults is None or type(data) is dict:
            yield number, Record(data, shown, f"line {number + 1}")
        else:
            faults.tried(functools.partial(Record, data, shown, f"line {number + 1}"))


def is_table(path: Path) -> bool:
    return path.suffix.lower() in (".csv", ".tsv")


def read_records(path: Path, faults: Faults | None = None) -> Iterator[tuple[int, Any]]:
    """The records of JSON lines as (line number from 0, data), those of a JSON list, CSV and TSV with the
    row's number. Lines and rows that cannot be read are left to `faults`, or raise DataError."""
    if is_table(path):
        yield from ((number - 2, row) for number, row in read_table(path, faults=faults))
    elif path.suffix.lower() == ".json" and door.head(path).lstrip().startswith(b"["):
        yield from enumerate(read_json(path))
    else:
        yield from read_lines(path, faults)


def parse_lines(file: IO[bytes], path: Path, faults: Faults | None = None) -> Iterator[tuple[int, Any]]:
    """JSON lines from an opened file, as `read_lines`."""
    for number, raw in enumerate(iter(functools.partial(file.readline, door.LINE + 1), b"")):
        if len(raw) > door.LINE:
            raise DataError(
                f"{path}: line {number + 1}: is longer than {door.LINE >> 20} MiB; write shorter lines"
            )
        try:
            text = raw.decode("utf-8-sig" if number == 0 else "utf-8")
            if not text.strip():
                continue
            if number == 0 and (found := _is_whole(text.strip(), path, file)):
                raise DataError(f"{path}: is {found}")
            data = _DECODER.decode(text)
        except (ValueError, RecursionError):  # again, to say what is wrong
            if faults is None:
                data = _line(raw, path, number)
            elif (given := faults.made(lambda: (_line(raw, path, number),))) is None:  # noqa: B023
                continue
            else:
                data = given[0]
        yield number, data


def _line(raw: bytes, path: Path, number: int) -> Any:
    """The data of a line. Raises DataError."""
    try:
        text = raw.decode("utf-8-sig" if number == 0 else "utf-8")
    except UnicodeDecodeError:
        if number == 0 and raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{path}: is UTF-16; save it as UTF-8") from None
        raise DataError(f"{path}: line {number + 1}: is not UTF-8; save it as UTF-8") from None
    return parse_json(text, str(path), number + 1)


def _is_whole(line: str, path: Path, file: IO[bytes]) -> str:
    """What a file is by its first line where it is JSON but no JSON lines, and what it must be; else ''."""
    right = "it must be JSON lines, one object a line"
    if line == "{" and file.read(1):
        return f"one JSON object over several lines; {right}"
    if not line.startswith("["):
        return ""
    data = read_json(path)
    first = data[0] if isinstance(data, list) and data else None
    found = layout(first) if isinstance(first, dict) else ""
    return f"a JSON list; {right}" + (f"; the first record {found}" if found else "")


SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SAID = "sep="  # Excel's first line, which says what separates the cells


def separator(path: Path) -> str:
    """What separates the cells of a CSV or TSV file: comma, semicolon (as Excel writes it in many languages),
    tab or bar, whichever comes first in the header line. A later column's name may hold the others. Raises
    OSError."""
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    head = door.head(path).decode("utf-8", "replace").replace("\r", "\n").split("\n")[0]
    head = head.removeprefix("\ufeff")
    if head.startswith(SAID) and head[len(SAID) :][:1] in SEPARATORS:
        return head[len(SAID)]
    first = {sep: len(next(csv.reader([head], delimiter=sep), [""])[0]) for sep in SEPARATORS}
    return min((usual, *SEPARATORS), key=first.__getitem__)


def unusual_separator(path: Path) -> str:
    """`d.csv: its cells are separated by semicolons`; '' where they are as the file's name says, or where it
    is no table."""
    usual = {".csv": ",", ".tsv": "\t"}.get(path.suffix.lower())
    if usual is None:
        return ""
    with door.guarded(path):
        found = separator(path)
    return "" if found == usual else f"{path.name}: its cells are separated by {SEPARATORS[found]}"


def read_table(
    path: Path, delimiter: str | None = None, faults: Faults | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """A CSV file's rows as (number, cells by the header's names); `delimiter` where the header is not to
    tell it. A row of another length is left to `faults`, or raises DataError."""
    with door.guarded(path, text="save the file as UTF-8 CSV"), door.opened(path) as raw:
        delimiter = delimiter or separator(path)
        rows = csv.reader(io.TextIOWrapper(raw, "utf-8-sig", newline=""), delimiter=delimiter, strict=True)
        try:
            head = next(rows, None)
            skipped = head is not None and delimiter.join(head) == f"{SAID}{delimiter}"
            head = next(rows, None) if skipped else head
            if not head:
                raise DataError(f"{path}: is empty; it must be CSV with a header line")
            if again := next((name for name in head if name and head.count(name) > 1), ""):
                raise DataError(
                    f"{path}: the column {again[:60]!r} is there twice; give each a name of its own"
                )
            for number, row in enumerate(rows, 3 if skipped else 2):
                if row and len(row) != len(head):
                    said = f"{path}: row {number}: has {len(row)} cells, the header {len(head)}"
                    if faults is None:
                        raise DataError(said)
                    faults.add(said)
                elif row:
                    yield number, dict(zip(head, row, strict=True))
        except csv.Error as error:
            raise DataError(f"{path}: is not valid CSV ({error})") from None
