"""Small JSON files with a seal: a digest of their content, by which damage and edits are noticed.

Knows schemas and what older ones lack; not what the files mean.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evalkit.errors import Damaged, ResultsError
from evalkit.files import atomic_write, json_text

SCHEMA = 2  # raised when a file's meaning changes; older ones are migrated on reading
_SORTED = json.JSONEncoder(sort_keys=True)
OURS = ("schema", "seal")  # the keys that are added here


def _from_1(content: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 had no seal, and its journals' checksums did not name their run: nothing shows to whom such a
    file belongs, so it stays unsealed until it is written again."""
    return {**content, "seal": ""}


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}
"""From each schema to the next."""


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a file of today's schema with its seal."""
    plain = json.loads(json_text({key: value for key, value in content.items() if key not in OURS}))
    whole = {"schema": SCHEMA, "seal": _seal({"schema": SCHEMA, **plain}), **plain}
    atomic_write(path, json_text(whole, indent=1) + "\n")


def read(path: Path, remedy: str, may_be_foreign: bool = False) -> dict[str, Any] | None:
    """The content as today's schema has it, or None when there is no file. `seal` is '' in one that an older
    evalkit wrote.

    Raises Damaged where it is; `remedy` says what mends it. Raises ResultsError where another version wrote
    it, or, where it `may_be_foreign`, another program.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            content = json.loads(file.readall().decode("utf-8-sig"))
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        named = next(above for above in reversed(path.parents) if above.is_file())
        raise ResultsError(f"{named}: is a file; a run is a folder") from None
    except (ValueError, OSError, RecursionError) as error:
        why = str(error) if not isinstance(error, RecursionError) else "nested too deeply"
        raise Damaged(f"{path}: damaged ({why}); {remedy}") from None
    if isinstance(content, dict) and "seal" in content:
        if content["seal"] != _seal({k: v for k, v in content.items() if k != "seal"}):
            raise Damaged(f"{path}: damaged or edited (its content is not what its seal says); {remedy}")
    elif isinstance(content, dict) and content.get("schema") == SCHEMA:
        raise Damaged(f"{path}: damaged or edited (its seal is gone); {remedy}")
    if not isinstance(content, dict) or type(content.get("schema")) is not int:
        if may_be_foreign:
            raise ResultsError(f"{path}: not a file of evalkit's; choose another folder")
        raise Damaged(f"{path}: damaged (no schema); {remedy}")
    return _migrated(path, content)


def _migrated(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    if content["schema"] > SCHEMA:
        raise ResultsError(f"{path}: written by a newer evalkit (schema {content['schema']}); update evalkit")
    while content["schema"] < SCHEMA:
        step = MIGRATIONS.get(content["schema"])
        if step is None:
            raise ResultsError(
                f"{path}: schema {content['schema']} is too old to be read; run again into another folder"
            )
        content = {**step(content), "schema": content["schema"] + 1}
    return content


def _seal(content: Any) -> str:
    """A digest of what the file says, however it is laid out."""
    return hashlib.sha256(_SORTED.encode(content).encode()).hexdigest()[:16]
