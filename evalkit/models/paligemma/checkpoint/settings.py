"""JSON files of a checkpoint, read key by key as the type that each must have. Every mistake in one is a
ModelError that names the file and the key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import ModelError

MOST = (1 << 31) - 1  # no size, token or layer has a larger number


@dataclass(frozen=True, slots=True)
class Settings:
    """One JSON object; `where` is what an error calls it."""

    where: str
    content: Mapping[str, Any]

    def refuse(self, key: str, what: str) -> ModelError:
        """The error for a key; a value that is shown is cut."""
        said = json.dumps(self.content.get(key), ensure_ascii=True)
        return ModelError(f"{self.where}: {key}: is {said if len(said) < 60 else said[:56] + ' ...'}; {what}")

    def part(self, key: str) -> Settings:
        """An object inside; an empty one where it is not there."""
        value = self.content.get(key)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.refuse(key, "it must be an object")
        return Settings(f"{self.where}: {key}", value)

    def whole(self, *keys: str, default: int, least: int = 0) -> int:
        """The whole number of the first of these keys that is there."""
        key = next((k for k in keys if self.content.get(k) is not None), None)
        if key is None:
            return default
        value = self.content[key]
        if type(value) is not int or not least <= value <= MOST:
            raise self.refuse(key, f"it must be a whole number from {least}")
        return value

    def maybe(self, key: str, least: int = 0) -> int | None:
        """The whole number of a key; None where it is not there."""
        return self.whole(key, default=0, least=least) if self.content.get(key) is not None else None

    def wholes(self, key: str) -> tuple[int, ...] | None:
        """One whole number or a list of them; None where the key is not there."""
        value = self.content.get(key)
        if value is None:
            return None
        each = value if isinstance(value, list) else [value]
        if not each or any(type(one) is not int or not 0 <= one <= MOST for one in each):
            raise self.refuse(key, "it must be a whole number from 0, or a list of them")
        return tuple(each)

    def text(self, key: str, default: str = "") -> str:
        value = self.content.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.refuse(key, "it must be text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, or one; () where the key is not there."""
        value = self.content.get(key)
        each = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(each, list) or any(not isinstance(one, str) for one in each):
            raise self.refuse(key, "it must be a list of texts")
        return tuple(each)


def read(file: Path) -> Settings:
    """The JSON object in a file. Raises ModelError if it cannot be read, or is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:  # also what is not UTF-8
        raise ModelError(f"{file}: cannot be read as JSON ({error})") from None
    except RecursionError:
        raise ModelError(f"{file}: cannot be read as JSON (nested too deeply)") from None
    if not isinstance(content, dict):
        raise ModelError(f"{file}: must hold one JSON object")
    return Settings(str(file), content)
