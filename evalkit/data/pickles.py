"""Reads pickles that hold only plain containers, numbers and strings (REFER's `refs(*).p`).

A pickle that names a class is refused before the class is imported.
"""

from __future__ import annotations

import gc
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from evalkit import door
from evalkit.errors import DataError

MAX_BYTES = 1 << 30
MAX_TUPLES = 5_000  # hashing deeply nested tuples recurses in C and may crash; REFER's files hold none

_PLAIN = """
PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4
FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
BINBYTES SHORT_BINBYTES BINBYTES8 LIST EMPTY_LIST APPEND APPENDS DICT EMPTY_DICT SETITEM SETITEMS
TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_SET ADDITEMS FROZENSET
GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE
"""
_NAMING = "GLOBAL", "STACK_GLOBAL", "INST"  # kept, so that `find_class` can report what was refused


class _Refused(Exception):
    pass


class _Plain(pickle._Unpickler):
    """The standard library's unpickler in Python, restricted to the plain operations.

    The C version is three times as fast, but enlarges its memo to any index that a pickle names: a file
    of 20 bytes could allocate 60 GB. Here the memo is a dict.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
        for name in (*_PLAIN.split(), *_NAMING)
    }

    tuples = 0

    def find_class(self, module: str, name: str) -> Any:
        raise _Refused(f"{module}.{name}")


def _counted(build: Callable[..., None]) -> Callable[..., None]:
    def count(self: _Plain) -> None:
        self.tuples += 1
        if self.tuples > MAX_TUPLES:
            raise ValueError(f"more than {MAX_TUPLES} tuples")
        build(self)

    return count


for _operation in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.FROZENSET):
    _Plain.dispatch[_operation[0]] = _counted(_Plain.dispatch[_operation[0]])


def read_pickle(path: Path) -> Any:
    """The plain data of a pickle of any protocol. Raises DataError, also for a pickle that names a class.

    Byte strings are read as UTF-8: REFER's files were written by Python 2.
    """
    with door.guarded(path, "REFER's largest refs file has 30 MB"):
        data = door.read(path, MAX_BYTES)
    collecting = gc.isenabled()
    gc.disable()  # millions of new objects and no cycles: garbage collection would only cost time
    try:
        return _Plain(io.BytesIO(data), encoding="utf-8", errors="replace").load()
    except _Refused as error:
        raise DataError(
            f"{path}: names the class {error}, which is refused;"
            " only plain lists, dicts, numbers and strings are read"
        ) from None
    except KeyError as error:
        raise DataError(f"{path}: is not a pickle of plain data (operation {error})") from None
    except Exception as error:  # a damaged pickle raises many kinds of errors
        raise DataError(f"{path}: is not a readable pickle ({type(error).__name__}: {error})") from None
    finally:
        if collecting:
            gc.enable()
