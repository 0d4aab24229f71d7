"""The rules of the house as tests: import rows, who writes, what is heavy, names, sizes (as warnings)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "evalkit"
ROWS: list[set[str]] = [
    {"__init__", "errors"},
    {"types", "members"},
    {
        "lookup",
        "mistyped",
        "strict_yaml",
        "significance",
        "intervals",
        "results",
        "sources",
        "lexer",
        "drawing",
        "vqa_text",
        "geometry",
        "locations",
        "edits",
        "tree_edits",
        "html_tree",
        "polygons",
        "versions",
        "accepted",
        "resizing",
    },
    {
        "image_cache",
        "masks",
        "pickles",
        "records",
        "hub_rows",
        "ptb_rules",
        "paired",
        "sequential",
        "artefacts",
        "pages",
    },
    {"images", "ptb", "flat", "published"},
    {"captions", "counts"},
    {"formats", "parsers", "metrics", "models"},
    {"task_file"},
    {"tasks"},
    {"scoring", "planning"},
    {"estimate"},
    {"runner"},
    {"baseline"},
    {"compare", "early"},
    {"gate", "leaderboard", "ranks"},
    {"means", "report", "watch", "layouts", "demo", "terminal", "asking", "ci", "tables", "trackers"},
    {"comparing", "doctor", "yardstick", "export"},
    {"commands"},
    {"checking", "looking", "exporting"},
    {"watching"},
    {"judging"},
    {"cli"},
    {"api"},
    {"__main__"},
]
ROW = {name: i for i, names in enumerate(ROWS) for name in names}
# sources: the cache of digests, which may be lost at any time; spice: what it hands to its Java program
WRITERS = {"results.py", "sources.py", "spice.py"}
FORBIDDEN_NAMES = {"utils.py", "common.py", "helpers.py", "misc.py"}
HEAVY = {"torch", "transformers", "datasets", "scipy", "pandas", "lxml", "rapidfuzz", "shapely"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def place(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> Iterator[str]:
    """Every evalkit module imported anywhere in the file, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (
                f"{node.module}.{a.name}" if node.module == "evalkit" else node.module for a in node.names
            )
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_from_lower_rows(path: Path) -> None:
    mine = place(path)
    assert mine in ROW, f"{path.name} stands in no row; add it to ROWS with a thought"
    for name in imports(path):
        if not name.startswith("evalkit."):
            continue
        other = name.split(".")[1]
        if other == "__version__" or (path.name == "__init__.py" and mine == "__init__"):
            continue
        if other == mine:
            room = path.relative_to(PACKAGE).parts
            if len(room) > 1 and mine in ("formats", "parsers", "metrics"):
                pytest.fail(f"{path.name} imports {name}: files of one room don't import each other")
            continue
        allowed = ROW[other] < ROW[mine]
        assert allowed, f"{path.relative_to(ROOT)} (row {ROW[mine]}) imports {other} (row {ROW[other]})"


def test_no_dumping_grounds() -> None:
    assert [p for p in MODULES if p.name in FORBIDDEN_NAMES] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_torch_only_where_it_belongs(path: Path) -> None:
    if place(path) in ("models", "masks", "demo"):
        return
    heavy = {n.split(".")[0] for n in imports(path)} & {"torch", "transformers"}
    assert not heavy, f"{path.name} imports {heavy}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_writers_write(path: Path) -> None:
    if path.name in WRITERS or place(path) == "demo":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        assert name not in ("write_text", "write_bytes"), (
            f"{path.name}:{node.lineno} writes; use results.atomic_write"
        )
        if name == "open":
            texts = [
                a.value
                for a in [*node.args, *(k.value for k in node.keywords)]
                if isinstance(a, ast.Constant)
            ]
            assert not {"w", "wb", "a", "ab", "x"} & set(map(str, texts)), f"{path.name}:{node.lineno} writes"


@pytest.mark.parametrize(
    "command", [["--help"], ["list", "tasks"], ["list", "metrics"], ["list", "models"], ["published"]]
)
def test_light_commands_import_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys\nfrom evalkit.cli import main\n"
        f"try:\n    main({command!r})\nexcept SystemExit:\n    pass\n"
        f"found = sorted({HEAVY!r} & set(sys.modules))\n"
        "sys.exit('heavy: ' + ', '.join(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_only_the_rooms_know_a_data_set() -> None:
    """No code elsewhere has a data set's name: what is known of one is in its YAML or under results/.

    Sentences for people may name one; `vqa_text` is what several metrics share, dialects by their origin.
    """
    of_files = {path.stem.partition("_")[0].lower() for path in (ROOT / "tasks").glob("*.yaml")} - {"custom"}
    assert "docvqa" in of_files
    found = []
    for path in MODULES:
        if place(path) in {"formats", "parsers", "metrics", "demo", "export", "vqa_text"}:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
                named = of_files & set(re.findall(r"[a-z0-9]+", node.value.lower()))
                found += [f"{path.relative_to(ROOT)}:{node.lineno} names {name}" for name in named]
    assert found == []


def test_sizes_are_watched() -> None:
    for path in MODULES:
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > 400:
            warnings.warn(f"{path.relative_to(ROOT)}: {lines} lines", stacklevel=1)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                if size > 60:
                    warnings.warn(f"{path.relative_to(ROOT)}: {node.name}: {size} lines", stacklevel=1)


def test_every_module_says_what_it_is() -> None:
    for path in MODULES:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path.name} has no docstring"


def test_every_package_goes_into_the_wheel() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {".".join(p.parent.relative_to(ROOT).parts) for p in PACKAGE.rglob("__init__.py")}
    assert found | {"evalkit._tasks", "evalkit._tasks.suites", "evalkit._results"} == listed
