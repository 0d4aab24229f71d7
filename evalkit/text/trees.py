"""Answers that are JSON: reading them, and comparing them field by field; knows no metric.

Donut's tags (`<s_total>12</s_total>`, `<sep/>` between the items of a list) are read as the JSON that they
stand for, since PaliGemma is fine-tuned on them too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from evalkit.text import numbers

DEEPEST = 64  # levels of an answer
ROOT = "(whole)"  # the field of an answer that is a single value
_OPENED = re.compile(r"<s_([^<>/]+)>")
Counts = dict[str, list[int]]
"""By field (`menu.name`; a list's items share one): how many values are right, given, wanted."""


def read(text: str) -> Any:
    """The JSON that a whole text is. Raises ValueError, also for what JSON lacks (NaN) or cannot hold, and
    for more than `DEEPEST` levels: what compares values calls itself for each."""
    plain = text.strip()

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    try:
        found = _tagged(plain) if plain.startswith("<s_") else json.loads(plain, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if sum(map(plain.count, ("[", "{", "<s_"))) > DEEPEST and _depth(found) > DEEPEST:
        raise ValueError("nested too deeply")
    return found


def _depth(value: Any) -> int:
    """How many lists and objects are inside each other."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, list | Mapping)]:
        depth += 1
        level = [i for each in level for i in (each.values() if isinstance(each, Mapping) else each)]
    return depth


def readable(text: str) -> bool:
    """Whether a whole text is JSON."""
    try:
        read(text)
    except ValueError:
        return False
    return True


def _tagged(text: str) -> Any:
    """Donut's tags as JSON. Raises ValueError where a tag is not closed."""
    if "<s_" not in text:
        texts = [item.strip() for item in text.split("<sep/>")]
        return texts if len(texts) > 1 else texts[0]
    items: list[dict[str, Any]] = [{}]
    place = 0
    while rest := text[place:].lstrip():
        place = len(text) - len(rest)
        if text.startswith("<sep/>", place):
            items.append({})
            place += len("<sep/>")
            continue
        opened = _OPENED.match(text, place)
        end = text.find(f"</s_{opened[1]}>", opened.end()) if opened else -1
        if opened is None or end < 0:
            raise ValueError(f"at {place}: a tag is not closed, or text stands outside of tags")
        items[-1][opened[1]] = _tagged(text[opened.end() : end].strip())
        place = end + len(f"</s_{opened[1]}>")
    return items if len(items) > 1 else items[0]


@dataclass(frozen=True)
class Rules:
    """When two values are the same, and how the items of lists are paired.

    `tolerance`: numbers may differ by this share of the wanted one, and a text that is a number is one
    (`"1,200"`); None: equal, and a text is a text. `days`: dates may differ by so many, in any spelling (one
    that may be two days is either); None: a date is a text. `lists`: matched (the pairing that makes most
    values right), ordered, or flat (values of one field in any item).
    """

    tolerance: float | None = None
    days: int | None = None
    lowercase: bool = False
    lists: Literal["matched", "ordered", "flat"] = "matched"

    def same(self, given: Any, wanted: Any) -> bool:
        """Whether two single values are the same."""
        if isinstance(given, bool) or isinstance(wanted, bool):
            return given is wanted
        a, b = self._number(given), self._number(wanted)
        if a is not None and b is not None:
            try:
                return bool(abs(a - b) <= (self.tolerance or 0.0) * abs(b))
            except OverflowError:  # a whole number of more digits than a float has
                return a == b
        if not isinstance(given, str) or not isinstance(wanted, str):
            return False
        if self.days is not None and any(
            abs((one - two).days) <= self.days
            for one in numbers.dates(given)
            for two in numbers.dates(wanted)
        ):
            return True
        one, other = str(given).strip(), str(wanted).strip()
        return one.lower() == other.lower() if self.lowercase else one == other

    def _number(self, value: Any) -> float | int | None:
        if isinstance(value, str):
            return numbers.number(value) if self.tolerance is not None else None
        return value if isinstance(value, int | float) else None

    def compare(self, given: Any, wanted: Any) -> Counts:
        """The counts of two JSON values. Null, "", [] and {} are no value; neither the order of keys nor
        blanks at the ends of a text count."""
        if self.lists == "flat":
            return self._flat(given, wanted)
        found: Counts = {}
        self._compare(given, wanted, "", found)
        return found

    def _compare(self, given: Any, wanted: Any, path: str, found: Counts) -> None:
        if isinstance(given, Mapping) and isinstance(wanted, Mapping):
            for key in {**wanted, **given}:
                self._compare(given.get(key), wanted.get(key), _below(path, key), found)
        elif isinstance(given, list) and isinstance(wanted, list):
            pairs = self._pairs(given, wanted, path)
            for i, j in pairs:
                self._compare(given[i], wanted[j], path, found)
            some, others = {i for i, _ in pairs}, {j for _, j in pairs}
            _alone([x for i, x in enumerate(given) if i not in some], path, 1, found)
            _alone([x for j, x in enumerate(wanted) if j not in others], path, 2, found)
        else:
            _alone(given, path, 1, found)
            _alone(wanted, path, 2, found)
            if _single(given) and _single(wanted) and self.same(given, wanted):
                found[path or ROOT][0] += 1

    def _pairs(self, given: list[Any], wanted: list[Any], path: str) -> list[tuple[int, int]]:
        if self.lists == "ordered" or given == wanted:
            return [(i, i) for i in range(min(len(given), len(wanted)))]
        from scipy.optimize import linear_sum_assignment

        right = np.zeros((len(given), len(wanted)))
        for i, a in enumerate(given):
            for j, b in enumerate(wanted):
                found: Counts = {}
                self._compare(a, b, path, found)
                right[i, j] = sum(counts[0] for counts in found.values()) + (1e-6 if i == j else 0)
        rows, columns = linear_sum_assignment(right, maximize=True)
        return list(zip(rows.tolist(), columns.tolist(), strict=True))

    def _flat(self, given: Any, wanted: Any) -> Counts:
        """Every value is right that the same field has anywhere, each once."""
        found: Counts = {}
        _alone(given, "", 1, found)
        _alone(wanted, "", 2, found)
        left = _values(wanted, "")
        for path, value in _values(given, ""):
            at = next((k for k, (p, v) in enumerate(left) if p == path and self.same(value, v)), None)
            if at is not None:
                del left[at]
                found[path or ROOT][0] += 1
        return found


def _single(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return not isinstance(value, Mapping | list) and value is not None


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else str(key)


def _values(value: Any, path: str) -> list[tuple[str, Any]]:
    """Every single value with its field."""
    if isinstance(value, Mapping):
        return [each for key, inner in value.items() for each in _values(inner, _below(path, key))]
    if isinstance(value, list):
        return [each for inner in value for each in _values(inner, path)]
    return [(path, value)] if _single(value) else []


def _alone(value: Any, path: str, column: int, found: Counts) -> None:
    """Counts every value as given (1) or wanted (2)."""
    for name, _ in _values(value, path):
        found.setdefault(name or ROOT, [0, 0, 0])[column] += 1


def wanted(texts: Sequence[str]) -> list[Any]:
    """The accepted answers as JSON; those that are none, as one text each."""
    return [read(text) if readable(text) else text for text in texts]


def given(answer: str | None) -> tuple[Any] | None:
    """An answer's JSON in a tuple; None where it is none."""
    try:
        return None if answer is None else (read(answer),)
    except ValueError:
        return None


def unread(answers: Sequence[str | None]) -> dict[str, int]:
    """The remark on texts that are no JSON, where there are any."""
    n = sum(answer is not None and not readable(answer) for answer in answers)
    return {"no JSON": n} if n else {}


def unfit(texts: Sequence[str]) -> str:
    """What is wrong with accepted answers that should be JSON, or ''."""
    text = next((text for text in texts if not readable(text)), None)
    return "" if text is None else f'is no JSON: {text[:60]!r}; write objects as {{"key": "value"}}'
