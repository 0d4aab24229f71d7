"""What a fine-tune lost against its base: the tasks' kinds, the order, JSON and Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stub import colours
from stub_runs import go, wrong_at

import evalkit
from evalkit.cli.main import main

LEVELS = {
    "own_test": (0.6, 0.05),
    "general_test": (0.05, 0.5),
    "same_test": (0.1, 0.1),
    "few_test": (0.1, 0.4),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four tasks: one that was tuned for, one that was lost, one that is the same, one too small."""
    folder = tmp_path_factory.mktemp("forgetting")
    for name, (before, after) in LEVELS.items():
        file = colours(folder / name, images=5 if name == "few_test" else 40)
        task = file.rename(file.with_name(f"{name}.yaml"))
        go(task, folder / "base", "base", wrong_at(before))
        go(task, folder / "tuned", "tuned", wrong_at(after))
    return folder


def test_the_worst_comes_first(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(runs / "tuned"), "--forgetting", str(runs / "base")]) == 0
    said = capsys.readouterr().out
    head = said.splitlines()
    assert head[0].startswith("tuned against its base base: 1 of 4 tasks forgotten: general_test -")
    assert "kept within 1: same_test" in head
    assert any(line.startswith("gained: own_test +") for line in head)
    assert any(line.startswith("open, a loss of more than 1 is possible: few_test (up to ") for line in head)
    table = said[said.index("A base    B tuned") :]
    places = [table.index(f"\n{name}") for name in ("general_test", "same_test", "own_test")]
    assert places == sorted(places)


def test_json_and_python_say_the_same(runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "lost.json"
    assert (
        main(["compare", str(runs / "tuned"), "--forgetting", str(runs / "base"), "--json", str(file)]) == 0
    )
    told = json.loads(file.read_text())
    expected = {"forgotten": ["general_test"], "kept": ["same_test"], "gained": ["own_test"],
                "open": ["few_test"], "not scored": []}  # fmt: skip
    assert told["forgetting"] == {"tuned": expected}
    found = evalkit.compare(runs / "tuned", forgetting=runs / "base")
    assert found.to_dict()["forgetting"] == {"tuned": expected}
    assert str(found).startswith("tuned against its base base: 1 of 4 tasks forgotten")
    assert "forgotten" not in str(evalkit.compare(runs / "base", runs / "tuned"))


def test_without_a_base_it_is_the_comparison_as_it_was(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(runs / "base"), str(runs / "tuned")]) == 0
    assert "forgotten" not in capsys.readouterr().out
    assert main(["compare", str(runs / "tuned"), "--forgetting", str(runs / "none")]) == 2
    assert "none" in capsys.readouterr().err
