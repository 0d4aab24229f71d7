"""Finds and loads task and suite files; gives a task's prompts, choices, image preparation and identity.

What a file may contain is in `schema.py`.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from evalkit import own_code, registry, strict_yaml
from evalkit.errors import UserError, meant, nearest
from evalkit.files import shipped
from evalkit.tasks import calls, schema
from evalkit.types import Metric, Preparation, Sample, Task

CONFIDENCE = "confidence"  # an override that changes no text: log-probabilities, and metrics of them
CONFIDENCE_METRICS = ("calibration_error", "risk_coverage", "selective_accuracy")
IMAGE = "<image>"  # what stands for an image in prompts of transformers' processor and in conversations

# --- where the files are -----------------------------------------------------------------------


def folders(extra: Iterable[Path] = ()) -> list[Path]:
    """Folders searched for task files: `extra`, `EVALKIT_TASKS`, then the one that ships with evalkit."""
    named = [Path(p) for p in os.environ.get("EVALKIT_TASKS", "").split(os.pathsep) if p]
    return [*extra, *named, shipped("tasks")]


def _files(kind: str, extra: Iterable[Path] = ()) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders(extra):
        place = folder / "suites" if kind == "suites" else folder
        for path in sorted(place.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def names(extra: Iterable[Path] = ()) -> list[str]:
    """Every task's name; no file is read."""
    return sorted(_files("tasks", extra))


def suites(extra: Iterable[Path] = ()) -> dict[str, Path]:
    """Suite name to file."""
    return dict(sorted(_files("suites", extra).items()))


def expand(wanted: Iterable[str], extra: Iterable[Path] = (), flag: str = "--tasks: ") -> list[str]:
    """Task names, suite names, `prefix*` patterns, YAML paths and folders of them as tasks, in order, each
    once. `flag`: what names them, for messages; '' where their place on the command line does, and data of
    somebody's own may stand there too."""
    tasks, groups = _files("tasks", extra), _files("suites", extra)
    found: dict[str, None] = {}
    for name in wanted:
        if name.endswith((".yaml", ".yml")) or name in tasks:
            found[name] = None
        elif name in groups:
            for inner in expand(read_suite(groups[name])["tasks"], extra, flag):
                found[inner] = None
        elif os.path.isdir(name):
            inside = sorted(map(str, Path(name).glob("*.yaml")))
            if not inside:
                raise UserError(
                    f"{flag}{name}: the folder holds no .yaml file; name task files{_is_data(name)}"
                )
            found.update(dict.fromkeys(inside))
        elif any(c in name for c in "*?["):
            matching = [t for t in sorted(tasks) if Path(t).match(name)]
            if not matching:
                raise UserError(f"{flag}no task matches '{name}'; `evalkit list tasks` shows all tasks")
            found.update(dict.fromkeys(matching))
        else:
            near = meant(name, [*tasks, *groups]) or "; `evalkit list tasks` shows all tasks"
            near = _is_data(name) or near
            nothing = "no task or suite" if flag else "no task, suite, folder or file"
            raise UserError(f"{flag}{nothing} '{name}'{near}")
    return list(found)


def _is_data(name: str) -> str:
    """Where a file or folder that is no task may be data: the option that takes it; else ''."""
    return f"; --data {name} takes data of your own" if os.path.exists(name) else ""


def load(name: str, overrides: Mapping[str, str] | None = None, extra: Iterable[Path] = ()) -> Task:
    """The task of that name, or in that YAML file, with `key=value` overrides applied and recorded."""
    path = file_of(name, extra)
    content = strict_yaml.read(path, _shown(path))
    own_code.look_beside(path)
    return holding(content, path, overrides)


def holding(held: Mapping[str, Any], path: Path, overrides: Mapping[str, str] | None = None) -> Task:
    """The task of a file that holds this, which need not be there."""
    content = copy.deepcopy(dict(held))
    for key, value in (overrides or {}).items():
        if key != CONFIDENCE:
            _override(content, key, value)
    if CONFIDENCE in (overrides or {}):
        _with_confidence(content)
    return schema.read(_shown(path), path.stem, content, dict(overrides or {}))


def file_of(name: str, extra: Iterable[Path] = ()) -> Path:
    """The file of a task's name, or the file itself. Raises UserError where no task is called so."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    files = _files("tasks", extra)
    if name not in files:
        raise UserError(f"no task '{name}'{nearest(name, files)}")
    return files[name]


def own_spellings(room: str, folder: Path) -> list[tuple[str, Path]]:
    """The spellings of the user's own code (`module:...`) in a folder's task files, with their files.

    `room` is metrics, parsers or formats; files that are not task files are skipped, no code is run.
    """
    found = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            content = strict_yaml.read(path, str(path))
        except UserError:
            continue
        data = content.get("data")
        spelled = {
            "metrics": content.get("metrics"),
            "parsers": [content.get("parser")],
            "formats": [data.get("format")] if isinstance(data, dict) else [],
        }.get(room)
        own = spelled if isinstance(spelled, list) else []
        found += [(text, path) for text in own if isinstance(text, str) and text.startswith(registry.OWN)]
    return found


def read_suite(path: Path) -> dict[str, Any]:
    """A suite file: `about` and the list `tasks`."""
    content = strict_yaml.read(path, _shown(path))
    strict_yaml.check_keys(_shown(path), "", content, {"about": (str, True), "tasks": (list, True)})
    return content


def _shown(path: Path) -> str:
    """`tasks/docvqa_val.yaml` for files that ship with evalkit, the path as given for others."""
    for folder in folders():
        if path.is_relative_to(folder):
            return str(Path("tasks") / path.relative_to(folder))
    return str(path)


def _override(content: dict[str, Any], key: str, text: str) -> None:
    """Applies `decode.max_new_tokens=64`; the value is read as YAML, the schema checks the key later."""
    value = strict_yaml.value(text, f"--set {key}") if key != "prompt" else text
    *path, last = key.split(".")
    place: Any = content
    for part in path:
        place = place.setdefault(part, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise UserError(f"--set {key}: '{part}' holds no keys; `evalkit show TASK` shows what a task has")
    place[last] = value


def _with_confidence(content: dict[str, Any]) -> None:
    """Keeps log-probabilities, and adds the metrics of confidence: by the task's first metric that says how
    right each answer is, or by its boxes. A box or mask that is near enough is right, whereas the probability
    of its text is that of the very same tokens: then calibration is of the mean per token. What is wrong with
    the content is left to the schema."""
    decode = content.setdefault("decode", {})
    if isinstance(decode, dict):
        decode["logprobs"] = True
    metrics = content.get("metrics")
    if not isinstance(metrics, list) or any(not isinstance(m, str) for m in metrics):
        return
    found = next((m for m in (*metrics, *_of_boxes(metrics)) if _judges(m)), "")
    each = found.startswith("sweep_f1")  # whose boxes have their own probabilities
    near = found and not each and "text" not in registry.make("metrics", found).wants
    scaled = ", confidence='token'" if near else ""
    more = (scaled, "", "")  # the product orders answers better: one with a second box is less likely
    new = [f"{n}(of={found!r}{per})" for n, per in zip(CONFIDENCE_METRICS, more, strict=True) if found]
    content["metrics"] = [*metrics, *(m for m in new if m not in metrics)]


def _judges(spelling: str) -> bool:
    try:
        return bool(registry.make("metrics", f"{CONFIDENCE_METRICS[0]}(of={spelling!r})"))
    except (UserError, ValueError):
        return False


def _of_boxes(metrics: list[Any]) -> list[str]:
    """What judges each box, where one of the metrics scores all objects of an image."""
    taken = {kind for m in metrics for kind in _taken(m)}
    masks = ["sweep_f1(region='masks')"] if "object masks" in taken else []
    return [*masks, *(["sweep_f1"] if "objects" in taken else [])]


def _taken(spelling: str) -> tuple[str, ...]:
    try:
        metric: Metric = registry.make("metrics", spelling)
    except UserError:
        return ()
    return metric.takes


# --- prompts and protocols -----------------------------------------------------------------------


def prompt(task: Task, fields: Mapping[str, str]) -> str:
    """The exact prompt of a sample, of one that is asked in several calls all of them, a line each."""
    return "\n".join(prompts(task, fields))


def prompts(task: Task, fields: Mapping[str, str]) -> tuple[str, ...]:
    """The exact prompt of each of a sample's calls: what is `written`, but for `<image>` at its beginning,
    which stands for the image that every protocol puts there. Transformers' processor replaces it in the
    same way."""
    return calls.prompts(task, without_image(written(task, fields)))


def without_image(prompt: str) -> str:
    """A prompt without the placeholders of images at its beginning."""
    while prompt.startswith(IMAGE):
        prompt = prompt.removeprefix(IMAGE)
    return prompt


def written(task: Task, fields: Mapping[str, str]) -> str:
    """A task's prompt with the fields filled in. `{{` and `}}` are literal braces; only plain `{name}` is
    read, and `{name:lower}`, the field in lower case."""
    try:
        return "".join([how(fields[part]) if how else part for part, how in _parts(task.prompt)])
    except KeyError as error:
        name = str(error.args[0])
        raise UserError(
            f"{task.path}: prompt: the dataset has no field '{name}'{nearest(name, fields)}"
        ) from None
    except ValueError as error:
        raise UserError(f"{task.path}: prompt: {error}") from None


@functools.lru_cache(maxsize=64)
def _parts(prompt: str) -> tuple[tuple[str, Callable[[str], str] | None], ...]:
    """A prompt's pieces in order, and what is done to the field of this name, None for text. Raises
    ValueError for a lone brace."""
    found: list[tuple[str, Callable[[str], str] | None]] = []
    at = 0
    for match in re.finditer(r"\{\{|\}\}|\{([A-Za-z_]\w*)(:lower)?\}|[{}]", prompt):
        whole, name = match.group(0), match.group(1)
        if name is None and whole not in ("{{", "}}"):
            raise ValueError(f"a lone '{whole}'; write {{{{ or }}}} for a brace")
        found += [(prompt[at : match.start()], None)]
        found += [(whole[0], None) if name is None else (name, str.lower if match.group(2) else str)]
        at = match.end()
    return (*found, (prompt[at:], None))


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
    """How images are prepared: `paper` as in big_vision (per task), `hf` as in the transformers processor."""
    if protocol == "hf":
        return Preparation(
            resolution, "bicubic", True, jpeg="precise", exif="apply", pad=task.image.get("pad", "")
        )
    return Preparation(resolution, **task.image)


def text_identity(task: Task) -> dict[str, Any]:
    """The part of a task that decides the model's text.

    Metrics and parser are not in it, since scoring the same predictions in another way must not require
    new ones (the signature names both). Nor are settings without effect: those of sampling in greedy
    decoding, mode and choices where text is generated, an empty `forbid`.
    """
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
        "format": registry.identified("formats", task.data.format),
        "split": task.data.split,
        "prompt": task.prompt,
        "decode": decode,
        **({"choices": list(task.choices)} if likelihood else {}),
        **({"classes_per_call": task.classes_per_call} if task.classes_per_call is not None else {}),
        **({"class_order": task.class_order} if task.class_order != calls.ORDERS[0] else {}),
    }
