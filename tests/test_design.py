"""The house as tests: its floors and who may import whom, who writes, what is heavy, names, sizes."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "evalkit"
# From top to bottom. A package or file imports only from floors below its own; what shares a floor is apart.
FLOORS: list[set[str]] = [
    {"__main__", "training"},
    {"cli", "api"},
    {"exports", "viewer"},
    {"report", "evaluation"},
    {"comparison", "tasks", "models", "trackers"},
    {"formats", "parsers", "metrics", "runs"},
    {"images"},
    {"data", "geometry", "stats", "published", "registry", "reading", "demo"},
    {"text", "files", "strict_yaml", "own_code", "options", "conventions"},
    {"types", "hints", "imports", "printing", "door"},
    {"errors", "provenance", "opened", "collecting", "__init__"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
APART = {"formats", "parsers", "metrics"}  # one class a file, and no file imports another of its room
TORCH = {"models", "demo", "geometry/mask_decoder", "training"}  # training: whoever asks for it has torch
# files: whole or not at all, and caches that may be lost; journal: answers; spice: its Java program's input
WRITERS = {"files.py", "runs/journal.py", "metrics/spice.py"}
FORBIDDEN_NAMES = {"utils.py", "common.py", "helpers.py", "misc.py"}
HEAVY = {"matplotlib", "torch", "transformers", "datasets", "scipy", "pandas", "lxml", "shapely", "rapidfuzz"}
MODULES = sorted(PACKAGE.rglob("*.py"))


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def inside(path: Path) -> str:
    """`cli/run` of `evalkit/cli/run.py`."""
    return str(path.relative_to(PACKAGE).with_suffix(""))


def room(path: Path) -> str:
    return inside(path).partition("/")[0]


def imports(path: Path) -> Iterator[str]:
    """Every module imported anywhere in the file, as dotted names."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if (ROOT / f"{whole.replace('.', '/')}.py").is_file() else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_imports_run_downward() -> None:
    found = []
    for path in MODULES:
        mine = room(path)
        assert mine in FLOOR, f"{inside(path)} has no floor; give it one in FLOORS, with a thought"
        for name in imports(path):
            other = name.removeprefix("evalkit.").partition(".")[0]
            if not name.startswith("evalkit.") or inside(path) == "__init__":
                continue
            if other == mine and mine in APART:
                found.append(f"{inside(path)} imports {name}: files of one room don't import each other")
            elif other != mine and FLOOR[other] <= FLOOR[mine]:
                found.append(f"{inside(path)} imports {name}, which is not below it")
    assert found == []


def test_no_two_files_import_each_other_in_a_circle() -> None:
    """Imports for annotations alone (`if TYPE_CHECKING`) count too."""
    known = {"evalkit." + inside(p).replace("/", "."): p for p in MODULES}
    below = {name: {n for n in imports(path) if n in known and n != name} for name, path in known.items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for other in below[name]:
                visit(other, (*way, name))
            done.add(name)

    for name in known:
        visit(name, ())


def test_no_dumping_grounds() -> None:
    assert [p for p in MODULES if p.name in FORBIDDEN_NAMES] == []


def test_torch_only_where_it_belongs() -> None:
    elsewhere = [p for p in MODULES if room(p) not in TORCH and inside(p) not in TORCH]
    heavy = {inside(p): {n.split(".")[0] for n in imports(p)} & {"torch", "transformers"} for p in elsewhere}
    assert {name: found for name, found in heavy.items() if found} == {}


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call))


def test_only_the_writers_write() -> None:
    found = []
    for path in MODULES:
        if str(path.relative_to(PACKAGE)) in WRITERS or room(path) == "demo":
            continue
        for call in calls(path):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            words = [*call.args, *(k.value for k in call.keywords)]
            modes = {str(word.value) for word in words if isinstance(word, ast.Constant)}
            writes = name == "open" and modes & {"w", "wb", "a", "ab", "x"}
            if name in ("write_text", "write_bytes") or writes:
                found.append(f"{inside(path)}:{call.lineno} writes; use files.atomic_write")
    assert found == []


def test_one_place_prints() -> None:
    """What is printed is cleaned by printing.py; the demo's training is a tool of this repository."""
    found = []
    for path in MODULES:
        if inside(path) == "printing" or inside(path).startswith("demo/training"):
            continue
        for call in calls(path):
            if ast.unparse(call.func) in ("print", "sys.stdout.write", "sys.stderr.write"):
                found.append(f"{inside(path)}:{call.lineno} prints; use printing.put or say")
    assert found == []


# texts that are hashed or compared, never written; spice: its Java program's input of texts alone
NO_FILES = {
    "comparison/alike", "comparison/trend", "evaluation/plan", "evaluation/sample_lines",
    "evaluation/score", "imports", "metrics/spice", "models/paligemma/checkpoint/info",
    "models/paligemma/checkpoint/settings", "models/paligemma/live", "report/seeds", "runs/naming",
    "runs/sealed", "tasks/dataset", "tasks/schema",
}  # fmt: skip


def test_one_writer_of_json() -> None:
    """NaN is no JSON: what is written goes through files.json_text, which writes null."""
    found = set()
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute) and node.attr in ("dump", "dumps") and room(path) != "demo":
                here = isinstance(node.value, ast.Name) and node.value.id == "json"
                found |= {inside(path)} if here else set()
    assert found <= NO_FILES | {"files", "models/module"}  # module: says allow_nan=False, and refuses


OPENS = ("read_text", "read_bytes", "open")
BY_THEMSELVES = {
    "data/containers": {"tarfile", "av", "os"}, "formats/coco35l": {"bz2"}, "images/cache": {"path"},
    "images/prepare": {"Image", ""},
}  # fmt: skip
"""Archives and videos, whose paths the door checks first; what the door has opened; our own cache."""


def test_data_is_opened_through_the_door() -> None:
    """A pipe hangs, a device never ends, and a link leads anywhere: `door` refuses them."""
    found = []
    for path in MODULES:
        if room(path) not in ("formats", "data", "images", "tasks"):
            continue
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            whose = getattr(getattr(called, "value", None), "id", "")
            bare = name == "open" or (isinstance(called, ast.Attribute) and name in OPENS)
            if bare and whose not in BY_THEMSELVES.get(inside(path), ()):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} {whose}.{name}")
    assert found == []


@pytest.mark.parametrize(
    "command",
    [["--help"], ["list", "tasks"], ["list", "metrics"], ["list", "models"], ["list", "forms"], ["published"],
     ["show", "vqav2_val"]],
)  # fmt: skip
def test_light_commands_import_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys\nfrom evalkit.cli.main import main\n"
        f"try:\n    main({command!r})\nexcept SystemExit:\n    pass\n"
        f"found = sorted({HEAVY!r} & set(sys.modules))\n"
        "sys.exit('heavy: ' + ', '.join(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_only_the_rooms_know_a_data_set() -> None:
    """No code elsewhere has a data set's name: what is known of one is in its YAML or under results/.

    Sentences for people may name one; `text/vqa` is what several metrics share, dialects by their origin, and
    a layout is called after whoever writes it.
    """
    of_files = {path.stem.partition("_")[0].lower() for path in (ROOT / "tasks").glob("*.yaml")} - {"custom"}
    assert "docvqa" in of_files
    found = []
    for path in MODULES:
        if room(path) in {*APART, "demo", "exports"} or inside(path) == "text/vqa":
            continue
        if inside(path).startswith("tasks/layouts/"):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
                named = of_files & set(re.findall(r"[a-z0-9]+", node.value.lower()))
                found += [f"{path.relative_to(ROOT)}:{node.lineno} names {name}" for name in named]
    assert found == []


def test_files_and_functions_are_short() -> None:
    """At most 400 lines a file, 60 a function: what grows longer holds two things."""
    found = []
    for path in MODULES:
        lines = path.read_text(encoding="utf-8").count("\n")
        found += [f"{inside(path)}: {lines} lines"] if lines > 400 else []
        for node in ast.walk(tree(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                found += [f"{inside(path)}: {node.name}: {size} lines"] if size > 60 else []
    assert found == []


def test_every_module_says_what_it_is() -> None:
    for path in MODULES:
        told = ast.get_docstring(tree(path))
        assert told, f"{inside(path)} has no docstring"
        assert "to be written" not in told, f"{inside(path)} has no docstring yet"


def test_every_package_goes_into_the_wheel() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {".".join(p.parent.relative_to(ROOT).parts) for p in PACKAGE.rglob("__init__.py")}
    assert found | {"evalkit._tasks", "evalkit._tasks.suites", "evalkit._results"} == listed
