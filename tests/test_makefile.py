"""`make demo`: which torch is installed, when the environment is made anew; a program stands in for pip."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAM = """#!/bin/sh
echo "$@" >> {log}
if [ "$1 $2" = "-m venv" ]; then
    for last; do :; done
    mkdir -p "$last/bin"
    cp "$0" "$last/bin/python"
    printf '#!/bin/sh\\n' > "$last/bin/evalkit"
    chmod +x "$last/bin/evalkit"
fi
"""


@pytest.fixture
def python(tmp_path: Path) -> Path:
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    path = tmp_path / "python"
    path.write_text(PROGRAM.format(log=tmp_path / "log"))
    path.chmod(0o755)
    return path


def made(python: Path, *words: str, target: str = "demo") -> list[str]:
    """What Python was asked for by `make demo`, or another target."""
    log = python.parent / "log"
    log.write_text("")
    subprocess.run(
        ["make", target, f"PYTHON={python}", f"VENV={python.parent / 'venv'}", *words],
        cwd=ROOT, check=True, capture_output=True, env={"PATH": "/usr/bin:/bin:/usr/local/bin"},
    )  # fmt: skip
    return [line for line in log.read_text().splitlines() if not line.startswith("-c ")]


def torch(asked: list[str]) -> list[str]:
    """The index that torch was installed from, each time; '' is PyPI."""
    return [line.partition("--index-url ")[2] for line in asked if " torch==" in f" {line}"]


def test_a_first_run_takes_what_is_asked_for(python: Path) -> None:
    asked = made(python)
    assert torch(asked) == [""]
    assert len([line for line in asked if line.startswith("-m venv")]) == 1
    assert made(python) == []  # nothing to do


def test_the_demo_installs_nothing_that_only_tests_need(python: Path) -> None:
    assert not any("[dev]" in line for line in made(python))
    tests = made(python, target="install")
    assert torch(tests) == []  # the demo's environment is built upon
    assert [line for line in tests if "[dev]" in line]
    assert made(python, target="install") == []
    assert [
        line
        for line in made(python, "TORCH_INDEX=https://example.org/cpu", target="install")
        if "[dev]" in line
    ]


def test_another_torch_after_a_first_run(python: Path) -> None:
    made(python)
    (python.parent / "venv/old").touch()
    assert torch(made(python, "TORCH_INDEX=https://example.org/cpu")) == ["https://example.org/cpu"]
    assert not (python.parent / "venv/old").exists()  # pip would take the torch of the same version for it
    assert made(python, "TORCH_INDEX=https://example.org/cpu") == []
    assert made(python) == []  # nothing asked for: it stays
    assert torch(made(python, "TORCH_INDEX=https://example.org/cuda")) == ["https://example.org/cuda"]
    asked = made(python, "SYSTEM_TORCH=1")
    assert torch(asked) == []
    assert "--system-site-packages" in asked[0]
    assert made(python, "SYSTEM_TORCH=1") == []


def test_new_pins_are_installed_from_where_torch_was(python: Path) -> None:
    made(python, "TORCH_INDEX=https://example.org/cpu")
    stamp = python.parent / "venv/.installed"
    subprocess.run(["touch", "-d", "2000-01-01", str(stamp)], check=True)
    assert torch(made(python)) == ["https://example.org/cpu"]


def test_a_folder_that_is_no_environment_of_ours_stays(python: Path) -> None:
    (python.parent / "venv").mkdir()
    (python.parent / "venv/mine").touch()
    made(python, "TORCH_INDEX=https://example.org/cpu")
    assert (python.parent / "venv/mine").exists()
