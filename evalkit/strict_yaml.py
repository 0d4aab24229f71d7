"""YAML files of plain values, read strictly, and mappings checked key by key against a schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from evalkit import door
from evalkit.errors import UserError, nearest

DIGITS = 100  # characters of a number

Schema = Mapping[str, tuple[type | tuple[type, ...], bool]]
"""Key to (type or types, whether the key is required)."""


def read(path: Path, shown: str = "") -> dict[str, Any]:
    """The content of a YAML file of plain values: no tags, no anchors, no dates, no key twice, keys are text.

    Raises UserError otherwise; `shown` is the file's name in its message.
    """
    shown = shown or str(path)
    with door.guarded(shown, "it must be UTF-8 text", UserError):
        try:
            content = _content(door.text(path), shown, _FAST)
        except FileNotFoundError:
            raise UserError(
                f"{shown}: no such file; `evalkit list tasks` shows the tasks that ship with evalkit"
            ) from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"line {mark.line + 1}: " if mark else ""
            problem = " ".join((getattr(error, "problem", None) or str(error)).split())
            problem = problem.replace('in "<unicode string>", position', "at position")
            said = "given twice" in problem or "quotes" in problem
            hint = "" if said else "; text with ': ' or '{' in it needs quotes"
            raise UserError(f"{shown}: {where}{problem}{hint}") from None
    if not isinstance(content, dict):
        raise UserError(f"{shown}: holds no keys; a task file starts like `version: 1`")
    return content


def value(text: str, shown: str) -> Any:
    """The plain value that a text is in YAML, or the text where it is none. Raises UserError as `read`."""
    with door.guarded(shown, "write a plain value", UserError):
        try:
            return _content(text, shown, _Plain)
        except yaml.YAMLError:
            return text


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
        for key, (written, _) in zip(made, node.value, strict=False):
            if not isinstance(key, str):
                problem = f"key {getattr(written, 'value', key)} is no text to YAML; put quotes around it"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=written.start_mark)
        return made


def _number(kind: str) -> Callable[[Any, yaml.ScalarNode], float]:
    """Reads `int` or `float` as YAML 1.1 does, of a size that can be shown."""
    plain = getattr(yaml.constructor.SafeConstructor, f"construct_yaml_{kind}")

    def construct(loader: Any, node: yaml.ScalarNode) -> float:
        try:
            found: float = plain(loader, node)
            if len(node.value) <= DIGITS:
                return found
        except (ValueError, IndexError):
            pass
        problem = f"'{node.value[:40]}' cannot be read as a number; put quotes around it if it is text"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)

    return construct


def _date(loader: Any, node: yaml.ScalarNode) -> Any:
    problem = f"{node.value[:40]} is a date to YAML; put quotes around it if it is text"
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _strict(loader: Any) -> Any:
    loader.add_constructor("tag:yaml.org,2002:int", _number("int"))
    loader.add_constructor("tag:yaml.org,2002:float", _number("float"))
    loader.add_constructor("tag:yaml.org,2002:timestamp", _date)
    return loader


@_strict
class _Plain(_Once, yaml.SafeLoader):
    pass


try:

    @_strict
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
