"""The Python API under a user's `mypy --strict`: the example passes, and what is wrong is found."""

from __future__ import annotations

import inspect
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import evalkit

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "evaluate.py"
WRONG = """
import evalkit

evalkit.run("m", "t", limit="x")
evalkit.run("m", "t", limits=3)
evalkit.run("m", "t", dtype="bf16")
evalkit.table("results", shape="tall")
reveal_type(evalkit.run("m", "t")[0].scores)
reveal_type(evalkit.check("a", "b"))
"""


def test_a_strict_user_is_served(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    # Under the project's own settings, strict too: `make lint` has filled their cache, which saves a minute.
    done = subprocess.run(
        [sys.executable, "-m", "mypy", str(EXAMPLE), str(wrong)],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    said = [line.partition("wrong.py:")[2] for line in done.stdout.splitlines() if "wrong.py:" in line]
    assert len(said) == len(done.stdout.splitlines()) - 1 > 0, done.stdout  # nothing about the example
    assert next(line for line in said if line.startswith("4: error")).endswith('"float | None"  [arg-type]')
    assert any("5: error: Unexpected keyword argument" in line and 'mean "limit"' in line for line in said)
    assert any("6: error" in line and "'bfloat16'" in line for line in said)
    assert any("7: error" in line and "'wide'" in line for line in said)
    assert any("8: note" in line and "dict[str, evalkit.types.scores.Score]" in line for line in said)
    assert any("9: note" in line and "evalkit.comparison.gate.Decision" in line for line in said)


def test_the_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(EXAMPLE))["main"]
    assert main(["demo:earlier", "demo:later"], ["shapes_vqa_test"], tmp_path, limit=2) in (True, False)
    assert "demo-later shapes_vqa_test vqa_accuracy: " in capsys.readouterr().out
    assert (tmp_path / "leaderboard.html").read_text().startswith("<!doctype html>")


def test_help_shows_what_there_is() -> None:
    assert "limit: " in str(inspect.signature(evalkit.run))
    assert (evalkit.run.__doc__ or "").startswith("Predicts and scores tasks with models")
