"""Runs the engine's tests under several versions of torch and transformers: `make versions [ONLY=WORD]`.

A combination is a file of pins in versions/, whose first line names its Python; what it does not pin is as in
constraints.txt, and constraints.txt by itself is the last combination. Each gets a virtual environment in a
temporary folder, removed before the next one: the disk needs 8 GB, because torch is a CUDA build unless
TORCH_INDEX names another package index. A minor Python that is not found is replaced by the running one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINS = ROOT / "constraints.txt"
ENGINE = re.compile(r"^\s*(from|import) (torch|transformers|tiny)\b|models\.paligemma", re.MULTILINE)
REHEARSAL = [
    "benchmarks.gpu",
    "--rehearse",
    "--minutes",
    "60",
]  # so long that no part is cut on a slow machine
SAY = "import sys, torch as t, transformers as h; print(sys.version.split()[0], t.__version__, h.__version__)"
PYTEST = [
    "pytest",
    "-rf",
    "-p",
    "no:cacheprovider",
    "-n",
    "auto",
    "--maxprocesses",
    "8",
    "--dist",
    "loadfile",
]
COUNTS = ("passed", "failed", "skipped")


def main(words: list[str]) -> int:
    """Runs every combination, or those with one of the words in their name. 1 if anything failed."""
    files = [*sorted((ROOT / "versions").glob("*.txt"), key=_numbers), PINS]
    rows, failed = [("versions", "Python", "torch", "transformers", *COUNTS, "rehearsal")], []
    for pins in files:
        if words and not any(word in pins.stem for word in words):
            continue
        with tempfile.TemporaryDirectory(prefix="evalkit-versions-") as folder:
            row, wrong = run(pins, Path(folder))
        rows.append(row)
        failed += [f"{pins.stem}: {line}" for line in wrong]
    rows.insert(1, ("---",) * len(rows[0]))
    print("\n".join(["", *("| " + " | ".join(row) + " |" for row in rows), "", *failed]))
    return 1 if failed else 0


def _numbers(file: Path) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", file.stem)]


def run(pins: Path, folder: Path) -> tuple[tuple[str, ...], list[str]]:
    """One combination's line of the table, and what failed."""
    python = install(pins, folder)
    versions = subprocess.run([python, "-c", SAY], capture_output=True, text=True, check=True).stdout.split()
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "XDG_CACHE_HOME": str(folder / "cache"),  # nothing that another version made is used
        "TMPDIR": str(folder),
        "OMP_NUM_THREADS": "1",
    }
    tests = [str(p) for p in sorted((ROOT / "tests").glob("test_*.py")) if ENGINE.search(p.read_text())]
    told, status = show([python, "-m", *PYTEST, *tests], env)
    found = {kind: n for n, kind in re.findall(r"(\d+) (\w+)", told.rpartition("\n")[2])}
    wrong = re.findall(r"^(?:FAILED|ERROR) .*", told, re.MULTILINE)
    if status and not wrong:
        wrong = [f"pytest ended with status {status}"]
    status = show([python, "-m", *REHEARSAL, "--out", str(folder / "rehearsal")], env)[1]
    if status:
        wrong.append(f"benchmarks.gpu --rehearse ended with status {status}")
    counts = (found.get(kind, "0") for kind in COUNTS)
    return (pins.stem, *versions, *counts, "failed" if status else "passed"), wrong


def install(pins: Path, folder: Path) -> str:
    """A virtual environment with evalkit's dependencies, and none of evalkit itself; its Python."""
    own = [line for line in pins.read_text().splitlines() if line and not line.startswith("#")]
    names = {line.partition("==")[0].lower() for line in own}
    rest = [p for p in PINS.read_text().splitlines() if p.partition("==")[0].lower() not in names]
    (folder / "pins.txt").write_text("\n".join([*own, *rest]) + "\n")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    subprocess.run([interpreter(pins), "-m", "venv", folder / "env"], check=True)
    python = str(folder / "env" / "bin" / "python")
    pip = [
        python,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-compile",
        "--no-cache-dir",
        "--disable-pip-version-check",
    ]
    torch = [line for line in own if line.startswith("torch==")]
    index = os.environ.get("TORCH_INDEX")
    print(f"== {pins.stem}: installing", flush=True)
    subprocess.run([*pip, *torch, *(["--index-url", index] if index else [])], check=True)
    subprocess.run([*pip, "-c", folder / "pins.txt", *torch, *wanted], check=True)
    return python


def interpreter(pins: Path) -> str:
    """The Python that the file's first line names, or the running one."""
    said = re.match(r"# Python (3\.\d+)", pins.read_text())
    name = shutil.which(f"python{said[1]}") if said else None
    runs = name and subprocess.run([name, "-c", ""], capture_output=True, check=False).returncode == 0
    return name if name and runs else sys.executable


def show(command: list[str], env: dict[str, str]) -> tuple[str, int]:
    """Runs a command in the checkout and prints what it prints as it comes. Returns that, and its status."""
    lines = []
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return "".join(lines).strip(), running.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
