"""What to call the models of runs where one name stands for several: by what distinguishes them, no more.

A column of a table, and a side of a comparison, is one checkpoint run in one way, over all its tasks.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from evalkit.types import as_trained

# Keys of an identity's `model` that say how weights were run; all others say which weights.
WAYS = (
    "backend",
    "text_version",
    "dtype",
    "kv_dtype",
    "attention",
    "quantisation",
    "stable",
    "compiled",
    "conventions",
)


@dataclass(frozen=True)
class Named:
    """A run as far as its model's name goes."""

    model: str
    task: str
    digest: str
    identity: Mapping[str, Any]
    overrides: Mapping[str, str] = field(default_factory=dict)
    place: str = ""  # the checkpoint's folder
    task_file: str = ""
    data: str = ""  # the data root that was read
    folder: str = ""  # the run's

    @classmethod
    def of_run(cls, run: Mapping[str, Any], folder: PurePath | None = None) -> Named:
        """From the content of run.json."""
        file, session = run.get("task_file", {}), (run.get("sessions") or [{}])[-1]
        return cls(
            run["model"],
            run["task"],
            run["digest"],
            run.get("identity", {}),
            file.get("overrides", {}),
            str(session.get("path") or session.get("model") or ""),
            str(file.get("path") or ""),
            str(run.get("source", {}).get("root") or ""),
            str(folder or ""),
        )

    @property
    def resolution(self) -> int | None:
        found = self.identity.get("preparation", {}).get("resolution")
        return found if isinstance(found, int) else None

    @functools.cached_property
    def way(self) -> str:
        """The model as it was run. Without the protocol's rules: a task chooses its protocol."""
        return _text({k: v for k, v in self._model.items() if k != "protocol"})

    @functools.cached_property
    def weights(self) -> str:
        """Which weights, however they were run."""
        return _text({k: v for k, v in self._model.items() if k not in (*WAYS, "protocol")})

    @property
    def _model(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.identity.get("model", {})
        return found

    def of_model(self) -> dict[str, str]:
        """How the model was run, in words by what they are about; '' for what is usual."""
        model = self._model
        stable, kv = model.get("stable"), model.get("kv_dtype")
        return {
            "dtype": str(model.get("dtype") or ""),
            "quantisation": _quantised(model.get("quantisation") or {}),
            "kv_dtype": f"kv {kv}" if kv not in (None, model.get("dtype")) else "",
            "backend": str(model.get("backend") or "").removeprefix("paligemma-"),
            "compiled": "compiled" if model.get("compiled") else "",
            "stable": f"stable {stable:g}" if isinstance(stable, float) else "",
            "conventions": as_trained(model.get("conventions") or {}),
            "text_version": f"text version {model.get('text_version')}",
        }

    def of_task(self) -> dict[str, str]:
        """How the task was run, in words by what they are about; '' for what is usual."""
        return {
            "protocol": str(self.identity.get("protocol") or ""),
            **{key: f"{key}={value}" for key, value in self.overrides.items()},
            "task_file": self.task_file,
            "data": self.data and f"data {self.data}",
        }


def adapter(run: Mapping[str, Any]) -> str:
    """How the run's adapter was run: `as trained (bitsandbytes-nf4 base, unmerged)` or `merged into float`;
    '' without one."""
    model = run.get("identity", {}).get("model", {})
    weights, said = model.get("weights"), model.get("quantisation") or {}
    if not isinstance(weights, Mapping) or not any(name.startswith("adapter/") for name in weights):
        return ""
    return f"as trained ({said['scheme']} base, unmerged)" if said.get("adapter") else "merged into float"


def labels(runs: Sequence[Named]) -> list[str]:
    """What to call each run's model: its name, where that stands for one checkpoint run in one way.

    Equal names of other weights get their parent folders (`runA/checkpoint-200`). Other ways of running
    follow in brackets (`3b [bfloat16]`), those of a task only where a task was run twice. A digest stands
    where nothing else distinguishes two, or a folder where even that is one.
    """
    found = [run.model for run in runs]
    for same in _together((run.model, run.resolution) for run in runs):
        some = [runs[i] for i in same]
        names = _in_folders([r.model for r in some], some)
        names = _said(names, some, Named.of_model, lambda r: ())
        for column in _together(zip(names, (r.way for r in some), strict=True)):
            inner = [some[k] for k in column]
            apart = _said([names[k] for k in column], inner, Named.of_task, lambda r: r.task)
            for k, label in zip(column, apart, strict=True):
                names[k] = label
        for i, label in zip(same, _certain(names, some), strict=True):
            found[i] = label
    return found


def _quantised(said: Mapping[str, Any]) -> str:
    """`bitsandbytes-nf4 expanded`: the scheme, and whether its codes were run as floats."""
    return " ".join([str(said.get("scheme") or ""), *(["expanded"] if said.get("expanded") else [])])


def _in_folders(names: list[str], runs: Sequence[Named]) -> list[str]:
    """The names of equally called checkpoints with as many parent folders as distinguish them."""
    places = {run.weights: PurePath(run.place).parts[:-1] for run in runs}
    if len(places) < 2 or not all(places.values()):
        return names
    for depth in range(1, 1 + max(map(len, places.values()))):
        heads = {weights: "/".join(parts[-depth:]) for weights, parts in places.items()}
        if len(set(heads.values())) == len(places):
            return [f"{heads[run.weights]}/{name}" for name, run in zip(names, runs, strict=True)]
    return names


def _said(
    names: list[str],
    runs: Sequence[Named],
    facts: Callable[[Named], Mapping[str, str]],
    within: Callable[[Named], Hashable],
) -> list[str]:
    """The names with those facts in brackets that tell runs alike in `within` apart."""
    known = [facts(run) for run in runs]
    parts: list[list[str]] = [[] for _ in runs]
    for key in dict.fromkeys(k for one in known for k in one):
        values = [one.get(key, "") for one in known]
        groups = [{values[i] for i in group} for group in _together(map(within, runs))]
        apart = set().union(*(group for group in groups if len(group) > 1))
        for mine, value in zip(parts, values, strict=True):
            mine += [value] if value in apart and value else []
    return [_bracketed(name, mine) for name, mine in zip(names, parts, strict=True)]


def _certain(names: list[str], runs: Sequence[Named]) -> list[str]:
    """The names, with a digest where two ways of a model, or two runs of a task, still have the same."""
    found = list(names)
    for column in _together(names):
        some = [runs[i] for i in column]
        if len({r.way for r in some}) > 1:
            for i, run in zip(column, some, strict=True):
                found[i] = _bracketed(names[i], [hashlib.sha256(run.way.encode()).hexdigest()[:6]])
        for task in _together((r.task, r.way) for r in some):
            for k, parts in zip(task, _apart([some[k] for k in task]), strict=True):
                found[column[k]] = _bracketed(found[column[k]], parts)
    return found


def _apart(runs: Sequence[Named]) -> list[list[str]]:
    """What tells runs of one task and way apart: their digests, and of one digest in several folders (one was
    copied and gone on with) where they lie."""
    found: list[list[str]] = [[] for _ in runs]
    twins = _together(r.digest for r in runs)
    for group in twins:
        places = [PurePath(runs[i].folder) for i in group]
        named = len({place.name for place in places}) > 1
        for i, place in zip(group, places, strict=True):
            found[i] += [runs[i].digest[:6]] if len(twins) > 1 else []
            if len(set(places)) > 1:
                found[i].append(place.name if named else str(place.parent))
    return found


def _bracketed(name: str, parts: Sequence[str]) -> str:
    """`name [a, b]`, or `name [x, a, b]` where it has brackets already."""
    if not parts:
        return name
    return f"{name[:-1]}, {', '.join(parts)}]" if name.endswith("]") else f"{name} [{', '.join(parts)}]"


def _together(keys: Iterable[Hashable]) -> list[list[int]]:
    """The positions of equal keys, together, in order of their first."""
    found: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        found.setdefault(key, []).append(i)
    return list(found.values())


def _text(content: Any) -> str:
    return json.dumps(content, sort_keys=True)
