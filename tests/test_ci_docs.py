"""docs/ci.md as it stands: the policy is read, the workflow and the pytest example run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import yaml
from stub import colours
from stub_runs import go, wrong_at

from evalkit.comparison.policy import read_policy
from evalkit.runs import scored_run

ROOT = Path(__file__).parent.parent


def block(page: str, title: str, language: str) -> str:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.search(rf"## {re.escape(title)}\n.*?```{language}\n(.*?)```", text, re.S)
    assert found
    return found[1]


def workflow() -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load(block("docs/ci.md", "GitHub Actions", "yaml"))
    return content


def test_the_policy_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(block("docs/ci.md", "gate.yaml", "yaml"))
    assert read_policy(path).margin_of("shapes_detect_test") == 0.03


def test_the_workflow_trusts_nobody() -> None:
    content = workflow()
    assert list(content[True]) == ["pull_request"]  # YAML 1.1 reads `on` as true
    assert content["permissions"] == {"contents": "read"}
    steps = content["jobs"]["check"]["steps"]
    assert all(("uses" in s) != ("run" in s) for s in steps)
    assert not [s for s in steps if "${{" in s.get("run", "")]  # only through env: no injection
    assert steps[0]["with"]["persist-credentials"] is False


PROGRAM = """import sys
sys.path[:0] = [{tests!r}, {root!r}]
from stub import checkpoint
from stub_runs import Weighted, wrong_at
from evalkit.cli.main import main
from evalkit.evaluation import evaluate
share, weights = float(open("model.txt").read()), "demo"
evaluate.checkpoint = lambda spec, _: checkpoint(Weighted(wrong_at(share), weights), "demo-later")
sys.exit(main())
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a committed baseline, a policy, and programs that stand in for pip and the model."""
    task = colours(tmp_path / "data", images=40)
    repo = tmp_path / "repo"
    (repo / "baselines").mkdir(parents=True)
    scored_run.save(
        scored_run.read(go(task, tmp_path / "b", "demo", wrong_at(0.1), "demo")),
        repo / "baselines/demo.json.gz",
    )
    (repo / "gate.yaml").write_text("margin: 0.02\n")
    git = ["git", "-C", str(repo), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "baseline"]):
        subprocess.run([*git, *words], check=True)
    subprocess.run([*git, "update-ref", "refs/remotes/origin/main", "HEAD"], check=True)
    (repo / "baselines/demo.json.gz").write_text("a pull request's own baseline does not count")
    programs = tmp_path / "bin"
    programs.mkdir()
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(tests=str(ROOT / "tests"), root=str(ROOT)))
    shim = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(program))} "$@"\n'
    for name, text in (("evalkit", shim), ("python", "#!/bin/sh\nexit 0\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return repo


def run_steps(repo: Path) -> tuple[int, str]:
    """The workflow's commands, as the runner's bash runs them; the first status that is not 0."""
    environment = {
        **os.environ,
        "PATH": f"{repo.parent / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "EVALKIT_TASKS": str(repo.parent / "data"),
        "EVALKIT_DATA": str(repo.parent / "data"),
        "GITHUB_STEP_SUMMARY": str(repo / "summary.md"),
    }
    out = ""
    for step in workflow()["jobs"]["check"]["steps"]:
        if "run" not in step:
            continue
        own = {k: v.replace("${{ github.base_ref }}", "main") for k, v in step.get("env", {}).items()}
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", step["run"]],
            cwd=repo, env=environment | own, capture_output=True, text=True, check=False,
        )  # fmt: skip
        out += done.stdout + done.stderr
        if done.returncode:
            return done.returncode, out
    return 0, out


def test_the_workflow_passes_and_fails(repository: Path) -> None:
    (repository / "model.txt").write_text("0.1")
    status, out = run_steps(repository)
    assert status == 0, out
    assert "same weights, all 80 texts and rows equal" in out
    assert "✅ pass" in (repository / "summary.md").read_text()
    (repository / "model.txt").write_text("0.2")
    status, out = run_steps(repository)
    assert status == 1, out
    assert "::error title=" in out
    assert ET.parse(repository / "evalkit.xml").getroot()[0].attrib["failures"] == "1"
    assert "❌ fail" in (repository / "summary.md").read_text()
    report = (repository / "evalkit.report/data/report.js").read_text("utf-8")
    assert "colours_test: check: fail: " in report
    assert "flip=0-1:lost" in report


def test_the_pytest_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = colours(tmp_path / "data", images=100)
    monkeypatch.chdir(tmp_path)
    scored_run.save(
        scored_run.read(go(task, tmp_path / "b", "demo", wrong_at(0.1))), Path("baselines/demo.json.gz")
    )
    names: dict[str, Any] = {}
    exec(block("docs/ci.md", "pytest", "python"), names)  # our own documentation
    go(task, Path("results/candidate"), "better", wrong_at(0.05))
    names["test_the_new_checkpoint_is_not_worse"]()
    shutil.rmtree("results/candidate")
    go(task, Path("results/candidate"), "worse", wrong_at(0.5))
    with pytest.raises(AssertionError):
        names["test_the_new_checkpoint_is_not_worse"]()
