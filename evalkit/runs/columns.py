"""The columns of rows.jsonl, filled line by line, and a metric's rows as it reads them."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evalkit import registry
from evalkit.types import Rows

_MANY = 1 << 16  # texts among which equal ones are looked for


class Columns:
    """The columns of rows.jsonl, filled line by line: a line as it is read needs ten times the memory. Equal
    values are one object, as far as that saves memory."""

    def __init__(self, spelled: Mapping[str, str]) -> None:
        self._spelled = spelled
        self._texts: dict[str, list[Any]] = {
            name: [] for name in ("ids", "images", "clusters", "groups", "texts", "invalid")
        }
        self._rows = {short: _Rows() for short in spelled}
        self._same: dict[str, str] = {}

    def add(self, line: Mapping[str, Any]) -> None:
        for short, rows in self._rows.items():
            rows.add(line["rows"][short])
        image, texts = self._shared(line["image"]), self._texts
        texts["ids"].append(line["id"])
        texts["images"].append(image)
        texts["clusters"].append(self._shared(line.get("cluster") or "") or image or line["id"])
        texts["groups"].append(self._shared(line["group"]))
        texts["texts"].append(self._shared(line["text"]))
        texts["invalid"].append(bool(line.get("invalid", line["answer"] is None)))

    def _shared(self, text: str) -> str:
        if len(self._same) >= _MANY:
            self._same.clear()  # equal ones are near each other, or few
        return self._same.setdefault(text, text)

    def done(self) -> dict[str, Any]:
        """The columns by their names as fields."""
        groups = self._texts["groups"]
        rows = {full: as_read(self._rows[s].all(), full, groups) for s, full in self._spelled.items()}
        return {**{name: tuple(column) for name, column in self._texts.items()}, "rows": rows}


class _Rows:
    """A metric's rows, as numbers as long as all are lists of as many numbers."""

    def __init__(self) -> None:
        self._numbers, self._width = array("d"), 0
        self._any: list[Any] | None = None

    def add(self, row: Any) -> None:
        if self._any is not None:
            self._any.append(row)
        elif type(row) is list and row and set(map(type, row)) <= {int, float} and self._fits(len(row)):
            self._numbers.extend(row)
        else:
            self._any = [*self._array(), row]

    def _fits(self, width: int) -> bool:
        self._width = self._width or width
        return width == self._width

    def _array(self) -> Any:
        return np.frombuffer(self._numbers, np.float64).reshape(-1, self._width) if self._numbers else []

    def all(self) -> Any:
        """The rows as they were read, numbers as an array."""
        return self._array() if self._any is None else self._any


def as_read(read: Any, spelling: str = "", groups: Sequence[str] = ()) -> Rows:
    """Rows as the metric reads them; for a mean over groups they need each sample's group."""
    values: list[Any] = read
    if len(values) and isinstance(values[0], dict):
        if not all(isinstance(value, dict) for value in values):
            raise ValueError("rows of different kinds")
        return values
    if len(values) and isinstance(values[0], list) and any(isinstance(v, str) for v in values[0]):
        if not all(type(v) is list and len(v) == 2 and type(v[0]) is str and type(v[1]) in (int, float)
                   for v in values):  # fmt: skip
            raise ValueError("rows of different kinds")
        return values  # with the type of each question
    rows = np.asarray(values, dtype=np.float64)
    if not spelling.startswith("group_mean("):
        return rows
    spread: Rows = registry.make("metrics", spelling).spread(rows, groups)
    return spread
