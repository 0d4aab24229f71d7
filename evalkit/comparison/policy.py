"""The gate's policy: `gate.yaml`, or one made in Python."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit import strict_yaml
from evalkit.comparison.compare import MARGIN
from evalkit.errors import UserError, nearest
from evalkit.geometry.boxes import STEPS

LEVELS = ("off", "warn", "fail")


@dataclass(frozen=True)
class TaskPolicy:
    """What differs for one task: its margin, or the metric to use instead of the first."""

    margin: float | None = None
    metric: str | None = None


@dataclass(frozen=True)
class Policy:
    """`gate.yaml`: how much worse is accepted; whether groups, invalid answers, boxes, speed warn or fail."""

    margin: float = MARGIN
    tasks: Mapping[str, TaskPolicy] = field(default_factory=dict)
    groups: str = "warn"  # a group of 50 or more samples surely beyond the margin
    invalid: str = "warn"  # the share of unreadable answers rose by more than `invalid_margin`
    invalid_margin: float = 0.01
    offset: str = "fail"  # boxes moved, all one way, by more than `offset_margin` steps of 1,024
    offset_margin: float = 0.5
    speed: str = "warn"  # seconds per sample grew by more than `speed_margin`, on the same device
    speed_margin: float = 0.2

    def of(self, task: str) -> TaskPolicy:
        return self.tasks.get(task, TaskPolicy())

    def margin_of(self, task: str) -> float:
        own = self.of(task).margin
        return self.margin if own is None else own


def read_policy(path: Path) -> Policy:
    """The policy in a gate.yaml. Raises UserError for unknown keys, wrong types and YAML tags."""
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file; a policy is a YAML file such as `margin: 0.02`")
    content = strict_yaml.read(path)
    known = dict.fromkeys(Policy.__dataclass_fields__)
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key not in known:
            raise UserError(f"{path}: {key}: unknown key{nearest(str(key), known)}")
        if key == "tasks":
            values[key] = _task_policies(path, value)
        elif key in ("groups", "invalid", "offset", "speed"):
            if value is False:  # YAML 1.1 reads a bare `off` as false
                value = "off"
            if value not in LEVELS:
                raise UserError(f"{path}: {key}: is {value!r}; it must be one of {', '.join(LEVELS)}")
            values[key] = value
        elif key == "offset_margin":
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < STEPS:
                raise UserError(
                    f"{path}: {key}: is {value!r}; it must be a number of steps (an image has 1,024)"
                )
            values[key] = float(value)
        else:
            values[key] = _share(path, key, value)
    return Policy(**values)


def know(policy: Policy, tasks: Collection[str]) -> None:
    """Raises UserError where the policy names a task that is not among the baseline's `tasks`."""
    for name in policy.tasks:
        if name not in tasks:
            raise UserError(f"policy: tasks.{name}: the baseline has no such task{nearest(name, tasks)}")


def _task_policies(path: Path, value: Any) -> dict[str, TaskPolicy]:
    if not isinstance(value, dict):
        raise UserError(f"{path}: tasks: is {value!r}; it must be like {{vqav2_val: {{margin: 0.02}}}}")
    found = {}
    for task, own in value.items():
        if not isinstance(own, dict):
            raise UserError(f"{path}: tasks.{task}: is {own!r}; it must be like {{margin: 0.02}}")
        for key in own:
            if key not in ("margin", "metric"):
                raise UserError(
                    f"{path}: tasks.{task}.{key}: unknown key{nearest(str(key), ('margin', 'metric'))}"
                )
        margin = _share(path, f"tasks.{task}.margin", own["margin"]) if "margin" in own else None
        metric = own.get("metric")
        if metric is not None and not isinstance(metric, str):
            raise UserError(
                f"{path}: tasks.{task}.metric: is {metric!r}; it must be a metric as written in the task"
            )
        found[str(task)] = TaskPolicy(margin, metric)
    return found


def _share(path: Path, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise UserError(
            f"{path}: {key}: is {value!r}; it must be a number between 0 and 1 (one point is 0.01)"
        )
    return float(value)
