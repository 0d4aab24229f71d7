"""examples/export_npz.py: a tree of parameters, as a JAX loop holds it, is evaluated like its checkpoint."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from big_vision_files import arrays, bfloat16
from stub import colours

import evalkit

SAVE = runpy.run_path(str(Path(__file__).parent.parent / "examples" / "export_npz.py"))["save"]


def tree(flat: dict[str, np.ndarray]) -> dict[str, Any]:
    """Nested dicts, as Flax keeps parameters."""
    made: dict[str, Any] = {}
    for name, array in flat.items():
        *above, last = name.split("/")
        place = made
        for part in above:
            place = place.setdefault(part, {})
        place[last] = array
    return made


def answers(model: Path, out: Path, task: Path, **more: Any) -> list[str]:
    options = {"output_path": out, "data_root": task.parent, "dtype": "float32", "limit": 2, **more}
    (run,) = evalkit.run(str(model), str(task), **options)
    return [entry.prediction.text for _, entry in sorted(run.folder.entries().items())]


def test_a_saved_tree_gives_the_texts_of_its_checkpoint(tmp_path: Path) -> None:
    folder = tiny.checkpoint(1)
    task = colours(tmp_path / "data", images=4)
    file = tmp_path / "step-500.npz"
    SAVE(file, tree(arrays(folder)))
    assert [p.name for p in tmp_path.glob("*.npz*")] == [file.name], "nothing half-written stays"
    given = answers(file, tmp_path / "a", task, tokenizer=str(folder))
    assert given == answers(folder, tmp_path / "b", task)
    assert len(given) > 0


@pytest.mark.parametrize("kind", ["as JAX has it", "as float32"])
def test_a_tree_in_bfloat16_is_saved_as_it_is(kind: str, tmp_path: Path) -> None:
    flat = arrays(tiny.checkpoint(1))
    change = bfloat16 if kind == "as JAX has it" else np.asarray
    SAVE(tmp_path / "a.npz", tree({k: change(v) for k, v in flat.items()}))
    with np.load(tmp_path / "a.npz") as kept:
        assert set(kept) == {f"params/{k}" for k in flat}
        assert all(kept[f"params/{k}"].tobytes() == change(v).tobytes() for k, v in flat.items())
