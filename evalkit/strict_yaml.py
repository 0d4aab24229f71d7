"""YAML files of plain values, read strictly, and mappings checked key by key against a schema."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from evalkit.errors import UserError, nearest

Schema = Mapping[str, tuple[type | tuple[type, ...], bool]]
"""Key to (type or types, whether the key is required)."""


def read(path: Path, shown: str = "") -> dict[str, Any]:
    """The content of a YAML file of plain values: no tags, no anchors, no key twice.

    Raises UserError otherwise; `shown` is the file's name in its message.
    """
    shown = shown or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"{shown}: no such file; `evalkit list tasks` shows the tasks that ship with evalkit"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{shown}: cannot be read as UTF-8 text: {error}") from None
    try:
        content = _content(text, shown, _FAST)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        hint = "" if "given twice" in problem else "; text with ': ' or '{' in it needs quotes"
        raise UserError(f"{shown}: {where}{problem}{hint}") from None
    if not isinstance(content, dict):
        raise UserError(f"{shown}: holds no keys; a task file starts like `version: 1`")
    return content


def _content(text: str, shown: str, loader: Any) -> Any:
    """What the text holds, read by `loader`. After an error of the C loader the Python one reads it again,
    for its clearer message."""
    try:
        depth = 0
        for event in yaml.parse(text, Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > 20:
                raise UserError(f"{shown}: nested too deeply to be a task file")
            mark: Any = event.start_mark
            line = mark.line + 1
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise UserError(f"{shown}: line {line}: anchors and aliases are refused; write it out")
            if tag := getattr(event, "tag", None):
                raise UserError(f"{shown}: line {line}: YAML tag '{tag}' is refused; use plain values")
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError:
        if loader is _Plain:
            raise
        return _content(text, shown, _Plain)


class _Once:
    """A mixin for YAML loaders that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(getattr(key, "value", key))
            if name in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key '{name}' is given twice", problem_mark=key.start_mark
                )
            seen.add(name)
        made: dict[Any, Any] = super().construct_mapping(node, deep)  # type: ignore[misc]
        return made


class _Plain(_Once, yaml.SafeLoader):
    pass


try:

    class _Quick(_Once, yaml.CSafeLoader):
        pass

    _FAST: Any = _Quick
except AttributeError:  # PyYAML without libyaml
    _FAST = _Plain


def check_keys(
    shown: str,
    place: str,
    content: Mapping[str, Any],
    schema: Schema,
) -> None:
    at = f"{shown}: {place}" if place else f"{shown}: "
    for key, value in content.items():
        if key not in schema:
            raise UserError(f"{at}{key}: unknown key{nearest(str(key), schema)}")
        kind = schema[key][0]
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join(_WORDS[k] for k in kinds)
            if kinds == (str,) and isinstance(value, dict):
                wanted += "; put quotes around it"
            kind_found = _WORDS.get(type(value), type(value).__name__)
            raise UserError(f"{at}{key}: is {kind_found}, must be {wanted}")
    for key, (_, required) in schema.items():
        if required and key not in content:
            raise UserError(f"{at}{key}: is missing; every task file needs it")


_WORDS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
    type(None): "null",
}
