"""The embedded checkpoints judged: who is better on every task, what the gate says. A few scenes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit.cli.main import main
from evalkit.comparison import gate
from evalkit.comparison.compare import compare, sides
from evalkit.comparison.policy import Policy
from evalkit.demo import ASSETS
from evalkit.runs import scored_run

pytestmark = pytest.mark.skipif(
    not (ASSETS / "later.safetensors").is_file(), reason="the demo checkpoints are not here"
)
SCENES = os.environ.get("EVALKIT_DEMO_SCENES", "24")  # 300 is the whole benchmark


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    tasks = "shapes_vqa_test,shapes_detect_test,shapes_refer_test"
    words = ["run", "--model", "demo:earlier", "--model", "demo:later", "--tasks", tasks, "--limit", SCENES]
    assert main([*words, "--output-path", str(out)]) == 0
    return out


def of(runs: Path, name: str) -> list[scored_run.ScoredRun]:
    return [r for r in scored_run.read(runs) if r.name == f"demo-{name}"]


def test_the_later_checkpoint_is_better_everywhere(runs: Path) -> None:
    earlier, later = sides([(str(runs), scored_run.read(runs))])
    assert (earlier.name, later.name) == ("demo-earlier", "demo-later")
    found = compare(earlier, later)
    assert [t.outcome for t in found.tasks] == ["won"] * 3


def test_the_gate_passes_itself_and_fails_the_earlier(runs: Path, tmp_path: Path) -> None:
    later = tmp_path / "later.json.gz"
    scored_run.save(of(runs, "later"), later)
    assert gate.check(of(runs, "later"), scored_run.read(later)).exit_status == 0
    assert gate.check(of(runs, "earlier"), scored_run.read(later)).exit_status == 1


def test_a_small_damage_on_few_scenes_can_not_be_told(runs: Path) -> None:
    """About two points worse by zeroed rows, margin .02: inconclusive, with a number that decides."""
    later = of(runs, "later")
    worse = []
    for run in later:
        rows = {m: list(r) if isinstance(r, list) else r.copy() for m, r in run.rows.items()}
        for r in rows.values():
            if not isinstance(r, list):
                r[::50, 0] = 0
        other = {**run.identity, "model": {"weights": "damaged"}}
        worse.append(replace(run, rows=rows, identity=other))
    found = gate.check(worse, later, Policy(margin=0.02))
    assert found.exit_status == 3
    assert any("samples would decide" in t.why or "too close" in t.why for t in found.tasks)
