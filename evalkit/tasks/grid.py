"""The axes of a sweep: which settings of a task and of a model are tried, and how prompts are varied."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evalkit.errors import UserError, nearest
from evalkit.options.model import MODEL_OPTIONS
from evalkit.types import Task

LANGUAGE = "answer en "  # how the papers' prompts of questions begin, and the mix checkpoints'
MOST = 64  # settings of one task
SHORT = {"precision": "dtype"}  # an axis by the name that people use
UNCHANGED = "default"  # a value: as the task or the model has it
USUAL = {"precision": ("float32", "bfloat16"), "classes_per_call": (UNCHANGED, "1", "5")}


@dataclass(frozen=True)
class Setting:
    """One point of a grid: what each axis is set to, and what that changes."""

    values: tuple[str, ...] = ()  # one an axis, for people
    task: Mapping[str, str] = field(default_factory=dict)  # keys of the task
    model: Mapping[str, str] = field(default_factory=dict)  # options of the model
    spec: str = ""  # another checkpoint

    def __add__(self, other: Setting) -> Setting:
        return Setting(
            self.values + other.values, {**self.task, **other.task}, {**self.model, **other.model},
            other.spec or self.spec,
        )  # fmt: skip


def axes(over: Sequence[str], models: Sequence[str], prompts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """`--over` as axes with their values, in order; an axis that is named twice has the values of both.

    Raises UserError for an axis without two values. `prompt` has none here: they depend on the task.
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in over:
        key, mark, said = text.partition("=")
        key = key.strip()
        values = tuple(v.strip() for v in said.split(",") if v.strip()) if mark else USUAL.get(key, ())
        if key == "resolution" and not values:
            values = tuple(models) if len(models) > 1 else ()
        if key == "prompt" and mark:
            raise UserError(f"--over {text}: say texts with --prompt TEXT, each its own, and --over prompt")
        found[key] = tuple(dict.fromkeys((*found.get(key, ()), *values)))
    if prompts and "prompt" not in found:
        found["prompt"] = ()
    if not found:
        raise UserError("sweep: say what is varied with --over, e.g. --over prompt or --over precision")
    if len(models) > 1 and found.get("resolution") != tuple(models):
        raise UserError(
            "sweep: several --model are the values of --over resolution; else give one: `evalkit compare` "
            "compares checkpoints"
        )
    for key, values in found.items():
        if key != "prompt" and len(values) < 2:
            raise UserError(_too_few(key))
    return found


def _too_few(key: str) -> str:
    if key == "resolution":
        return (
            "--over resolution: a checkpoint has one; name checkpoints with --model A --model B, or for a "
            "model that takes any say --over resolution=224,448"
        )
    known = ("prompt", "resolution", "precision", *sorted(MODEL_OPTIONS))
    hint = "" if "." in key else nearest(key, known)
    return f"--over {key}: give at least two values, as in --over {key}=A,B{hint}"


def settings(task: Task, found: Mapping[str, tuple[str, ...]], prompts: Sequence[str]) -> list[Setting]:
    """Every combination of the axes' values for a task; the first is what the others are compared with."""
    columns = [_column(task, key, values, prompts) for key, values in found.items()]
    count = 1
    for column in columns:
        count *= len(column)
    if count > MOST:
        raise UserError(
            f"sweep: {count:,} settings of {task.name}; at most {MOST}: vary fewer at once, or fewer values"
        )
    return [sum(parts, Setting()) for parts in itertools.product(*columns)]


def _column(task: Task, key: str, values: Sequence[str], prompts: Sequence[str]) -> list[Setting]:
    if key == "prompt":
        texts = dict.fromkeys((task.prompt, *(prompts or variants(task.prompt))))
        return [Setting((repr(text),), {"prompt": text} if text != task.prompt else {}) for text in texts]
    option = SHORT.get(key, key)
    if option in MODEL_OPTIONS:
        if key == "resolution" and not all(v.isdecimal() for v in values):
            return [Setting((v,), spec=v) for v in values]
        return [Setting((v,), model={} if v == UNCHANGED else {option: v}) for v in values]
    return [Setting((v,), {} if v == UNCHANGED else {key: v}) for v in values]


def variants(prompt: str) -> list[str]:
    """A prompt as people write it otherwise: with or without `answer en`, in lower case, with a second line
    break (every protocol adds one)."""
    if prompt.startswith(LANGUAGE):
        found = [prompt.removeprefix(LANGUAGE)]
    else:
        found = [LANGUAGE + prompt] if "{question}" in prompt else []
    lower = re.sub(r"\{(\w+)\}", r"{\1:lower}", prompt)
    literal = re.split(r"(\{[^{}]*\})", lower)
    found.append("".join(p if p.startswith("{") else p.lower() for p in literal))
    return [text for text in (*found, prompt + "\n") if text != prompt]
