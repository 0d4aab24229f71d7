"""The samples' columns as the page filters and sorts by them: typed arrays, packed one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.files import encoded

NONE = {"Uint16Array": 0xFFFF, "Uint32Array": 0xFFFFFFFF}
_ALIGNED = 8


@dataclass
class Labels:
    """Names to codes, in the order in which they come."""

    names: dict[str, int] = field(default_factory=dict)

    def code(self, name: str) -> int:
        return self.names.setdefault(name, len(self.names))


@dataclass
class Column:
    """One column. `values` are a sample each: floats, codes (-1 none), bits, or lists of codes."""

    name: str
    kind: str  # number | code | flags | codes | text
    title: str
    values: Any
    labels: Sequence[str] | None = None
    run: int | None = None

    def of(self, at: npt.NDArray[np.intp]) -> Column:
        """The column of these samples alone, with the same labels."""
        known = isinstance(self.values, np.ndarray)
        return replace(self, values=self.values[at] if known else [self.values[i] for i in at.tolist()])


def pack(columns: Iterable[Column], n: int) -> tuple[dict[str, Any], bytes]:
    """The head that says where each column lies, and the bytes of all of them."""
    heads, data = [], bytearray()

    def add(block: bytes) -> dict[str, int]:
        data.extend(bytes(-len(data) % _ALIGNED))
        place = {"offset": len(data), "length": len(block)}
        data.extend(block)
        return place

    for column in columns:
        head: dict[str, Any] = {
            "name": column.name,
            "kind": column.kind,
            "title": column.title,
            "run": column.run,
        }
        if column.labels is not None:
            head["labels"] = list(column.labels)
        if column.kind == "text":
            heads.append(head | add(encoded("\n".join(escaped(each) for each in column.values))))
        elif column.kind == "number":
            heads.append(head | {"type": "Float32Array"} | add(np.asarray(column.values, "<f4").tobytes()))
        elif column.kind == "flags":
            heads.append(head | {"type": "Uint32Array"} | add(np.asarray(column.values, "<u4").tobytes()))
        elif column.kind == "code":
            kind, array = _codes(np.asarray(column.values, dtype=np.int64))
            heads.append(head | {"type": kind} | add(array.tobytes()))
        else:
            starts = np.cumsum([0, *map(len, column.values)]).astype("<u4")
            kind, array = _codes(np.array([c for some in column.values for c in some], dtype=np.int64))
            heads.append(head | {"type": kind} | add(starts.tobytes()) | {"values": add(array.tobytes())})
    return {"n": n, "columns": heads}, bytes(data)


def _codes(values: npt.NDArray[np.int64]) -> tuple[str, npt.NDArray[Any]]:
    """Codes in as few bytes as they need; -1 becomes the highest number."""
    kind = "Uint16Array" if values.max(initial=0) < NONE["Uint16Array"] else "Uint32Array"
    array = np.where(values < 0, NONE[kind], values)
    return kind, array.astype("<u2" if kind == "Uint16Array" else "<u4")


def escaped(name: str) -> str:
    """An id on one line; what a line break would end is written as `\\n`, a backslash as two."""
    return name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
