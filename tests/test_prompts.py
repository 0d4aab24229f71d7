"""The exact prompt of every task, frozen: what changes a text must change the task's version too.

After raising a version, `python tests/test_prompts.py` writes the new prompts into the file.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.tasks import loader

PLACE = Path(__file__).parent / "prompt_snapshots.json"
FIELDS = {
    "question": "What is  it? ",
    "sentence": "the left dog",
    "choices": "a \t b \t c \t d",
    "language": "sw",
    "hint": "N/A",
    "options": "(A) a, (B) b",
    "thing": "dog",
    "categories": "dog ; cat",
    "category": "dog",
    "indication": "Cough.",
    "image": "",
}


def frozen(name: str) -> dict[str, Any]:
    """What decides the text: the prompt on fixed fields, the image's preparation, decoding."""
    task = loader.load(name)
    decode = {k: v for k, v in dataclasses.asdict(task.decode).items() if v not in (None, False, ())}
    decode |= {"forbid": list(task.decode.forbid)} if task.decode.forbid else {}
    return {
        "version": task.version,
        "prompt": loader.prompt(task, FIELDS),
        "image": dict(task.image),
        "decode": {
            k: decode[k]
            for k in ("text_length", "max_new_tokens", "beams", "logprobs", "forbid")
            if k in decode
        },
    }


@pytest.mark.parametrize("name", loader.names())
def test_prompt_is_as_frozen(name: str) -> None:
    known = json.loads(PLACE.read_text(encoding="utf-8"))
    assert name in known, f"{name} is new: python tests/test_prompts.py"
    now, before = frozen(name), known[name]
    if now == before:
        return
    assert now["version"] > before["version"], f"tasks/{name}.yaml: changed, so raise its version"
    pytest.fail(f"{name}: version {now['version']} is not frozen yet: python tests/test_prompts.py")


def test_no_prompt_is_frozen_without_a_task() -> None:
    assert set(json.loads(PLACE.read_text(encoding="utf-8"))) == set(loader.names())


if __name__ == "__main__":
    everything = {name: frozen(name) for name in loader.names()}
    PLACE.write_text(json.dumps(everything, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
