"""Reads task and suite files strictly: every unknown key, tag or wrong type is one clear sentence.

Knows the YAML, not what a format, parser or metric does; those are looked up by name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from evalkit import lookup, strict_yaml
from evalkit.errors import UserError, nearest
from evalkit.types import Data, Decode, Format, Preparation, Sample, Task

PROTOCOLS = ("paper", "hf")
MODES = ("generate", "likelihood")
_REVISION = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")

# key: (type, required). The one description of a task file; `tasks/README.md` tells it in words.
_TASK: strict_yaml.Schema = {
    "version": (int, True),
    "about": (str, True),
    "license": (str, True),
    "homepage": (str, False),
    "data": (dict, True),
    "prompt": (str, True),
    "prompt_source": (str, False),
    "image": (dict, False),
    "decode": (dict, False),
    "choices": (list, False),
    "parser": (str, True),
    "metrics": (list, False),
    "group_mean": ((bool, dict), False),
    "not_scored": (str, False),
    "protocol": (str, False),
}
_DATA: strict_yaml.Schema = {
    "format": (str, True),
    "split": ((str, int), True),
    "count": (int, False),
    "published_count": (int, False),
    "sources": (list, True),
}
_IMAGE: strict_yaml.Schema = {
    "resize": (str, False),
    "antialias": (bool, False),
    "pad": (str, False),
    "floats": (bool, False),
    "jpeg": (str, False),
}
_GROUP_MEAN: strict_yaml.Schema = {"without": (list, True)}
_DECODE: strict_yaml.Schema = {
    "mode": (str, False),
    "text_length": ((int, type(None)), False),
    "max_new_tokens": (int, False),
    "beams": (int, False),
    "logprobs": (bool, False),
    "temperature": ((float, int), False),
    "top_p": ((float, int), False),
    "seed": (int, False),
    "forbid": (list, False),
}


# --- where the files are -----------------------------------------------------------------------


def folders(extra: Iterable[Path] = ()) -> list[Path]:
    """Folders searched for task files: `extra`, `EVALKIT_TASKS`, then those that come along."""
    here = Path(__file__).resolve().parent
    own = here.parent / "tasks" if (here.parent / "pyproject.toml").is_file() else here / "_tasks"
    named = [Path(p) for p in os.environ.get("EVALKIT_TASKS", "").split(os.pathsep) if p]
    return [*extra, *named, own]


def _files(kind: str, extra: Iterable[Path] = ()) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders(extra):
        place = folder / "suites" if kind == "suites" else folder
        for path in sorted(place.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def names(extra: Iterable[Path] = ()) -> list[str]:
    """Every task's name; nothing is read."""
    return sorted(_files("tasks", extra))


def suites(extra: Iterable[Path] = ()) -> dict[str, Path]:
    """Suite name to file."""
    return dict(sorted(_files("suites", extra).items()))


def expand(wanted: Iterable[str], extra: Iterable[Path] = ()) -> list[str]:
    """Task names, suite names, `prefix*` patterns and YAML paths to tasks, in order, each once."""
    tasks, groups = _files("tasks", extra), _files("suites", extra)
    found: dict[str, None] = {}
    for name in wanted:
        if name.endswith((".yaml", ".yml")) or name in tasks:
            found[name] = None
        elif name in groups:
            for inner in expand(read_suite(groups[name])["tasks"], extra):
                found[inner] = None
        elif any(c in name for c in "*?["):
            matching = [t for t in sorted(tasks) if Path(t).match(name)]
            if not matching:
                raise UserError(f"--tasks: no task matches '{name}'; `evalkit list tasks` shows them all")
            found.update(dict.fromkeys(matching))
        else:
            raise UserError(f"--tasks: no task or suite '{name}'{nearest(name, [*tasks, *groups])}")
    return list(found)


def load(name: str, overrides: Mapping[str, str] | None = None, extra: Iterable[Path] = ()) -> Task:
    """The task of that name, or in that YAML file, with `key=value` overrides applied and stamped."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    else:
        files = _files("tasks", extra)
        if name not in files:
            raise UserError(f"--tasks: no task '{name}'{nearest(name, files)}")
        path = files[name]
    content = strict_yaml.read(path, _shown(path))
    shown = _shown(path)
    for key, value in (overrides or {}).items():
        _override(content, key, value)
    return _task(shown, path.stem, content, dict(overrides or {}))


def read_suite(path: Path) -> dict[str, Any]:
    """A suite file: `about` and the list `tasks`."""
    content = strict_yaml.read(path, _shown(path))
    strict_yaml.check_keys(_shown(path), "", content, {"about": (str, True), "tasks": (list, True)})
    return content


def _shown(path: Path) -> str:
    """`tasks/docvqa_val.yaml` for the files that come along, the path as given for others."""
    for folder in folders():
        if path.is_relative_to(folder):
            return str(Path("tasks") / path.relative_to(folder))
    return str(path)


# --- a task ------------------------------------------------------------------------------------


def _task(shown: str, name: str, content: dict[str, Any], overrides: dict[str, str]) -> Task:
    strict_yaml.check_keys(shown, "", content, _TASK)
    if not _NAME.fullmatch(name):
        raise UserError(f"{shown}: a task is named by its file: letters, digits, '_', '-' and '.' only")
    image, decode = content.get("image", {}), content.get("decode", {})
    strict_yaml.check_keys(shown, "image: ", image, _IMAGE)
    strict_yaml.check_keys(shown, "decode: ", decode, _DECODE)
    if image.get("resize", "bilinear") not in ("bilinear", "bicubic"):
        raise UserError(f"{shown}: image: resize: no '{image['resize']}'; there are: bicubic, bilinear")
    if image.get("pad", "white") != "white":
        raise UserError(f"{shown}: image: pad: no '{image['pad']}'; there is: white")
    if image.get("jpeg", "fast") not in ("fast", "precise"):
        raise UserError(f"{shown}: image: jpeg: no '{image['jpeg']}'; there are: fast, precise")
    for key in ("text_length", "max_new_tokens", "beams"):
        if decode.get(key) is not None and decode[key] < 1:
            raise UserError(f"{shown}: decode: {key}: is {decode[key]}, must be at least 1")
    _check_sampling(shown, decode)
    _check_forbidden(shown, decode)
    choices = _choices(shown, decode, content.get("choices", []))
    if content.get("protocol", "paper") not in PROTOCOLS:
        raise UserError(f"{shown}: protocol: no '{content['protocol']}'; there are: {', '.join(PROTOCOLS)}")
    return Task(
        name=name,
        version=content["version"],
        about=content["about"],
        license=content["license"],
        homepage=content.get("homepage", ""),
        data=_data(shown, content["data"]),
        prompt=content["prompt"],
        prompt_source=content.get("prompt_source", ""),
        image=dict(image),
        decode=_decode(decode),
        choices=choices,
        parser=content["parser"],
        metrics=_pieces(shown, content),
        group_mean=_group_mean(shown, content.get("group_mean", False)),
        not_scored=content.get("not_scored", ""),
        protocol=content.get("protocol", "paper"),
        path=shown,
        digest=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        overrides=overrides,
    )


def _decode(decode: Mapping[str, Any]) -> Decode:
    settings: dict[str, Any] = {**decode, "forbid": tuple(decode.get("forbid", ()))}
    return Decode(**settings | {k: float(settings[k]) for k in ("temperature", "top_p") if k in settings})


def _check_forbidden(shown: str, decode: Mapping[str, Any]) -> None:
    for text in decode.get("forbid", ()):
        if not isinstance(text, str) or not text:
            raise UserError(f"{shown}: decode: forbid: {text!r} is no text; write e.g. ['<eos>']")
    if decode.get("forbid") and (decode.get("beams", 1) > 1 or decode.get("mode") == "likelihood"):
        raise UserError(f"{shown}: decode: forbid: goes with mode: generate and beams: 1 only")


def _check_sampling(shown: str, decode: Mapping[str, Any]) -> None:
    temperature, top_p = decode.get("temperature", 0), decode.get("top_p", 1)
    if not 0 <= temperature <= 100:
        raise UserError(f"{shown}: decode: temperature: is {temperature}, must be from 0 (greedy) to 100")
    if not 0 < top_p <= 1:
        raise UserError(f"{shown}: decode: top_p: is {top_p}, must be above 0 and at most 1")
    if not temperature and (idle := sorted({"top_p", "seed"} & set(decode))):
        raise UserError(f"{shown}: decode: {idle[0]}: decides nothing at temperature 0; set temperature too")
    if temperature and decode.get("beams", 1) > 1:
        raise UserError(f"{shown}: decode: temperature: goes with beams: 1 only; a beam search draws nothing")


def _choices(shown: str, decode: Mapping[str, Any], given: list[Any]) -> tuple[str, ...]:
    """What is offered where answers are scored by likelihood; nothing where they are generated."""
    mode = decode.get("mode", "generate")
    if mode not in MODES:
        raise UserError(f"{shown}: decode: mode: no '{mode}'; there are: {', '.join(MODES)}")
    if mode == "generate":
        if given:
            raise UserError(f"{shown}: choices: decide nothing where text is generated; set decode.mode too")
        return ()
    for key, idle in (("beams", 1), ("temperature", 0)):
        if decode.get(key, idle) != idle:
            raise UserError(
                f"{shown}: decode: {key}: goes with mode: generate only; choices are not searched"
            )
    for text in given:
        if not isinstance(text, str) or not text:
            raise UserError(
                f"{shown}: choices: {text!r} is no text; put quotes around it, as in ['yes', 'no']"
            )
        if given.count(text) > 1:
            raise UserError(f"{shown}: choices: {text!r} is listed twice")
    if not given or (len(given) == 1 and "{choice}" not in given[0]):
        raise UserError(
            f"{shown}: choices: decode.mode: likelihood needs at least two, such as ['yes', 'no'], "
            "or ['{choice}'] for those of the dataset"
        )
    return tuple(given)


def _data(shown: str, data: dict[str, Any]) -> Data:
    strict_yaml.check_keys(shown, "data: ", data, _DATA)
    if not data["sources"] or not all(isinstance(s, dict) for s in data["sources"]):
        raise UserError(f"{shown}: data: sources: must be a list of mappings like {{path: ..., images: ...}}")
    try:
        fmt = lookup.make("formats", data["format"])
    except UserError as error:
        raise UserError(f"{shown}: data: format: {error}") from None
    for entry in data["sources"]:
        _source(shown, entry, fmt, data["format"])
    return Data(
        format=data["format"],
        split=str(data["split"]),
        sources=tuple(data["sources"]),
        count=data.get("count"),
        published_count=data.get("published_count"),
    )


def _source(shown: str, entry: dict[str, Any], fmt: Format, spelled: str) -> None:
    """Checks one source: its own format if it names one, the format's keys, a hub dataset's revision."""
    if "format" in entry:
        spelled = entry["format"]
        try:
            fmt = lookup.make("formats", spelled)
        except (UserError, TypeError) as error:
            raise UserError(f"{shown}: data: sources: format: {error}") from None
    if "hub" in entry:
        if not _REVISION.fullmatch(str(entry.get("revision", ""))):
            raise UserError(
                f"{shown}: data: sources: {entry['hub']}: revision: must be the 40 hex digits of a commit, "
                "so that the data cannot change under a score; the dataset's page lists its commits"
            )
        if "folder" not in fmt.keys:
            raise UserError(
                f"{shown}: data: sources: {entry['hub']}: format {spelled} reads no hub dataset; give the "
                "source its own, such as format: hub(question='question', answers='answers')"
            )
        return
    for key in fmt.keys:
        if key not in entry:
            raise UserError(
                f"{shown}: data: sources: an entry lacks '{key}'; format {spelled} needs: "
                + ", ".join(fmt.keys)
            )


def _group_mean(shown: str, value: Any) -> tuple[str, ...] | None:
    """None for the plain score, else the groups that the mean over groups leaves out."""
    if isinstance(value, bool):
        return () if value else None
    strict_yaml.check_keys(shown, "group_mean: ", value, _GROUP_MEAN)
    return tuple(str(name) for name in value["without"])


def _pieces(shown: str, content: Mapping[str, Any]) -> tuple[str, ...]:
    """Checks that parser and metrics exist, take their parameters and fit together."""
    try:
        parser = lookup.make("parsers", content["parser"])
    except UserError as error:
        raise UserError(f"{shown}: parser: {error}") from None
    if not content.get("metrics") and not content.get("not_scored"):
        raise UserError(f"{shown}: metrics: the list is empty; name one, or say not_scored: why")
    if content.get("metrics") and content.get("not_scored"):
        raise UserError(f"{shown}: not_scored: is given beside metrics; a task has one of the two")
    spellings: list[str] = []
    for spelling in content.get("metrics", []):
        if not isinstance(spelling, str):
            raise UserError(f"{shown}: metrics: {spelling!r} is no text; write e.g. - anls(threshold=0.5)")
        try:
            metric = lookup.make("metrics", spelling)
        except UserError as error:
            raise UserError(f"{shown}: metrics: {error}") from None
        if parser.kind not in metric.wants:
            raise UserError(
                f"{shown}: metrics: {spelling} reads {' or '.join(metric.wants)}, "
                f"but parser {content['parser']} gives {parser.kind}"
            )
        if spelling in spellings:
            raise UserError(f"{shown}: metrics: {spelling} is listed twice")
        spellings.append(spelling)
    return tuple(spellings)


def _override(content: dict[str, Any], key: str, text: str) -> None:
    """`decode.max_new_tokens=64`: the value is read as YAML, the key must fit the schema later."""
    try:
        value = yaml.safe_load(text) if key != "prompt" else text
    except yaml.YAMLError:
        value = text
    *path, last = key.split(".")
    place: Any = content
    for part in path:
        place = place.setdefault(part, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise UserError(f"--set {key}: '{part}' holds no keys; `evalkit show TASK` shows what a task has")
    place[last] = value


def schema() -> dict[str, Any]:
    """The JSON schema of a task file, for editors; made of the same tables that `load` checks by."""

    def described(table: strict_yaml.Schema) -> dict[str, Any]:
        properties = {}
        for key, (kind, _) in table.items():
            kinds = [_JSON[k] for k in (kind if isinstance(kind, tuple) else (kind,))]
            properties[key] = {"type": kinds if len(kinds) > 1 else kinds[0]}
        required = [key for key, (_, needed) in table.items() if needed]
        found: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        return found | ({"required": required} if required else {})

    top = described(_TASK)
    parts: dict[str, Any] = top["properties"]
    parts["data"], parts["image"], parts["decode"] = described(_DATA), described(_IMAGE), described(_DECODE)
    parts["data"]["properties"]["sources"]["items"] = {"type": "object"}
    parts["image"]["properties"]["resize"]["enum"] = ["bilinear", "bicubic"]
    parts["image"]["properties"]["pad"]["enum"] = ["white"]
    parts["image"]["properties"]["jpeg"]["enum"] = ["fast", "precise"]
    parts["protocol"]["enum"] = list(PROTOCOLS)
    parts["decode"]["properties"]["mode"]["enum"] = list(MODES)
    parts["decode"]["properties"]["forbid"] |= {"items": {"type": "string"}}
    parts["choices"] |= {"items": {"type": "string"}}
    parts["metrics"] |= {"items": {"type": "string"}, "minItems": 1}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "evalkit task", **top}


_JSON = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
    type(None): "null",
}


# --- prompts and protocols -----------------------------------------------------------------------


def prompt(task: Task, fields: Mapping[str, str]) -> str:
    """The exact prompt of a sample. `{{` and `}}` are literal braces; only plain `{name}` is read."""

    def fill(match: re.Match[str]) -> str:
        whole = match.group(0)
        if whole in ("{{", "}}"):
            return whole[0]
        name = match.group(1)
        if name is None:
            raise UserError(f"{task.path}: prompt: a lone '{whole}'; write {{{{ or }}}} for a brace")
        if name not in fields:
            raise UserError(f"{task.path}: prompt: the dataset has no field '{name}'{nearest(name, fields)}")
        return str(fields[name])

    return re.sub(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}|[{}]", fill, task.prompt)


def choices(task: Task, sample: Sample) -> tuple[str, ...]:
    """The answers that a sample offers, each once and in order; () where text is generated."""
    found: dict[str, None] = {}
    for text in task.choices:
        if "{choice}" not in text:
            found[text] = None
            continue
        if not sample.choices:
            raise UserError(
                f"{task.path}: choices: sample {sample.id} has none of its own that '{{choice}}' could stand "
                "for; list them in the task"
            )
        found.update(dict.fromkeys(text.replace("{choice}", own) for own in sample.choices))
    return tuple(found)


def preparation(task: Task, resolution: int, protocol: str) -> Preparation:
    """How images are prepared: `paper` as big_vision (per task), `hf` as the transformers processor."""
    if protocol == "hf":
        return Preparation(
            resolution, "bicubic", True, jpeg="precise", exif="apply", pad=task.image.get("pad", "")
        )
    return Preparation(resolution, **task.image)


def text_identity(task: Task) -> dict[str, Any]:
    """The part of a task that decides the model's text. Metrics and parser are not in it: scoring
    the same predictions in another way must not ask for them again (the signature names those).
    Nor are settings that decide nothing: of sampling where nothing is drawn, mode and choices where text is
    generated, an empty `forbid`."""
    decode = dataclasses.asdict(task.decode)
    if not task.decode.samples:
        for key in ("temperature", "top_p", "seed"):
            del decode[key]
    decode["forbid"] = list(task.decode.forbid)
    if not task.decode.forbid:
        del decode["forbid"]
    likelihood = decode["mode"] == "likelihood"
    if not likelihood:
        del decode["mode"]
    return {
        "name": task.name,
        "version": task.version,
        "format": task.data.format,
        "split": task.data.split,
        "prompt": task.prompt,
        "decode": decode,
        **({"choices": list(task.choices)} if likelihood else {}),
    }
