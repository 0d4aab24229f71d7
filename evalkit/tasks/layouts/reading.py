"""One way to read what lies somewhere: its layout, splits and classes, and a task for each verb."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from evalkit.data.same_images import Pictures
from evalkit.data.split_names import split_of
from evalkit.tasks.layouts import place
from evalkit.tasks.schema import composed

METRICS: Mapping[str, Sequence[str]] = {
    "detect": ("coco_ap", "detection_f1", "tide"),
    "segment": ("coco_ap(region='masks')", "detection_f1(region='masks')"),
    "caption": ("cider", "bleu", "rouge_l"),
    "text": ("exact_match(lowercase=True)", "anls"),
    "json": ("json_match", "json_fields"),
}
PARSERS = {
    "detect": "boxes", "segment": "masks(form='objects')", "caption": "text", "text": "text", "json": "json",
}  # fmt: skip
STEP = 16  # new tokens are rounded up to a multiple of this
MOST = 1024  # new tokens at most
SHOWN = 12  # classes that are listed
EVERYBODYS = ("annotations", "labels", "dataset", "data")
"""Names of folders that exporters give: they do not tell two datasets apart."""


@dataclass(frozen=True)
class Draft:
    """A task to be: what its prompts ask for, how many samples, and what its YAML holds."""

    verb: str
    samples: int
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Reading:
    """What was recognised below `root`: `file` is what names the data, `splits` each split's file."""

    layout: str
    root: Path
    file: str
    split: str
    splits: Mapping[str, str]
    drafts: Sequence[Draft]
    classes: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=tuple)
    doubts: Sequence[str] = field(default_factory=tuple)  # what makes a number doubtful; kept with the run
    wrong: Sequence[str] = field(default_factory=tuple)  # mistakes of the file; it is not run with these
    pictures: Callable[[str], Pictures] | None = field(default=None, compare=False)  # of a split
    pick: str = ""  # how it is taken where there are others; default: by naming its file

    @property
    def samples(self) -> int:
        """All samples of the split."""
        return sum(draft.samples for draft in self.drafts)

    def lines(self) -> list[str]:
        """Three lines for people, and one for each thing that is odd."""
        others = [place.shown(split) for split in self.splits if split != self.split]
        more = f"; there is also {', '.join(others)} (--split)" if others else ""
        verbs = ", ".join(f"{d.samples:,} {d.verb}" for d in self.drafts)
        found = [
            f"layout   {self.layout}: {self.root / self.file}",
            f"split    {place.shown(self.split)}, {place.counted(self.samples, 'sample')} ({verbs}){more}",
        ]
        if self.classes:
            rest = f" and {len(self.classes) - SHOWN} more" if len(self.classes) > SHOWN else ""
            found.append(f"classes  {len(self.classes)}: {', '.join(self.classes[:SHOWN])}{rest}")
        found += [f"note     {note}" for note in self.notes]
        return found + [f"warning  {doubt}" for doubt in self.doubts]

    def name(self, draft: Draft) -> str:
        """The task's name: the folder's, the verb where there are several, and the split. Letters of every
        script are kept, so that `Möbel` and `Mäbel` are two."""
        root = self.root.resolve()
        folders = [*Path(self.file).parent.parts[:1], root.name]
        if split_of(root.name):
            folders.append(root.parent.name)
        called = next((name for name in folders if name not in EVERYBODYS and not split_of(name)), root.name)
        parts = [called, draft.verb if len(self.drafts) > 1 else "", self.split]
        return (
            "_".join(filter(None, (re.sub(r"[^\w.\-]+", "_", composed(p)).strip("_.-") for p in parts)))
            or "mine"
        )


LICENSE = "your own data"
"""Of a task that was made of what lies in a folder; by it such a task is known later."""


def task(
    verb: str, *, about: str, spelled: str, split: str, source: Mapping[str, Any], prompt: str, tokens: int,
    answers: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """A task file's content; `tokens`: about how many the longest target has. `answers` of a text task that
    are all JSON objects or lists are compared as such."""
    kind = "json" if verb == "text" and answers and all(map(_is_json, answers)) else verb
    new = min(MOST, math.ceil((tokens + 1) / STEP) * STEP)
    return {
        "version": 1,
        "about": about,
        "license": LICENSE,
        "data": {"format": spelled, "split": split or "all", "sources": [dict(source)]},
        "prompt": prompt,
        "protocol": "hf",
        "decode": {"text_length": None, "max_new_tokens": new},
        "parser": PARSERS[kind],
        "metrics": list(METRICS[kind]),
    }


def _is_json(text: str) -> bool:
    if text.strip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def text_tokens(texts: Iterable[str]) -> int:
    """About how many tokens the longest text has, rather too many: Gemma's have four letters on average."""
    return max((math.ceil(len(text.encode()) / 3) + text.count(" ") // 4 + 2 for text in texts), default=16)


def object_tokens(objects: Iterable[Iterable[str]], masks: bool = False) -> int:
    """The same for images with these labels, a location of four tokens and perhaps a mask of sixteen each."""
    one = 4 + 16 * masks + 1
    return max((sum(one + math.ceil(len(label) / 3) + 1 for label in some) for some in objects), default=16)


def dumped(content: Mapping[str, Any]) -> str:
    """A task file's text."""
    text: str = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=100)
    return text
