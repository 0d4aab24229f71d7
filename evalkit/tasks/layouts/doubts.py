"""What makes a number of somebody's own data doubtful: images of the training in the test split, images, rows
and objects that are there twice, two spellings of one class."""

from __future__ import annotations

import os
import re
import unicodedata
from array import array
from collections.abc import Callable, Hashable, Iterable, Sized
from pathlib import Path

import numpy as np

from evalkit.data import folders, same_images, sources
from evalkit.data.same_images import Pictures
from evalkit.errors import UserError
from evalkit.tasks.layouts import place
from evalkit.tasks.layouts.place import Place

NAMED = 3  # examples that are named
SPELLINGS = 8  # classes of several spellings that are named


def images(root: Path, splits: Iterable[str], split: str, of: Callable[[str], Pictures]) -> list[str]:
    """Which images of a split are also in another one, or there twice, by content. `of` gives a split's
    images; one that cannot be read is left out, and said."""
    found: dict[str, Pictures] = {}
    unread = []
    for each in dict.fromkeys([split, *splits]):
        try:
            found[each] = of(each)
        except UserError as error:
            unread.append(f"whether images of {place.shown(each)} are in {place.shown(split)} too: {error}")
    if split not in found:
        return []
    lost = found[split].missing()
    if lost:
        are = "image of {} is" if len(lost) == 1 else "images of {} are"
        few = ", ".join(folders.below(path, str(root)) for path in lost[:NAMED])
        unread.append(
            f"{len(lost):,} {are.format(place.shown(split))} not there: {few}{_more(lost)}"
            f"{sources.missing(lost)}"
        )
    groups = same_images.groups(found, split)

    def shown(path: str) -> str:
        return folders.below(path, str(root))

    said = [_shared(groups, split, other, shown) for other in found if other != split]
    return [*filter(None, [*said, _repeated(groups, split, shown)]), *unread]


def _shared(
    groups: list[list[same_images.Named]], split: str, other: str, shown: Callable[[str], str]
) -> str:
    """`12 images of test are in train too, by content: ...`, or ''."""
    pairs = []
    for group in groups:
        theirs = next((name for where, name in group if where == other), None)
        pairs += [(name, theirs) for where, name in group if where == split and theirs is not None]
    if not pairs:
        return ""
    each = [shown(a) if a == b else f"{shown(a)} = {shown(b)}" for a, b in pairs[:NAMED]]
    are = "image of {} is" if len(pairs) == 1 else "images of {} are"
    why = {"train": "the model may have seen them", "valid": "the checkpoint may have been chosen on them"}
    return (
        f"{len(pairs):,} {are.format(place.shown(split))} in {place.shown(other)} too, by content"
        f"{'; ' + why[other] if other in why else ''}: {', '.join(each)}{_more(pairs)}"
    )


def _repeated(groups: list[list[same_images.Named]], split: str, shown: Callable[[str], str]) -> str:
    """`2 images of test are there more than once: ...`, or ''."""
    mine = [[shown(name) for where, name in group if where == split] for group in groups]
    mine = [group for group in mine if len(group) > 1]
    if not mine:
        return ""
    are = "image of {} is" if len(mine) == 1 else "images of {} are"
    each = ", ".join(" = ".join(group[:NAMED]) for group in mine[:NAMED])
    return (
        f"{len(mine):,} {are.format(place.shown(split))} there more than once, by content: {each}"
        f"{_more(mine)}"
    )


def repeated(what: str, where: str, records: Callable[[], Iterable[tuple[str, Hashable]]]) -> list[str]:
    """A sentence about records that say the same as one before. `records` gives (place, what it says) of
    each, and again where two may be alike; `what` one of them is called."""
    hashes = np.array(array("q", (hash(content) for _, content in records())))
    hashes.sort()
    alike = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    first: dict[Hashable, str] = {}
    again = []
    for at, content in records() if alike else ():
        if hash(content) in alike:
            before = first.setdefault(content, at)
            if before is not at:
                again.append((before, at))
    if not again:
        return []
    each = ", ".join(f"{at} = {before}" for before, at in again[:NAMED])
    say = "says" if len(again) == 1 else "say"
    return [f"{where}: {place.counted(len(again), what)} {say} the same as one before: {each}{_more(again)}"]


def spellings(classes: Iterable[str]) -> list[str]:
    """Classes that are one but for capitals, blanks, hyphens or the way in which Unicode spells a letter."""
    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys(classes):
        plain = unicodedata.normalize("NFKC", name).casefold()
        alike.setdefault(" ".join(re.split(r"[\s_\-]+", plain)).strip(), []).append(name)
    several = [some for some in alike.values() if len(some) > 1]
    return [f"{' and '.join(map(repr, some))} are probably one class" for some in several[:SPELLINGS]]


def unreadable(classes: Iterable[str]) -> list[str]:
    """Classes whose names an answer cannot spell, since it ends a label at these signs."""
    cut = [name for name in dict.fromkeys(classes) if re.search("[;<\n]", name)]
    if not cut:
        return []
    few = ", ".join(map(repr, cut[:NAMED]))
    has = "class has a sign that ends" if len(cut) == 1 else "classes have a sign that ends"
    return [
        f"{len(cut):,} {has} a label in PaliGemma's text ('<', ';'), so no answer is right: {few}{_more(cut)}"
    ]


def separated(classes: Iterable[str]) -> list[str]:
    """Classes whose names end in a comma, which was most likely meant to part them."""
    cut = [name for name in dict.fromkeys(classes) if name.rstrip().endswith(",")]
    if not cut:
        return []
    few = ", ".join(map(repr, cut[:NAMED]))
    ends = "class ends" if len(cut) == 1 else "classes end"
    return [f"{len(cut):,} {ends} in a comma; PaliGemma's text parts objects by ' ; ': {few}{_more(cut)}"]


def files(folder: str) -> Pictures:
    """The images of a folder and of those in it."""
    return same_images.Files([p for p in folders.files(folder) if folders.suffix(p) in folders.IMAGES])


def named(there: Place, file: str, names: Iterable[str]) -> Pictures:
    """The images that a file names."""
    every = [name.replace("\\", "/") for name in names]
    folder = there.folder_with(every[0], file) if every else None
    base = os.path.join(there.root, os.path.dirname(file) if folder is None else folder)
    return same_images.Files([os.path.join(base, sources.below(Path(base), name)) for name in every])


def _more(some: Sized) -> str:
    return f" and {len(some) - NAMED:,} more" if len(some) > NAMED else ""
