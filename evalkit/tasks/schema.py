"""What a task file may contain: the one description of its keys, and the checks that make it a `Task`.

Formats, parsers and metrics are looked up by name.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from evalkit import registry, strict_yaml
from evalkit.errors import UserError
from evalkit.tasks import calls, contract
from evalkit.types import Data, Decode, Format, Task

PROTOCOLS = ("paper", "hf")
MODES = ("generate", "likelihood")
_REVISION = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[^\W_][\w.\-]*")  # letters of every script

# key: (type, required). The one description of a task file; `tasks/README.md` explains the keys.
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
    "classes_per_call": ((int, type(None)), False),
    "class_order": (str, False),
    "nms_across_calls": ((float, int, type(None)), False),
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


def composed(name: str) -> str:
    """A name with each letter as one sign: macOS may write `ö` as `o` and a mark."""
    return unicodedata.normalize("NFC", name)


def read(shown: str, name: str, content: dict[str, Any], overrides: dict[str, str]) -> Task:
    """The task that a file's content describes; `shown` is the file's name in messages. Raises UserError."""
    strict_yaml.check_keys(shown, "", content, _TASK)
    if not _NAME.fullmatch(composed(name)):
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
    data = _data(shown, content["data"])
    choices = _choices(shown, decode, content.get("choices", []))
    _check_calls(shown, content, decode)
    if content.get("protocol", "paper") not in PROTOCOLS:
        raise UserError(f"{shown}: protocol: no '{content['protocol']}'; there are: {', '.join(PROTOCOLS)}")
    return Task(
        name=name,
        version=content["version"],
        about=content["about"],
        license=content["license"],
        homepage=content.get("homepage", ""),
        data=data,
        prompt=content["prompt"],
        prompt_source=content.get("prompt_source", ""),
        image=dict(image),
        decode=_decode(decode),
        choices=choices,
        classes_per_call=content.get("classes_per_call"),
        class_order=content.get("class_order", calls.ORDERS[0]),
        nms_across_calls=content.get("nms_across_calls"),
        parser=content["parser"],
        metrics=_pieces(shown, content, data),
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
            raise UserError(f"{shown}: decode: forbid: {text!r} is not text; write e.g. ['<eos>']")
    if decode.get("forbid") and (decode.get("beams", 1) > 1 or decode.get("mode") == "likelihood"):
        raise UserError(f"{shown}: decode: forbid: goes with mode: generate and beams: 1 only")


def _check_sampling(shown: str, decode: Mapping[str, Any]) -> None:
    temperature, top_p = decode.get("temperature", 0), decode.get("top_p", 1)
    if not 0 <= temperature <= 100:
        raise UserError(f"{shown}: decode: temperature: is {temperature}, must be from 0 (greedy) to 100")
    if not 0 < top_p <= 1:
        raise UserError(f"{shown}: decode: top_p: is {top_p}, must be above 0 and at most 1")
    if not temperature and (idle := sorted({"top_p", "seed"} & set(decode))):
        raise UserError(f"{shown}: decode: {idle[0]}: has no effect at temperature 0; set temperature too")
    if temperature and decode.get("beams", 1) > 1:
        raise UserError(
            f"{shown}: decode: temperature: goes with beams: 1 only; a beam search does not sample"
        )


def _check_calls(shown: str, content: Mapping[str, Any], decode: Mapping[str, Any]) -> None:
    """What is said of prompts with many classes."""
    most, least = content.get("nms_across_calls"), content.get("classes_per_call")
    order = content.get("class_order", calls.ORDERS[0])
    if order not in calls.ORDERS:
        raise UserError(f"{shown}: class_order: no '{order}'; there are: {', '.join(calls.ORDERS)}")
    if least is not None and (isinstance(least, bool) or least < 1):
        raise UserError(f"{shown}: classes_per_call: is {least}, must be at least 1")
    if least is not None and decode.get("mode") == "likelihood":
        raise UserError(f"{shown}: classes_per_call: goes with mode: generate only")
    if most is not None and not 0 < most <= 1:
        raise UserError(f"{shown}: nms_across_calls: is {most}, an IoU, must be above 0 and at most 1")
    if most is not None and least is None:
        raise UserError(f"{shown}: nms_across_calls: has no effect without classes_per_call; set that too")


def _choices(shown: str, decode: Mapping[str, Any], given: list[Any]) -> tuple[str, ...]:
    """The choices if answers are scored by likelihood; () if text is generated."""
    mode = decode.get("mode", "generate")
    if mode not in MODES:
        raise UserError(f"{shown}: decode: mode: no '{mode}'; there are: {', '.join(MODES)}")
    if mode == "generate":
        if given:
            raise UserError(f"{shown}: choices: have no effect where text is generated; set decode.mode too")
        return ()
    for key, idle in (("beams", 1), ("temperature", 0)):
        if decode.get(key, idle) != idle:
            raise UserError(
                f"{shown}: decode: {key}: goes with mode: generate only; choices are not searched"
            )
    for text in given:
        if not isinstance(text, str) or not text:
            raise UserError(
                f"{shown}: choices: {text!r} is not text; put quotes around it, as in ['yes', 'no']"
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
        fmt = registry.make("formats", data["format"])
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
            fmt = registry.make("formats", spelled)
        except (UserError, TypeError) as error:
            raise UserError(f"{shown}: data: sources: format: {error}") from None
    if "hub" in entry:
        if not _REVISION.fullmatch(str(entry.get("revision", ""))):
            raise UserError(
                f"{shown}: data: sources: {entry['hub']}: revision: must be the 40 hex digits of a commit, "
                "so that the data cannot change under a score; the dataset's page lists its commits"
            )
        if not fmt.hub:
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
    """None without a mean over groups, else the groups that this mean leaves out."""
    if isinstance(value, bool):
        return () if value else None
    strict_yaml.check_keys(shown, "group_mean: ", value, _GROUP_MEAN)
    return tuple(str(name) for name in value["without"])


def _pieces(shown: str, content: Mapping[str, Any], data: Data) -> tuple[str, ...]:
    """Checks that parser and metrics exist, take their parameters and fit together and to the formats."""
    try:
        parser = registry.make("parsers", content["parser"])
    except UserError as error:
        raise UserError(f"{shown}: parser: {error}") from None
    if not content.get("metrics") and not content.get("not_scored"):
        raise UserError(f"{shown}: metrics: the list is empty; name one, or give not_scored: why")
    if content.get("metrics") and content.get("not_scored"):
        raise UserError(f"{shown}: not_scored: is given together with metrics; a task has one of the two")
    metrics: dict[str, Any] = {}
    for spelling in content.get("metrics", []):
        if not isinstance(spelling, str):
            raise UserError(f"{shown}: metrics: {spelling!r} is not text; write e.g. - anls(threshold=0.5)")
        try:
            metric = registry.make("metrics", spelling)
        except UserError as error:
            raise UserError(f"{shown}: metrics: {error}") from None
        if spelling in metrics:
            raise UserError(f"{shown}: metrics: {spelling} is listed twice")
        metrics[spelling] = metric
    named = dict.fromkeys(entry.get("format", data.format) for entry in data.sources)
    formats = {spelling: registry.make("formats", spelling) for spelling in named}
    means = content.get("group_mean", False) is not False
    contract.check_declared(shown, formats, (content["parser"], parser), metrics, means)
    return tuple(metrics)


def schema() -> dict[str, Any]:
    """The JSON schema of a task file, for editors; made from the same tables as the checks of `read`."""

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
    parts["class_order"]["enum"] = list(calls.ORDERS)
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
