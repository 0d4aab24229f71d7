"""JSON lines of {"image", "prefix", "suffix"}: PaliGemma's own training data, several verbs in one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evalkit.data import instructions
from evalkit.data.readers import read_lines
from evalkit.errors import DataError
from evalkit.geometry import location_tokens
from evalkit.tasks.layouts import place
from evalkit.tasks.layouts.place import Place
from evalkit.tasks.layouts.reading import Draft, Reading, object_tokens, task, text_tokens

NAME = "PaliGemma lines"


def look(there: Place, asked: str | None) -> list[Reading]:
    """One reading for all files of a folder whose first line has prefix and suffix."""
    files = [name for name in there.named(".jsonl", ".json") if _is_one(there.root / name)]
    if not files:
        return []
    splits = {place.split_of(name): name for name in files}
    if len(splits) < len(files):  # two files of one split: each is a reading of its own
        return [found for name in files for found in _reading(there, {place.split_of(name): name}, asked)]
    return _reading(there, splits, asked)


def _reading(there: Place, splits: dict[str, str], asked: str | None) -> list[Reading]:
    split = place.preferred(splits, asked)
    name = splits[split]
    lines = [data for _, data in read_lines(there.root / name)]
    wrong = [n for n, d in enumerate(lines, 1) if not _complete(d)]
    notes = _odd(there.root / name, wrong, len(lines))
    kept = [line for line in lines if _complete(line)]
    source: dict[str, Any] = {"path": name}
    folder = there.folder_with(kept[0]["image"].replace("\\", "/"), name)
    if folder is not None and folder != str(Path(name).parent).removeprefix("."):
        source["images"] = folder or "."
    drafts = []
    for verb in instructions.VERBS:
        mine = [line for line in kept if instructions.verb(line["prefix"]) == verb]
        if mine:
            drafts.append(_draft(verb, mine, name, split, source))
    objects = [line for line in kept if instructions.verb(line["prefix"]) in ("detect", "segment")]
    classes, spelled = _classes(objects)
    return [Reading(NAME, there.root, name, split, splits, drafts, classes, [*notes, *spelled])]


def _draft(verb: str, lines: list[dict[str, Any]], name: str, split: str, source: dict[str, Any]) -> Draft:
    suffixes = [str(line["suffix"]) for line in lines if line.get("suffix") is not None]
    if verb in ("detect", "segment"):
        labels = ([each.label for each in location_tokens.objects(text)] for text in suffixes)
        tokens, count = object_tokens(labels, verb == "segment"), len(lines)
    else:
        tokens = text_tokens(suffixes)
        count = len({(line["image"], line["prefix"]) for line in lines})
    about = f"The `{verb}` lines of {name}" if verb != "text" else f"The questions of {name}"
    spelled = f"paligemma_lines(verb='{verb}')"
    content = task(
        verb, about=about, spelled=spelled, split=split, source=source, prompt="{prefix}", tokens=tokens
    )
    return Draft(verb, count, content)


def _classes(lines: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The classes of prefixes and suffixes, and what is odd about them."""
    found: Counter[str] = Counter()
    unasked: Counter[str] = Counter()
    for line in lines:
        asked = instructions.classes(line["prefix"])
        found.update(dict.fromkeys(asked, 0))
        for each in location_tokens.objects(str(line.get("suffix") or "")):
            found[each.label] += 1
            unasked[each.label] += each.label not in asked
    notes = [
        f"class {name!r} is in {n:,} suffixes whose prefix does not ask for it"
        for name, n in unasked.items()
        if n
    ]
    alike: dict[str, list[str]] = {}
    for name in found:
        alike.setdefault(" ".join(name.lower().replace("-", " ").replace("_", " ").split()), []).append(name)
    notes += [
        f"{' and '.join(map(repr, names))} are probably one class"
        for names in alike.values()
        if len(names) > 1
    ]
    return list(found), notes[:8]


def _is_one(path: Path) -> bool:
    """Whether the first line has image, prefix and suffix."""
    try:
        return next((_complete(data) for _, data in _first(path)), False)
    except DataError:
        return False


def _first(path: Path) -> Iterator[tuple[int, Any]]:
    yield from read_lines(path)


def _complete(line: Any) -> bool:
    return (
        isinstance(line, dict)
        and isinstance(line.get("image"), str)
        and isinstance(line.get("prefix"), str)
        and "suffix" in line
        and "answer" not in line
    )


def _odd(path: Path, wrong: list[int], count: int) -> list[str]:
    if not wrong:
        return []
    return [
        f"{path}: line {wrong[0]}: lacks image, prefix or suffix, as {len(wrong):,} of {count:,} lines do"
    ]
