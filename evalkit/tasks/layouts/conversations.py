"""Conversations: LLaVA's `conversations`, `messages` as chat models and ms-swift have them, ShareGPT."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from evalkit import registry
from evalkit.data import instructions
from evalkit.data.faults import Faults, Faulty
from evalkit.data.readers import read_lines
from evalkit.data.same_images import Pictures
from evalkit.data.streamed import read_lists
from evalkit.errors import DataError
from evalkit.tasks.layouts import doubts, place
from evalkit.tasks.layouts.place import Place
from evalkit.tasks.layouts.reading import Draft, Reading, task, text_tokens
from evalkit.types import Sample, Source

NAME = "conversations"
LOOKED = 50  # lines, of which one must be right
KEYS = ("conversations", "messages")


def look(there: Place, asked: str | None) -> list[Reading]:
    """One reading for the files whose records are lists of turns."""
    files = [name for name in there.named(".json", ".jsonl", ".jsonlines") if _is_one(there, name)]
    return [_reading(there, splits, asked) for splits in place.by_split(files, asked)]


def _reading(there: Place, splits: dict[str, str], asked: str | None) -> Reading:
    split = place.preferred(splits, asked)
    name = splits[split]
    samples, source, read, wrong = _read(there, name)
    notes = list(read.remarks.said())
    boxes = sum(instructions.verb(s.fields["question"]) in ("detect", "segment") for s in samples)
    if boxes:
        notes.append(
            f"{boxes:,} questions ask for boxes or masks; their answers are compared as text here, "
            "as boxes where they are PaliGemma lines"
        )
    answers = [text for s in samples for text in s.target]
    content = task(
        "text", about=f"The conversations of {name}", spelled=NAME, split=split, source=source,
        prompt="{question}", tokens=text_tokens(answers), answers=answers,
    )  # fmt: skip

    def told() -> Iterator[tuple[str, Hashable]]:
        return ((s.id, (s.images, s.fields["question"], s.target)) for s in samples)

    return Reading(
        NAME, there.root, name, split, splits, [Draft("text", len(samples), content)], (), notes,
        doubts.repeated("record", name, told), wrong, lambda each: _pictures(there, splits[each]),
    )  # fmt: skip


def _read(there: Place, name: str) -> tuple[list[Sample], dict[str, Any], Source, tuple[str, ...]]:
    """A file's samples, its source as a task names it, what was said of it, and what is wrong with it."""
    source: dict[str, Any] = {"path": name}
    read = Source(there.root.absolute(), source)
    samples, wrong = list[Sample](), tuple[str, ...]()
    try:
        samples.extend(registry.make("formats", NAME).samples(read, ""))  # those before a mistake are kept
    except Faulty as error:
        if not samples:
            raise
        wrong = error.said
    shown = next((s.images[0].path for s in samples if s.images), "")
    beside = str((there.root / name).absolute().parent)
    if shown:
        below = shown.removeprefix(f"{beside}/")
        folder = there.folder_with(below, name)
        if folder is not None and not (there.root / name).parent.joinpath(below).exists():
            source["images"] = folder or "."
    return samples, source, read, wrong


def _pictures(there: Place, name: str) -> Pictures:
    """The images of a file's records."""
    samples, _, _, _ = _read(there, name)
    beside = str((there.root / name).absolute().parent)
    return doubts.named(there, name, [i.path.removeprefix(f"{beside}/") for s in samples for i in s.images])


def _is_one(there: Place, name: str) -> bool:
    path = there.root / name
    head = place.head(path)
    if not any(f'"{key}"'.encode() in head for key in KEYS):
        return False
    try:
        if name.lower().endswith(".json") and head.startswith(b"["):
            records = read_lists(path)
            first = records[0] if records else None
        else:
            first = next((data for _, data in read_lines(path, Faults(most=LOOKED))), None)
    except DataError:
        return False
    return isinstance(first, dict) and any(isinstance(first.get(key), list) for key in KEYS)
