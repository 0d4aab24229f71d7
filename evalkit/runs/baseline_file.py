"""The small file of a baseline: JSON that may be compressed, on disk or in git. Knows no run."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from evalkit.errors import UserError
from evalkit.files import atomic_write, encoded, json_text

KIND = "evalkit baseline"
SCHEMA = 1
EXPANDS = 200  # times its size: to more a baseline does not decompress; ids and texts differ

T = TypeVar("T")


def write(runs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes the runs; compressed when the name ends in .gz."""
    content = {"kind": KIND, "schema": SCHEMA, "runs": list(runs)}
    data = encoded(json_text(content, compact=True))
    atomic_write(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data + b"\n")


def read(data: bytes, place: str, unpack: Callable[[Mapping[str, Any]], T]) -> list[T]:
    """What `unpack` makes of each run of a file's content; it may raise anything. Raises UserError for
    damage."""
    try:
        content = json.loads(_decompressed(data, place), parse_int=_whole)
        if content["kind"] != KIND:
            raise ValueError
    except UserError:
        raise
    except Exception:  # JSON and zlib raise many kinds
        raise UserError(
            f"{place}: is not a baseline file; `evalkit baseline save RUN FILE` writes one"
        ) from None
    schema = content.get("schema")
    if type(schema) is int and schema > SCHEMA:
        raise UserError(f"{place}: written by a newer evalkit (schema {schema}); update evalkit")
    try:
        if type(schema) is not int:
            raise ValueError("schema: is no whole number")
        if not isinstance(content["runs"], list) or not content["runs"]:
            raise ValueError("runs: is no list of runs")
        return [unpack(run) for run in content["runs"]]
    except Exception as error:  # of damaged content as many
        why = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise UserError(f"{place}: damaged ({why}); save the baseline again") from None


def at_ref(place: str) -> bytes:
    """The content of `FILE@REF` as git has it."""
    file, _, ref = place.rpartition("@")
    if not file or not ref or ref.startswith("-"):
        raise UserError(f"{place}: write FILE@GIT_REF, e.g. baselines/main.json@origin/main")
    path = Path(file)
    git = ["git", "-C", str(path.parent), "show", f"{ref}:./{path.name}"]
    try:
        done = subprocess.run(git, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{place}: git cannot be run ({error}); give a file instead") from None
    if done.returncode:
        why = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1].rstrip(
            "."
        )
        shallow = (
            "; a CI that fetches one commit needs the other branch too (actions/checkout: fetch-depth: 0)"
        )
        hint = shallow if "invalid object name" in why else ""
        raise UserError(f"{place}: git does not have it: {why}{hint}")
    return done.stdout


def _decompressed(data: bytes, place: str) -> bytes:
    """The content of a file that may be compressed. Raises UserError for more than rows of numbers need."""
    if data[:2] != b"\x1f\x8b":
        return data
    limit = max(EXPANDS * len(data), 1 << 26)
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        plain = file.read(limit + 1)
    if len(plain) > limit:
        raise UserError(f"{place}: expands to more than {limit >> 20} MiB, which no baseline does")
    return plain


def _whole(digits: str) -> int:
    """A whole number of JSON. Raises ValueError for one that no count or seed is."""
    if len(digits) > 20:
        raise ValueError(f"{digits[:20]}... is no number of a baseline")
    return int(digits)
