"""Facts about the published evaluations other than their numbers: `results/artefacts.yaml`, read strictly.

The file names tasks by patterns. Reads no runs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from evalkit import strict_yaml
from evalkit.files import shipped

_KEYS: strict_yaml.Schema = {
    "beams": (int, False),
    "fine_tune": (str, False),
    "reported_on": (str, False),
    "known": (str, False),
}


def folder() -> Path:
    """Where the published numbers and these facts are."""
    return shipped("results")


@functools.cache
def load() -> dict[str, dict[str, Any]]:
    """Pattern of task names to its facts. Raises UserError for unknown keys and wrong values."""
    shown = "results/artefacts.yaml"
    content = strict_yaml.read(folder() / "artefacts.yaml", shown)
    strict_yaml.check_keys(shown, "", content, dict.fromkeys(content, (dict, False)))
    for pattern, facts in content.items():
        strict_yaml.check_keys(shown, f"{pattern}: ", facts, _KEYS)
    return content


def _facts(task: str, key: str) -> Iterator[Any]:
    return (facts[key] for pattern, facts in load().items() if key in facts and fnmatchcase(task, pattern))


def known(task: str) -> list[str]:
    """Why a correct evaluation may differ from a task's published number."""
    return list(_facts(task, "known"))


def beams(task: str) -> int:
    """The beam width of the published number; 1 is greedy."""
    return next(_facts(task, "beams"), 1)


def fine_tune(task: str) -> str:
    """The released fine-tune for the task, without hyphens, where its name differs from the task's; or ''."""
    return next(_facts(task, "fine_tune"), "")


def reported_on(task: str) -> str:
    """The test-set task that the first paper reports instead, since it trained on this split too; or ''."""
    return next(_facts(task, "reported_on"), "")
