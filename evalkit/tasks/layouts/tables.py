"""Tables of images and texts: CSV, TSV, JSON lines or lists, and an imagefolder's metadata."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.data.elements import Elements
from evalkit.data.faults import Faults
from evalkit.data.readers import line_records, read_table, unusual_separator
from evalkit.data.records import listed
from evalkit.data.same_images import Pictures
from evalkit.data.streamed import read_lists
from evalkit.errors import DataError
from evalkit.tasks.layouts import doubts, place
from evalkit.tasks.layouts.place import Place
from evalkit.tasks.layouts.reading import Draft, Reading, task, text_tokens

Columns = tuple[str, str, str]
NAME = "a table of images and texts"
IMAGE = ("image", "file_name", "image_path", "img_path", "filename", "img", "path", "file")
AS_IT_IS = ("prefix", "prompt")
QUESTION = ("question", "prompt", "query", "prefix", "instruction")
ANSWER = ("answer", "answers", "suffix", "label", "output", "response", "target")
CAPTION = ("caption", "captions", "text", "description", "sentence", "sentences", "references")
LOOKED = 50  # records whose keys are looked at


def look(there: Place, asked: str | None) -> list[Reading]:
    """One reading for the tables whose columns name images, and answers or captions."""
    kinds = (".csv", ".tsv", ".jsonl", ".jsonlines", ".json")
    files = {name: found for name in there.named(*kinds) if (found := _columns(there.root / name))}
    return [_reading(there, splits, files, asked) for splits in place.by_split(files, asked)]


def _reading(there: Place, splits: dict[str, str], files: dict[str, Columns], asked: str | None) -> Reading:
    split = place.preferred(splits, asked)
    name = splits[split]
    image, question, answer = files[name]
    faults = Faults()
    records = list(_records((there.root / name).absolute(), faults))
    answers = [text for record in records for text in texts(record.get(answer))]
    folder = there.folder_with(str(records[0][image]).replace("\\", "/"), name)
    verb = "text" if question or answer not in CAPTION else "caption"
    source = {"path": name, "images": folder or str(Path(name).parent)}
    spelled = f"questions(image={image!r}, question={question!r}, answers={answer!r})"
    notes = [*filter(None, [unusual_separator(there.root / name)]), *told(image, question, answer)]
    content = task(
        verb, about=f"The rows of {name}", spelled=spelled, split=split, source=source,
        prompt=asked_by(question), tokens=text_tokens(answers), answers=answers,
    )  # fmt: skip

    def said() -> Iterator[tuple[str, Hashable]]:
        return ((f"row {n}", _said(r, files[name])) for n, r in enumerate(records, 1))

    return Reading(
        NAME, there.root, name, split, splits, [Draft(verb, len(records), content)], (), notes,
        doubts.repeated("row", name, said), faults.said(),
        lambda each: _pictures(there, splits[each], files[splits[each]]),
    )  # fmt: skip


def _said(record: dict[str, Any], columns: Columns) -> tuple[str, ...]:
    """Image, question and answer of a row."""
    return tuple(str(record.get(column)) if column else "" for column in columns)


def _pictures(there: Place, name: str, columns: Columns) -> Pictures:
    """The images of a table's rows."""
    images = [
        str(record[columns[0]]) for record in _records(there.root / name, Faults()) if columns[0] in record
    ]
    return doubts.named(there, name, images)


def _columns(path: Path) -> Columns | None:
    """(image, question or '', answer): which columns or keys of the file are what; None for another file."""
    try:
        some = list(itertools.islice(_records(path, Faults(most=LOOKED)), LOOKED))
    except DataError:
        return None
    if not some:
        return None
    image = next((key for key in IMAGE if all(isinstance(record.get(key), str) for record in some)), "")
    found = meant(some) if image else None
    return None if found is None else (image, *found)


def meant(some: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """(question or '', answer): which columns of rows are what; None where none is an answer."""
    keys = [key for key in some[0] if all(key in record for record in some)] if some else []
    question = next((key for key in QUESTION if key in keys), "")
    answer = next((key for key in (ANSWER if question else (*CAPTION, *ANSWER)) if key in keys), "")
    return (question, answer) if answer and texts(some[0][answer]) else None


def asked_by(question: str) -> str:
    """The prompt for a column of questions; one that is called a prompt is sent as it is."""
    if question in AS_IT_IS:
        return "{question}"
    return "answer en {question}" if question else "caption en"


def told(image: str, question: str, answer: str) -> list[str]:
    """Which columns were taken for what."""
    notes = [f"the columns are {image} (image), {question or '-'} (question), {answer} (answer)"]
    if question and question not in AS_IT_IS:
        notes.append("the prompt is a guess: --prompt '{question}' sends the question as it is")
    return notes


def _records(path: Path, faults: Faults) -> Iterator[dict[str, Any]]:
    """The records that can be read; the others are left to `faults`. Raises DataError for what is no
    table."""
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        yield from (row for _, row in read_table(path, faults=faults))
    elif suffix == ".json":
        yield from (record.data for record in listed(_list(path), str(path), "records", faults))
    else:
        yield from (record.data for _, record in line_records(path, faults))


def _list(path: Path) -> Sequence[Any]:
    if not place.head(path).startswith(b"["):
        raise DataError(f"{path}: is no table")
    data = read_lists(path)
    return data if isinstance(data, Elements) else []


def texts(value: Any) -> list[str]:
    """A text, a number or a list of these as texts; [] for anything else."""
    values = value if isinstance(value, list) else [value]
    if any(isinstance(v, (dict, list, type(None))) for v in values):
        return []
    return [str(v) for v in values]
