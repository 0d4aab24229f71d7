"""What trainers of PaliGemma do differently: which conventions there are, how they are read, and what they
do to a prompt and to an image's preparation. Knows no model and no file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, cast

from evalkit.errors import UserError, nearest
from evalkit.types import Conventions, Parser, Preparation

PROTOCOLS = ("paper", "hf")
CHOICES: Mapping[str, tuple[Any, ...]] = {
    "prompt_mask": ("bidirectional", "causal", "causal_image"),
    "newline": (True, False),
    "bos": ("prompt", "image", "none"),
    "prompt_case": ("kept", "lower", "capital"),
    "question": ("kept", "answer_en", "bare"),
    "class_order": ("kept", "alphabetical"),
    "class_separator": (" ; ", "; ", ", ", " "),
    "resize": ("bilinear", "antialiased", "bicubic"),
    "pad": ("none", "white"),
    "bins": (1023, 1024),
    "eos": (True, False),
}
"""Each convention's values; of `class_separator`, which may be any text, those that are tried."""

NEUTRAL: Mapping[str, Any] = {
    "prompt_mask": "bidirectional", "newline": True, "bos": "prompt", "prompt_case": "kept",
    "question": "kept", "class_order": "kept", "class_separator": "kept", "bins": 1023, "eos": True,
}  # fmt: skip
"""What says nothing that would not be so anyway; `resize` and `pad` always count more than the task's."""

ANSWER = "answer en "
_VERB = re.compile(r"(answer|caption|cap|describe|detect|segment|ocr|question)\b", re.IGNORECASE)
_CLASSES = re.compile(r"((?:detect|segment) +)(.+)", re.IGNORECASE | re.DOTALL)
_BETWEEN = re.compile(r"\s*;\s*")


def read(said: Mapping[str, Any], where: str) -> tuple[str, Conventions]:
    """The protocol, '' where none is stated, and the conventions of `evalkit.yaml`'s content. Raises
    UserError that starts with `where`."""
    for key, value in said.items():
        allowed = ("protocol", *CHOICES)
        if key not in allowed:
            raise UserError(f"{where}: {key}: no such key{nearest(key, allowed)}")
        choices = PROTOCOLS if key == "protocol" else CHOICES[key]
        free = key == "class_separator" and isinstance(value, str)
        if not free and not any(value == c and type(value) is type(c) for c in choices):
            words = " or ".join(map(_written, choices))
            raise UserError(f"{where}: {key}: is {str(value)[:60]!r}; it must be {words}")
    conventions = {key: value for key, value in said.items() if key != "protocol"}
    return str(said.get("protocol", "")), Conventions(**conventions)


def _written(value: Any) -> str:
    """A value as YAML has it."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def over(conventions: Conventions, more: Conventions) -> Conventions:
    """Both, where `more` counts more."""
    return dataclasses.replace(conventions, **more.said)


def identity(conventions: Conventions) -> dict[str, Any]:
    """The part of a run's identity that conventions are: those that change something."""
    return {name: value for name, value in conventions.said.items() if value != NEUTRAL.get(name)}


# --- prompts ---------------------------------------------------------------------------------------


def prompt(text: str, trained: Conventions) -> str:
    """The prompt as the checkpoint knows it. Classes are what ` ; ` divides after `detect` or `segment`."""
    if trained.class_order == "alphabetical" or trained.class_separator not in (None, "kept"):
        text = _classes(text, trained)
    if trained.question == "bare" and text.lower().startswith(ANSWER):
        text = text[len(ANSWER) :]
    elif trained.question == "answer_en" and text.strip() and not _VERB.match(text):
        text = ANSWER + text
    if trained.prompt_case == "lower":
        return text.lower()
    return text[:1].upper() + text[1:] if trained.prompt_case == "capital" else text


def _classes(text: str, trained: Conventions) -> str:
    found = _CLASSES.fullmatch(text)
    if found is None:
        return text
    classes = _BETWEEN.split(found.group(2))
    if trained.class_order == "alphabetical":
        classes.sort(key=str.lower)
    separator = trained.class_separator
    return found.group(1) + (" ; " if separator in (None, "kept") else str(separator)).join(classes)


# --- images and boxes ------------------------------------------------------------------------------


def parser(usual: Parser, bins: Any) -> Parser:
    """A task's parser for a checkpoint whose boxes are in steps of 1/`bins`; None: as the task has it."""
    if bins is None or "divisor" not in {field.name for field in dataclasses.fields(cast(Any, usual))}:
        return usual
    return cast(Parser, dataclasses.replace(cast(Any, usual), divisor=bins))


def preparation(usual: Preparation, trained: Conventions) -> Preparation:
    """How images are prepared for the checkpoint, where `usual` is the protocol's way."""
    if trained.resize is not None:
        resize = "bicubic" if trained.resize == "bicubic" else "bilinear"
        usual = dataclasses.replace(usual, resize=resize, antialias=trained.resize != "bilinear")
    if trained.pad is not None:
        usual = dataclasses.replace(usual, pad="" if trained.pad == "none" else trained.pad)
    return usual
