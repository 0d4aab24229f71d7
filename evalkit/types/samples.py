"""A dataset's samples and where they are: images, targets and their kinds; and what a model gets of one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evalkit.types.tasks import Decode, Preparation

Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something drawn on an image before a model sees it; part of the prompts' digest.

    `outline`: an edge of one pixel, drawn after resizing. `label`: a white box with `text`, drawn at
    the original size. `box` is (y0, x0, y1, x1) in `unit`: fractions of the sides, pixels of the
    original, or pixels of a canvas that is `canvas` high and is scaled to the image's height.
    """

    kind: Literal["outline", "label"]
    box: tuple[float, float, float, float]
    unit: Literal["fractions", "pixels", "canvas"] = "fractions"
    canvas: float = 0.0
    colour: tuple[int, int, int] = (255, 0, 0)
    text: str = ""
    font: str = ""  # a TrueType file; "" is Pillow's own font


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where one image is, without its pixels: a file, or a member of an archive, table or video."""

    path: str
    member: str = ""
    marks: tuple[Mark, ...] = ()
    turn: int = 0  # quarter turns counter-clockwise that make it upright, where the dataset states them
    within: tuple[str, ...] = field(default=(), repr=False, compare=False)  # places that it may not leave

    def __str__(self) -> str:
        return f"{self.path}::{self.member}" if self.member else self.path


class Remarks:
    """What is odd about a dataset and costs only itself: of each kind the first, and how many there are."""

    __slots__ = ("_found", "_usual")

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, int]] = {}
        self._usual = set[str]()

    def add(self, kind: str, text: str, usual: bool = False) -> None:
        """`text`: `file: line: what is odd; what is done`. Only the first of a `kind` is kept. `usual`:
        nothing is left out, and it is seldom a mistake."""
        first, n = self._found.get(kind, (text, 0))
        self._found[kind] = first, n + 1
        if usual:
            self._usual.add(kind)

    def said(self) -> tuple[str, ...]:
        """A sentence for each kind."""
        return tuple(map(self._sentence, self._found))

    def notes(self) -> frozenset[str]:
        """Those of the sentences that say what is usual."""
        return frozenset(map(self._sentence, self._usual))

    def _sentence(self, kind: str) -> str:
        text, n = self._found[kind]
        return text + (f" (the first of {n:,} such)" if n > 1 else "")


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset found on disk: one entry of a task's `sources` with the root it was found under."""

    root: Path
    entry: Mapping[str, Any]
    task: str = ""
    used: frozenset[str] | None = None  # kinds of target that the task's metrics take; None: not known
    remarks: Remarks = field(default_factory=Remarks, compare=False)  # filled by a format while it reads

    def uses(self, *kinds: str) -> bool:
        """Whether a target of one of these kinds may be scored. What is not used is not validated."""
        return self.used is None or not self.used.isdisjoint(kinds)

    def path(self, key: str) -> Path:
        """The file or folder that the entry's `key` names (KeyError when the entry lacks it)."""
        return self.root / str(self.entry[key])


@dataclass(frozen=True, slots=True)
class Sample:
    """One question to the model, with its target.

    `fields` are what a prompt may name; `target` is plain data (strings, numbers, tuples, lists,
    dicts) in the shape that the format documents and the metric reads; `group` is what scores are
    broken down by; samples with the same `cluster` are resampled together (the image's path, until
    the image is read); `choices` are the answers offered, where there are any, spelled like the target.
    """

    id: str
    images: tuple[ImageRef, ...]
    fields: Mapping[str, str]
    target: Any
    size: Size | None = None  # of the original image, where the annotations have it
    group: str = ""
    cluster: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """What a model gets of a sample: no target, so a backend cannot cheat."""

    id: str
    images: tuple[ImageRef, ...]
    prompt: str
    preparation: Preparation
    decode: Decode
    choices: tuple[str, ...] = ()
    whole: str = ""  # of a sample with several calls: all prompts, a line each
    call: int = 0  # its number among the calls of its sample

    @property
    def further(self) -> bool:
        """Whether it is a call after the sample's first; what is recorded of a sample answers that."""
        return self.call > 0

    @property
    def seed(self) -> int:
        """The 64-bit seed of this sample's random numbers, from `decode.seed` and the id: batch, order,
        shard and resume do not change what is sampled."""
        digest = hashlib.sha256(f"{self.decode.seed}\0{self.id}".encode()).digest()
        return int.from_bytes(digest[:8], "big")


TARGETS: Mapping[str, str] = {
    "texts": "accepted answers or references",
    "pair": "answers with the name of a pair",
    "type": "answers with the type of the question",
    "question": "answers with the id of the question",
    "box": "one box",
    "mask": "one mask",
    "objects": "all objects of an image, as boxes",
    "object masks": "all objects of an image, as masks",
    "words": "the words in an image with their outlines",
}
"""The kinds of target: a format says which it `gives`, a metric which it `takes`."""


def target_kinds(target: Any) -> frozenset[str]:
    """Which kinds a target is; none for a sample without target (None, or an empty tuple).

    A tuple holds accepted texts. A mapping is `texts` where it has `answers`, and then also what its keys
    `pair`, `type` and `id` say; `box`, `mask` (`segmentation`), `objects` and `words` by the keys of these
    names; `object masks` where every object has a `segmentation`.
    """
    if isinstance(target, Mapping):
        found = {name for name in ("box", "objects", "words") if name in target}
        if "answers" in target:
            found |= {"texts"} | {name for name in ("pair", "type") if name in target}
            found |= {"question"} if "id" in target else set()
        if "segmentation" in target:
            found.add("mask")
        if "objects" in target and all("segmentation" in each for each in target["objects"]):
            found.add("object masks")
        return frozenset(found)
    return frozenset({"texts"} if target else ())
